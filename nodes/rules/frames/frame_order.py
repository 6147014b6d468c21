"""Which frames a video shows, and in which order."""

from ..errors import InvalidInput

FRAME_ORDERS = ("forward", "reverse", "ping-pong")


def frames_in_order(num_frames: int, frame_order: str, drop_last_frame: bool = False) -> list[int]:
    """The indices of the images in the order in which they are shown.

    `drop_last_frame` leaves out the last image, which in a loop is the first one again. `ping-pong` goes there and
    back, each end once, so that it repeats without a pause: 0 1 2 3 2 1. Raises InvalidInput for another order, or
    where no image would be left.
    """
    if frame_order not in FRAME_ORDERS:
        raise InvalidInput(f"frame_order must be one of {', '.join(FRAME_ORDERS)}; got {frame_order!r}.")
    if drop_last_frame and num_frames < 2:
        raise InvalidInput(f"drop_last_frame needs at least 2 images; got {num_frames}.")
    forward = list(range(num_frames - drop_last_frame))
    if frame_order == "forward":
        return forward
    return forward[::-1] if frame_order == "reverse" else forward + forward[-2:0:-1]
