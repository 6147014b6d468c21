"""Every error that a user of the nodes can see.

WanRelayError               one sentence: what was expected, what came, which input
├── InvalidInput            a value or a combination of values that cannot work
├── FileRefused             a model or LoRA file that would load and give a wrong video, or not load at all
├── FramesMissing           frames that should have been made were not
└── VideoNotSaved           the video file could not be written; nothing was left behind
"""


class WanRelayError(ValueError):
    """Base of all errors that the nodes raise on purpose. ComfyUI shows the module before the class's name."""

    __module__ = "WanRelay"


class InvalidInput(WanRelayError):
    """An input, or a combination of inputs, that cannot work."""

    __module__ = "WanRelay"


class FileRefused(WanRelayError):
    """A model or LoRA file that must not be used where it was put."""

    __module__ = "WanRelay"


class FramesMissing(WanRelayError):
    """Frames in between that were not made; what is there would hold whatever lay in memory."""


class VideoNotSaved(WanRelayError):
    """The video could not be written; no partial file remains."""

    __module__ = "WanRelay"
