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
