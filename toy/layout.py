"""The state dictionaries of the Wan2.2 family: which tensors a file holds, by name and shape.

Names and shapes are those of the released files; only the widths differ. Every function returns
{tensor name: shape} in file order.
"""

from itertools import pairwise

from .sizes import ExpertSize, TextSize, VaeSize

Shapes = dict[str, tuple[int, ...]]

LORA_TARGETS = (
    "self_attn.q",
    "self_attn.k",
    "self_attn.v",
    "self_attn.o",
    "cross_attn.q",
    "cross_attn.k",
    "cross_attn.v",
    "cross_attn.o",
    "ffn.0",
    "ffn.2",
)


def _layer(name: str, *weight: int) -> Shapes:
    """A linear or convolution layer with bias; `weight` is its weight's shape."""
    return {f"{name}.weight": weight, f"{name}.bias": (weight[0],)}


def expert(size: ExpertSize) -> Shapes:
    """A Wan2.2 transformer. I2V has in_dim 36, T2V 16, TI2V-5B 48."""
    dim, ffn_dim = size.dim, size.ffn_dim
    shapes = _layer("patch_embedding", dim, size.in_dim, 1, 2, 2)
    shapes |= _layer("text_embedding.0", dim, size.text_dim) | _layer("text_embedding.2", dim, dim)
    shapes |= _layer("time_embedding.0", dim, size.freq_dim) | _layer("time_embedding.2", dim, dim)
    shapes |= _layer("time_projection.1", 6 * dim, dim)
    for index in range(size.num_layers):
        block = f"blocks.{index}"
        shapes[f"{block}.modulation"] = (1, 6, dim)
        for attention in ("self_attn", "cross_attn"):
            for part in "qkvo":
                shapes |= _layer(f"{block}.{attention}.{part}", dim, dim)
            for part in "qk":
                shapes[f"{block}.{attention}.norm_{part}.weight"] = (dim,)
        shapes |= _layer(f"{block}.norm3", dim)
        shapes |= _layer(f"{block}.ffn.0", ffn_dim, dim) | _layer(f"{block}.ffn.2", dim, ffn_dim)
    shapes |= _layer("head.head", 4 * size.out_dim, dim)
    shapes["head.modulation"] = (1, 2, dim)
    return shapes


def lora(size: ExpertSize, rank: int) -> Shapes:
    """A LoRA as lightx2v writes it: `diffusion_model.` prefix, lora_down, lora_up, alpha for every block layer."""
    linear = expert(size)
    shapes: Shapes = {}
    for index in range(size.num_layers):
        for target in LORA_TARGETS:
            out_features, in_features = linear[f"blocks.{index}.{target}.weight"]
            key = f"diffusion_model.blocks.{index}.{target}"
            shapes[f"{key}.alpha"] = ()
            shapes[f"{key}.lora_down.weight"] = (rank, in_features)
            shapes[f"{key}.lora_up.weight"] = (out_features, rank)
    return shapes


def _residual_block(name: str, in_dim: int, out_dim: int) -> Shapes:
    shapes: Shapes = {f"{name}.residual.0.gamma": (in_dim, 1, 1, 1)}
    shapes |= _layer(f"{name}.residual.2", out_dim, in_dim, 3, 3, 3)
    shapes[f"{name}.residual.3.gamma"] = (out_dim, 1, 1, 1)
    shapes |= _layer(f"{name}.residual.6", out_dim, out_dim, 3, 3, 3)
    if in_dim != out_dim:
        shapes |= _layer(f"{name}.shortcut", out_dim, in_dim, 1, 1, 1)
    return shapes


def _middle(name: str, dim: int) -> Shapes:
    attention: Shapes = {f"{name}.1.norm.gamma": (dim, 1, 1)}
    attention |= _layer(f"{name}.1.to_qkv", 3 * dim, dim, 1, 1) | _layer(f"{name}.1.proj", dim, dim, 1, 1)
    return _residual_block(f"{name}.0", dim, dim) | attention | _residual_block(f"{name}.2", dim, dim)


def _vae_encoder(size: VaeSize) -> Shapes:
    widths = [size.dim * mult for mult in (1, *size.dim_mult)]
    shapes = _layer("encoder.conv1", widths[0], 3, 3, 3, 3)
    index = 0
    for level, (in_dim, out_dim) in enumerate(pairwise(widths)):
        for block in range(size.num_res_blocks):
            shapes |= _residual_block(f"encoder.downsamples.{index}", in_dim if block == 0 else out_dim, out_dim)
            index += 1
        if level < len(size.dim_mult) - 1:
            shapes |= _layer(f"encoder.downsamples.{index}.resample.1", out_dim, out_dim, 3, 3)
            if size.temporal_downsample[level]:
                shapes |= _layer(f"encoder.downsamples.{index}.time_conv", out_dim, out_dim, 3, 1, 1)
            index += 1
    shapes |= _middle("encoder.middle", widths[-1])
    shapes["encoder.head.0.gamma"] = (widths[-1], 1, 1, 1)
    return shapes | _layer("encoder.head.2", 2 * size.z_dim, widths[-1], 3, 3, 3)


