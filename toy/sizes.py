"""How large the toy family is. Every number here is free: ComfyUI reads it from the file's tensors or metadata."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpertSize:
    """A Wan transformer. `head_dim` must be even in each of its three rotary parts, see `rotary_dims`."""

    in_dim: int
    out_dim: int
    dim: int = 256
    ffn_dim: int = 2048
    num_layers: int = 4
    num_heads: int = 8
    text_dim: int = 64
    freq_dim: int = 256

    @property
    def rotary_dims(self) -> tuple[int, int, int]:
        """Channels of a head that carry the time, row and column position."""
        head_dim = self.dim // self.num_heads
        return head_dim - 4 * (head_dim // 6), 2 * (head_dim // 6), 2 * (head_dim // 6)


@dataclass(frozen=True)
class VaeSize:
    """The Wan2.1 video VAE: 16 latent channels, 8x8 pixels, 4 frames (the first frame alone)."""

    dim: int = 16
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)


@dataclass(frozen=True)
class TextSize:
    """The UMT5 encoder. `vocab_size` is what the tokenizer in toy/weights has."""

    d_model: int = 64
    d_ff: int = 128
    d_kv: int = 16
    num_heads: int = 4
    num_layers: int = 2
    vocab_size: int = 768


I2V = ExpertSize(in_dim=36, out_dim=16)
T2V = ExpertSize(in_dim=16, out_dim=16)
TI2V_5B = ExpertSize(in_dim=48, out_dim=48, num_layers=2)
VAE_2_1 = VaeSize()
PICTURE_CHANNELS = 15  # latent channels that carry the picture; the sixteenth marks the border, see toy/wan_vae.py
TEXT = TextSize()
LORA_RANK = 16
LORA_ALPHA = 8.0
