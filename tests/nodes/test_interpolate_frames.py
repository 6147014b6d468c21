import pytest
import torch
from wan_relay.nodes.interpolate_frames import InterpolateFrames
from wan_relay.nodes.rules.errors import InvalidInput

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize(
    ("factor", "fps", "expected"), [(1, 16.0, 16.0), (2, 16.0, 32.0), (5, 60.0, 300.0), (3, 23.976, 72000 / 1001)]
)
def test_the_frame_rate_comes_out_with_the_frames(factor, fps, expected):
    images = torch.rand(3, 32, 48, 3)
    made = InterpolateFrames.execute(images, factor, fps)
    frames, rate = made.result
    assert frames.shape == (2 * factor + 1, 32, 48, 3)
    assert torch.equal(frames[::factor], images)
    assert rate == expected
    method = "minterpolate" if factor > 1 else "none"
    details = {"method": method, "factor": factor, "fps": expected, "frame_count": 2 * factor + 1, "warnings": []}
    assert made.ui == {"wan_relay": [details]}


@pytest.mark.parametrize("factor", [2, 3])
def test_each_video_of_a_batch_is_interpolated_alone(factor):
    images = torch.rand(18, 32, 48, 3)
    made = InterpolateFrames.execute(images, factor, 16.0, videos=2)
    alone = [InterpolateFrames.execute(video, factor, 16.0).result[0] for video in images.split(9)]
    assert torch.equal(made.result[0], torch.cat(alone))
    count = 2 * (8 * factor + 1)
    details = {"method": "minterpolate", "factor": factor, "fps": 16.0 * factor, "frame_count": count, "warnings": []}
    assert made.ui == {"wan_relay": [details]}


@pytest.mark.parametrize(("num_frames", "factor"), [(4, 1), (2, 3)])
def test_a_batch_between_whose_frames_nothing_comes_stays_as_it_is(num_frames, factor):
    images = torch.rand(num_frames, 32, 48, 3)
    made = InterpolateFrames.execute(images, factor, 16.0, videos=2)
    assert torch.equal(made.result[0], images)
    assert made.ui["wan_relay"][0]["method"] == "none"


@pytest.mark.parametrize("videos", [2, 0, -1])
def test_frames_that_are_not_that_many_videos_stay_one_and_it_is_said(videos):
    images = torch.rand(5, 32, 48, 3)
    made = InterpolateFrames.execute(images, 2, 16.0, videos=videos)
    assert torch.equal(made.result[0], InterpolateFrames.execute(images, 2, 16.0).result[0])
    assert made.ui["wan_relay"][0]["warnings"] == [
        f"videos is {videos}, and 5 frames are not {videos} videos of equal length: they stay one video."
    ]


def test_images_are_checked_before_they_are_shared_out():
    with pytest.raises(InvalidInput, match="images must hold at least one frame"):
        InterpolateFrames.execute(torch.rand(0, 32, 48, 3), 2, 16.0, videos=2)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"factor": 8, "fps": 100.0}, "fps x factor must be at most 480; got 100 x 8."),
        ({"factor": 2, "fps": 0.5}, "fps must be 1 to 480; got 0.5."),
    ],
)
def test_what_cannot_be_saved_is_refused_at_queue_time_and_when_linked(inputs, words):
    assert InterpolateFrames.validate_inputs(factor=2, fps=16.0) is True
    assert InterpolateFrames.validate_inputs(**inputs) == words
    assert InterpolateFrames.validate_inputs(factor=2, fps=None) is True
    with pytest.raises(InvalidInput) as raised:
        InterpolateFrames.execute(torch.rand(3, 32, 48, 3), **inputs)
    assert str(raised.value) == words
