"""@runwayml/sdk, as it is: the rows of providers.md 12."""

import io
from collections.abc import Callable
from typing import Any

import av
import httpx
import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.sdks.dropping_proxy import UNAVAILABLE, dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

RATIOS = "`ratio` must be one of: 1280:720, 720:1280, 1104:832, 832:1104, 960:960, 1584:672"
Check = Callable[..., Any]


@pytest.fixture
def runway(node: Node, stand: Stand) -> Check:
    def check(name: str, **variables: str) -> Any:
        return node("runway.mjs", name, **{"URL": stand.url, "PICTURE": PICTURE, **variables})

    return check


def test_a_task_ends_with_a_video_and_its_warnings(runway: Check) -> None:
    task = runway("waits")
    assert (task["status"], task["cost"], task["warnings"]) == (
        "SUCCEEDED",
        {"credits": 0},
        ["this gateway adds no watermark"],
    )
    assert httpx.get(task["output"][0]).content[4:8] == b"ftyp"


def test_each_state(runway: Check) -> None:
    running, pending, done = runway("states")
    assert (running["status"], pending["status"], done["status"]) == ("RUNNING", "PENDING", "SUCCEEDED")
    assert 0 <= running["progress"] <= 1
    assert pending["estimatedCost"] == {"credits": 0}


def test_uploads_key_frames_and_words_alone(runway: Check) -> None:
    assert runway("inputs") == ["runway:", *["SUCCEEDED"] * 4]


def test_bad_fields_are_bad_requests_with_issues(runway: Check) -> None:
    said = runway("bad_fields")
    assert {name: (error["isBadRequest"], error["status"]) for name, error in said.items()} == dict.fromkeys(
        said, (True, 400)
    )
    paths = {name: [issue["path"] for issue in error["body"]["issues"]] for name, error in said.items()}
    assert paths == {
        "ratio": [["ratio"]],
        "seed": [["seed"]],
        "duration": [["duration"]],
        "model": [["model"]],
        "unheard_of": [[]],
        "large_seed": [["seed"]],
    }
    assert said["ratio"]["body"]["issues"][0]["message"] == RATIOS


def test_the_video_has_each_ratio_exactly(runway: Check) -> None:
    said = runway("ratios")
    for ratio, url in said.items():
        with av.open(io.BytesIO(httpx.get(url).content)) as video:
            assert f"{video.streams.video[0].width}:{video.streams.video[0].height}" == ratio
    assert len(said) == 6


def test_a_failure_is_a_task_failed_error(runway: Check) -> None:
    said = runway("fails")
    assert (said["isTaskFailed"], said["message"]) == (True, "the prompt asked for it")
    assert said["task"]["failureCode"] == "ASSET.INVALID"


def test_a_task_that_was_cancelled_elsewhere_ends_the_wait(runway: Check) -> None:
    said = runway("cancelled")
    assert (said["isTaskFailed"], said["message"], said["task"]["status"]) == (True, "Task cancelled", "CANCELLED")


def test_a_deleted_task_is_gone_and_whoever_waits_is_told(runway: Check) -> None:
    assert [(said["isNotFound"], said["status"]) for said in runway("deletes")] == [(True, 404)] * 2


def test_over_its_limit_a_key_is_throttled_and_later_runs(runway: Check, limited_stand: Any) -> None:
    said = runway("throttled", URL=limited_stand.url, KEY=limited_stand.one_at_a_time)
    assert said == ["THROTTLED", "SUCCEEDED", "SUCCEEDED"]


def test_a_wrong_key(runway: Check, keyed_stand: Stand) -> None:
    said = runway("wrong_key", URL=keyed_stand.url, KEY="wrong")
    assert (said["isApi"], said["status"], said["body"]) == (
        True,
        401,
        {"error": "a key of this gateway is not known"},
    )


@pytest.mark.parametrize("instead", [b"", UNAVAILABLE], ids=["broken", "503"])
def test_a_connection_that_breaks_makes_one_job(
    runway: Check, stand: Stand, tasks: Callable[[str], list[str]], instead: bytes
) -> None:
    words = f"broken connection of npm's runwayml {instead[9:12].decode()}"
    with dropping(stand.port, drops=2, instead=instead) as proxy:
        assert runway("submit", URL=f"http://127.0.0.1:{proxy.port}", WORDS=words) == "SUCCEEDED"
        assert proxy.posts == 3
    assert tasks(words) == ["SUCCESS"]
