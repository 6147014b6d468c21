"""What kind of Wan model a loaded MODEL is, and whether it fits the other inputs."""

from __future__ import annotations

from typing import Any

from ...rules.errors import InvalidInput
from ...rules.files.expert_kind import I2V, KIND_NAMES, OTHER_WAN, T2V, TI2V_5B, WAN_2_1_I2V

NO_WAN = "other"


def model_kind(model: Any) -> str:
    """The kind of a MODEL by its network's shape: one of rules/files/expert_kind.py, else ComfyUI's own model_type of a
    Wan variant (such as "camera"), or NO_WAN."""
    config: dict = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    if config.get("image_model") != "wan2.1":
        return NO_WAN
    if config["model_type"] == "i2v":
        return WAN_2_1_I2V
    if config["model_type"] != "t2v":
        return str(config["model_type"])
    if config.get("out_dim") == 48:
        return TI2V_5B
    return {36: I2V, 16: T2V}.get(config.get("in_dim", 0), OTHER_WAN)


def kind_name(kind: str) -> str:
    """`kind` in words."""
    return KIND_NAMES.get(kind, "not a Wan model" if kind == NO_WAN else f"a Wan model of type {kind}")


def check_models(high_noise: Any, low_noise: Any | None) -> str:
    """The kind of the pair. Raises InvalidInput where the two do not belong together or do not belong here."""
    high = model_kind(high_noise)
    if high in (NO_WAN, WAN_2_1_I2V):
        raise InvalidInput(f"high_noise must be a Wan2.2 model, and this one is {kind_name(high)}.")
    if low_noise is None:
        if high != TI2V_5B:
            raise InvalidInput(
                f"low_noise is missing: high_noise is {kind_name(high)}, and only TI2V-5B runs as one model."
            )
        return high
    low = model_kind(low_noise)
    if high == TI2V_5B:
        raise InvalidInput("low_noise must be left empty: high_noise is the Wan2.2 TI2V-5B model, which runs alone.")
    if high != low:
        raise InvalidInput(
            f"high_noise and low_noise must be two experts of one pair, but high_noise is {kind_name(high)} "
            f"and low_noise is {kind_name(low)}."
        )
    return high


def used_conditioning(positive: list, negative: list, *cfgs: float) -> dict[str, list]:
    """The conditioning that the model is asked with, by name: `negative` counts where a cfg is not 1."""
    guided = any(cfg != 1.0 for cfg in cfgs)
    return {"positive": positive} | ({"negative": negative} if guided else {})


def check_images(kind: str, conditioning: dict[str, list]) -> None:
    """Raises InvalidInput where ComfyUI conditioning lacks the image that a model of `kind` needs, or has one that
    it would ignore. `conditioning` is by name, as from `used_conditioning`."""
    for name, entries in conditioning.items():
        if kind == I2V and not _images(entries):
            if name == "negative":
                raise InvalidInput(
                    "negative must carry the image too, because cfg is not 1: use the positive and negative of one "
                    "Prepare Latent."
                )
            raise InvalidInput(
                f"{name} must carry a start or end image for an I2V pair: connect an image to Prepare Latent, "
                "or load a T2V pair."
            )
        if kind == T2V and _images(entries):
            raise InvalidInput(
                f"{name} carries an image, which a T2V pair ignores: disconnect the image from Prepare Latent, "
                "or load an I2V pair."
            )


def check_latent(kind: str, conditioning: dict[str, list], latent: Any) -> None:
    """Raises InvalidInput where a latent, (batch, channels, frames, height, width), does not fit a model of `kind`
    or the image in `conditioning`, lists by name."""
    channels = 48 if kind == TI2V_5B else 16
    if getattr(latent, "is_nested", False):
        raise InvalidInput("latent must be one video latent, not a nested one: Wan2.2 models make video only.")
    if latent.ndim != 5 or latent.shape[1] != channels:
        raise InvalidInput(
            f"latent must be a video latent with {channels} channels for {kind_name(kind)}, "
            f"not one of shape {tuple(latent.shape)}."
        )
    for name, entries in conditioning.items():
        frames = [image.shape[2] for image in _images(entries) if image.shape[2] != latent.shape[2]]
        if kind == I2V and frames:
            raise InvalidInput(
                f"latent must have as many latent frames as the image conditioning in {name}, {frames[0]}, "
                f"not {latent.shape[2]}: use the latent, positive and negative of one Prepare Latent."
            )


def _images(entries: list) -> list:
    images = [options.get("concat_latent_image") for _, options in entries]
    return [image for image in images if image is not None]


def conditioning_warnings(positive: list, latent: Any) -> list[str]:
    """A sentence where the image was encoded for another picture size than the latent's: ComfyUI scales it, and of
    another aspect its middle."""
    height, width = latent.shape[-2:]
    warnings = []
    for image in _images(positive):
        from_height, from_width = image.shape[-2:]
        if (from_height, from_width) != (height, width):
            part = "is" if from_width * height == width * from_height else "its middle is"
            warnings.append(
                f"The image in positive was encoded at {from_width * 8}x{from_height * 8} and {part} scaled "
                f"to the latent's {width * 8}x{height * 8}."
            )
    return warnings