def _vae_decoder(size: VaeSize) -> Shapes:
    widths = [size.dim * mult for mult in (size.dim_mult[-1], *size.dim_mult[::-1])]
    temporal_upsample = size.temporal_downsample[::-1]
    shapes = _layer("decoder.conv1", widths[0], size.z_dim, 3, 3, 3) | _middle("decoder.middle", widths[0])
    index = 0
    for level, (width, out_dim) in enumerate(pairwise(widths)):
        in_dim = width if level == 0 else width // 2
        for block in range(size.num_res_blocks + 1):
            shapes |= _residual_block(f"decoder.upsamples.{index}", in_dim if block == 0 else out_dim, out_dim)
            index += 1
        if level < len(size.dim_mult) - 1:
            shapes |= _layer(f"decoder.upsamples.{index}.resample.1", out_dim // 2, out_dim, 3, 3)
            if temporal_upsample[level]:
                shapes |= _layer(f"decoder.upsamples.{index}.time_conv", 2 * out_dim, out_dim, 3, 1, 1)
            index += 1
    shapes["decoder.head.0.gamma"] = (widths[-1], 1, 1, 1)
    return shapes | _layer("decoder.head.2", 3, widths[-1], 3, 3, 3)


def vae(size: VaeSize) -> Shapes:
    """The Wan2.1 video VAE, which the A14B pair uses. ComfyUI takes its width from `decoder.head.0.gamma`."""
    z_dim = size.z_dim
    shapes = _vae_encoder(size) | _layer("conv1", 2 * z_dim, 2 * z_dim, 1, 1, 1)
    return shapes | _layer("conv2", z_dim, z_dim, 1, 1, 1) | _vae_decoder(size)


def _memory_block(name: str, dim: int) -> Shapes:
    return _layer(f"{name}.conv.0", dim, 2 * dim, 3, 3) | {
        key: shape for part in (2, 4) for key, shape in _layer(f"{name}.conv.{part}", dim, dim, 3, 3).items()
    }


def tiny_vae(latent_channels: int = 48) -> Shapes:
    """The tiny video autoencoder (TAEHV) for TI2V-5B latents: 48 channels, 16x16 pixels, 4 frames.

    ComfyUI fixes the width of the full Wan2.2 VAE in code (705 million parameters), so a small file can only be
    in the layout of this stand-in, which ComfyUI's VAE loader takes for the same latents.
    """
    shapes = _layer("encoder.0", 64, 12, 3, 3)
    for stage, stride in enumerate((2, 2, 1)):
        first = 2 + 5 * stage
        shapes[f"encoder.{first}.conv.weight"] = (64, 64 * stride, 1, 1)
        shapes[f"encoder.{first + 1}.weight"] = (64, 64, 3, 3)
        for block in range(3):
            shapes |= _memory_block(f"encoder.{first + 2 + block}", 64)
    shapes |= _layer("encoder.17", latent_channels, 64, 3, 3) | _layer("decoder.1", 256, latent_channels, 3, 3)
    for stage, (width, out_dim, stride) in enumerate(((256, 128, 1), (128, 64, 2), (64, 64, 2))):
        first = 3 + 6 * stage
        for block in range(3):
            shapes |= _memory_block(f"decoder.{first + block}", width)
        shapes[f"decoder.{first + 4}.conv.weight"] = (width * stride, width, 1, 1)
        shapes[f"decoder.{first + 5}.weight"] = (out_dim, width, 3, 3)
    return shapes | _layer("decoder.22", 12, 64, 3, 3)


def text_encoder(size: TextSize) -> Shapes:
    """The UMT5 encoder, without its tokenizer.

    ComfyUI recognises UMT5-XXL by a tensor of block 23 with 10240 rows. The toy runs `size.num_layers` layers
    and carries that one tensor, one column wide, for recognition only.
    """
    inner = size.d_kv * size.num_heads
    shapes: Shapes = {"shared.weight": (size.vocab_size, size.d_model)}
    for index in range(size.num_layers):
        attention, feed_forward = f"encoder.block.{index}.layer.0", f"encoder.block.{index}.layer.1"
        for part in "qkv":
            shapes[f"{attention}.SelfAttention.{part}.weight"] = (inner, size.d_model)
        shapes[f"{attention}.SelfAttention.o.weight"] = (size.d_model, inner)
        shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = (32, size.num_heads)
        shapes[f"{attention}.layer_norm.weight"] = (size.d_model,)
        for part in ("wi_0", "wi_1"):
            shapes[f"{feed_forward}.DenseReluDense.{part}.weight"] = (size.d_ff, size.d_model)
        shapes[f"{feed_forward}.DenseReluDense.wo.weight"] = (size.d_model, size.d_ff)
        shapes[f"{feed_forward}.layer_norm.weight"] = (size.d_model,)
    shapes["encoder.block.23.layer.1.DenseReluDense.wi_1.weight"] = (10240, 1)
    shapes["encoder.final_layer_norm.weight"] = (size.d_model,)
    return shapes
