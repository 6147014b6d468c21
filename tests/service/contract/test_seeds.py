"""Several seeds, or so many videos, in a request."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.seeds import MAX_DRAWN_SEED, MAX_SEED
from wan_relay.service.contract.video_request import VideoRequest, parse_request

T2V = {"prompt": "a cat", "workflow": "wan22_t2v_4step"}
I2V = {"workflow": "wan22_i2v_4step", "image_url": "https://a.example/a.png"}


def request_of(**fields: Any) -> VideoRequest:
    return parse_request(T2V | fields)[0]


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({"seeds": [3, "2", 1.0]}, [3, 2, 1]),
        ({"seeds": [3], "num_videos": 1}, [3]),
        ({"seed": 5, "num_videos": 3}, [5, 6, 7]),
        ({"seed": MAX_SEED - 1, "num_videos": 2}, [MAX_SEED - 1, MAX_SEED]),
    ],
)
def test_seeds_are_used_in_their_order(fields: dict[str, Any], seeds: list[int]) -> None:
    request = request_of(**fields)
    assert (request.is_series, request.seeds_to_use()) == (True, seeds)


@pytest.mark.parametrize("fields", [{"seeds": [-1, 4, -1]}, {"num_videos": 3}, {"num_videos": 3, "seed": -1}])
def test_minus_one_draws_each(fields: dict[str, Any]) -> None:
    seeds = request_of(**fields).seeds_to_use()
    assert len(set(seeds)) == 3
    assert all(0 <= seed <= MAX_DRAWN_SEED for seed in seeds)


def test_one_video_is_no_series() -> None:
    assert not request_of(seed=3).is_series
    assert not request_of(seeds=None, num_videos=None).is_series
    assert request_of(seed=3).seeds_to_use() == [3]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"seeds": 3}, "INVALID_TYPE: seeds must be a list of whole numbers, got a number (seeds)"),
        ({"seeds": []}, "INVALID_VALUE: seeds must have from 1 to 64 items, got 0 (seeds)"),
        ({"seeds": [1] * 65}, "INVALID_VALUE: seeds must have from 1 to 64 items, got 65 (seeds)"),
        ({"seeds": [1, True]}, "INVALID_VALUE: seeds must be whole numbers, and item 2 is none (seeds)"),
        ({"seeds": [1, 2.5]}, "INVALID_VALUE: seeds must be whole numbers, and item 2 is none (seeds)"),
        ({"seeds": [-2]}, f"INVALID_VALUE: seeds must be from -1 to {MAX_SEED}, and item 1 is not (seeds)"),
        (
            {"seeds": [4, 5, 4]},
            "INVALID_VALUE: seeds must differ, and item 3 is there twice: it would be the same video again (seeds)",
        ),
        ({"num_videos": 0}, "OUT_OF_RANGE: num_videos must be from 1 to 64, got 0 (num_videos)"),
        ({"num_videos": 65}, "OUT_OF_RANGE: num_videos must be from 1 to 64, got 65 (num_videos)"),
        ({"seed": 1, "seeds": [1, 2]}, "CONFLICT: seed and seeds exclude each other (seeds)"),
        (
            {"num_videos": 3, "seeds": [1, 2]},
            "CONFLICT: num_videos is 3 and seeds has 2; one of them is enough (num_videos)",
        ),
        (
            {"num_videos": 3, "seed": MAX_SEED - 1},
            "CONFLICT: num_videos is 3 and only 1 seeds come after seed (num_videos)",
        ),
        (
            I2V | {"num_videos": 2, "segments": [{"prompt": "a", "seed": 4}, {"prompt": "b"}]},
            "CONFLICT: num_videos needs a first segment without a seed of its own: every video would be the same "
            "(num_videos)",
        ),
    ],
)
def test_what_contradicts_itself_is_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(JobError) as refused:
        request_of(**fields)
    assert str(refused.value) == sentence
