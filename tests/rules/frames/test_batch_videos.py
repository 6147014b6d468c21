import pytest
from wan_relay.nodes.rules.frames.batch_videos import frames_of_videos


def test_the_frames_are_shared_out_one_video_after_the_other():
    assert frames_of_videos(6, 1) == ([slice(0, 6)], [])
    assert frames_of_videos(6, 3) == ([slice(0, 2), slice(2, 4), slice(4, 6)], [])


@pytest.mark.parametrize("videos", [2, 16, 0, -1, -5])
def test_frames_that_are_not_that_many_videos_stay_one(videos):
    assert frames_of_videos(5, videos) == (
        [slice(0, 5)],
        [f"videos is {videos}, and 5 frames are not {videos} videos of equal length: they stay one video."],
    )
