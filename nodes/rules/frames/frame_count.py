"""How many frames a Wan video has: 4n+1, because its VAE packs the first frame alone and then four by four."""

from typing import TypedDict

from ..errors import InvalidInput

FRAMES_PER_LATENT = 4
NATIVE_FPS = 16.0
MAX_FPS = 480  # 60 frames a second, each step between two cut into 8


def snap_length(length: int) -> int:
    """The nearest frame count of the form 4n+1; halfway (3, 7, ... 83) goes up.

    Raises InvalidInput below 1.
    """
    if length < 1:
        raise InvalidInput(f"length must be at least 1 frame, got {length}.")
    return (length + 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1


def latent_frames(length: int) -> int:
    """Latent frames that hold `length` pixel frames: 81 -> 21."""
    return (length - 1) // FRAMES_PER_LATENT + 1


def whole_frames(length: int) -> int:
    """Pixel frames that the VAE really encodes out of `length`; it drops the rest: 7 -> 5."""
    return (latent_frames(length) - 1) * FRAMES_PER_LATENT + 1


class LengthPlan(TypedDict):
    """Frames that will be made, and a sentence where that is another number than asked for."""

    length: int
    latent_frames: int
    duration_s: float
    warnings: list[str]


def plan_length(length: int, fps: float = NATIVE_FPS) -> LengthPlan:
    """The frame count that will be made of `length`."""
    snapped = snap_length(length)
    warnings = []
    if snapped != length:
        warnings.append(f"length {length} is not of the form 4n+1; {snapped} frames are made.")
    return {
        "length": snapped,
        "latent_frames": latent_frames(snapped),
        "duration_s": snapped / fps,
        "warnings": warnings,
    }
