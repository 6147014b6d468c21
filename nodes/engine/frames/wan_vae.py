"""Which of Wan's two VAEs a VAE is."""

from dataclasses import dataclass

import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.sd
import comfy.taesd.taehv

from ...rules.errors import InvalidInput
from ...rules.frames.frame_size import A14B_MULTIPLE, TI2V_5B_MULTIPLE


@dataclass(frozen=True)
class WanVae:
    """What PrepareLatent must know of a VAE; `stride` is pixels per latent cell, `multiple` pixels per patch."""

    latent_channels: int
    stride: int
    multiple: int

    @property
    def is_5b(self) -> bool:
        return self.latent_channels == 48


WAN_2_1 = WanVae(latent_channels=16, stride=8, multiple=A14B_MULTIPLE)
WAN_2_2 = WanVae(latent_channels=48, stride=16, multiple=TI2V_5B_MULTIPLE)


def recognise_wan_vae(vae: comfy.sd.VAE) -> WanVae:
    """WAN_2_1 (all A14B models) or WAN_2_2 (TI2V-5B only).

    The class decides, as HunyuanVideo's VAE has 16 channels too. Raises InvalidInput for any other VAE.
    """
    network = getattr(vae, "first_stage_model", None)
    if network is None:
        raise InvalidInput("vae must be a Wan VAE, but the file that it came from holds no VAE.")
    if isinstance(network, comfy.ldm.wan.vae2_2.WanVAE):
        return WAN_2_2
    if isinstance(network, comfy.ldm.wan.vae.WanVAE) and vae.output_channels == 3:
        return WAN_2_1
    if isinstance(network, comfy.taesd.taehv.TAEHV) and network.latent_format is None:
        kind = {16: WAN_2_1, 48: WAN_2_2}.get(network.latent_channels)
        if kind:
            return kind
    raise InvalidInput(
        f"vae must be wan_2.1_vae (A14B) or wan2.2_vae (TI2V-5B), got a {type(network).__name__} "
        f"of {vae.latent_channels} latent channels and {vae.output_channels} image channels."
    )
