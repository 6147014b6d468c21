"""A batch of videos comes out of VAE Decode as one row of frames: which of them belong to which video."""

MAX_VIDEOS = 16


def frames_of_videos(num_frames: int, videos: int) -> tuple[list[slice], list[str]]:
    """The frames of each of `videos` videos of equal length, which follow each other.

    Where the frames cannot be shared out evenly they stay one video, and a sentence says so: a wrong number must not
    cost the finished frames.
    """
    if videos < 1 or num_frames % videos:
        return [slice(0, num_frames)], [
            f"videos is {videos}, and {num_frames} frames are not {videos} videos of equal length: they stay one video."
        ]
    each = num_frames // videos
    return [slice(first, first + each) for first in range(0, num_frames, each)], []
