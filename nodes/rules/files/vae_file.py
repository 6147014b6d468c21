"""Whether a VAE file is TI2V-5B's, from its header: the marks by which comfy.sd.VAE tells the networks apart."""

from .safetensors_header import FileHeader

LATENT_CHANNELS_5B = 48


def is_ti2v_5b_vae(header: FileHeader) -> bool:
    """True for wan2.2_vae and for the tiny autoencoder of the same latents; false for everything else."""
    tensors = header.tensors
    if "decoder.middle.0.residual.0.gamma" in tensors:
        return "decoder.upsamples.0.upsamples.0.residual.2.weight" in tensors
    if "decoder.22.bias" in tensors and "decoder.1.weight" in tensors:
        return tensors["decoder.1.weight"].shape[1:2] == (LATENT_CHANNELS_5B,)
    return False
