"""How far a node is with its frames."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def frame_progress(num_frames: int) -> Callable[[int], None]:
    """To be called with the frames that are done: moves the node's bar, and ends the run where it was cancelled."""
    bar = comfy.utils.ProgressBar(num_frames)

    def on_frames(done: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    return on_frames
