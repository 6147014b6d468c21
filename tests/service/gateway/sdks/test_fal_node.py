"""fal's JavaScript client, as it is: the rows of providers.md 12."""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.sdks.slow_expander import ANSWER_S, SlowExpander
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

WAN = "fal-ai/wan/v2.2-a14b/image-to-video"
Check = Callable[..., Any]


@pytest.fixture
def fal(node: Node, stand: Stand) -> Check:
    def check(name: str, **variables: str) -> Any:
        return node("fal.mjs", name, **{"URL": stand.url, "PICTURE": PICTURE, **variables})

    return check


def test_run_through_the_proxy(fal: Check) -> None:
    said = fal("run")
    assert re.fullmatch(r"[0-9a-f-]{36}", said["requestId"])
    assert said["data"]["seed"] == 7
    assert httpx.get(said["data"]["video"]["url"]).content[4:8] == b"ftyp"


def test_subscribe_by_polling(fal: Check) -> None:
    said = fal("subscribe")
    assert said["states"] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert said["last"]["logs"][-1]["message"] == "step 4 of 4"
    assert said["data"]["prompt"] == "slow 3"
    assert said["requestId"]


def test_subscribe_by_streaming_ends(fal: Check) -> None:
    said = fal("streaming")
    assert said["states"][-2:] == ["IN_PROGRESS", "COMPLETED"]
    assert said["data"]["prompt"] == "slow 2"


def test_lora_and_turbo_are_found_by_the_short_path(fal: Check) -> None:
    assert fal("short_paths") == {f"{WAN}/lora": True, f"{WAN}/turbo": True}


def test_the_same_through_a_middleware(fal: Check) -> None:
    assert (said := fal("middleware"))["seed"] == 3
    assert said["prompt"] == "middleware"


def test_a_file_in_the_input_is_uploaded_and_seen(fal: Check) -> None:
    content = base64.b64decode(PICTURE.partition(",")[2])
    assert fal("blob") == [f"image_base64 {hashlib.sha256(content).hexdigest()}"]


def test_a_large_file_goes_up_in_parts(fal: Check) -> None:
    assert fal("multipart") == {"size": 91 * 1024 * 1024}


def test_a_bad_field_is_a_validation_error(fal: Check) -> None:
    said = fal("bad_field")
    assert (said["isValidation"], said["status"], said["fields"]) == (True, 422, ["num_frames"])


def test_a_job_failure_is_an_api_error(fal: Check) -> None:
    said = fal("job_failure")
    assert (said["isApi"], said["status"], said["message"]) == (True, 500, "Internal Server Error")
    assert said["body"] == {"detail": "the prompt asked for it", "error_type": "runner_server_error"}


def test_cancel_queued_and_finished(fal: Check) -> None:
    said = fal("cancel")
    assert said["queued"] == "COMPLETED"
    assert (said["finished"]["status"], said["finished"]["body"]) == (400, {"status": "ALREADY_COMPLETED"})


def test_a_timeout_cancels(fal: Check) -> None:
    assert fal("timeout") == {"thrown": True, "error_type": "client_cancelled"}


def test_a_wrong_key(fal: Check, keyed_stand: Stand) -> None:
    said = fal("wrong_key", URL=keyed_stand.url, KEY="wrong")
    assert (said["name"], said["status"], said["body"]) == (
        "ApiError",
        401,
        {"detail": "a key of this gateway is not known"},
    )


def test_priority_and_lifecycle_are_taken(fal: Check) -> None:
    said = fal("headers")
    expires_s = int(re.search(r"expires=(\d+)", said["url"])[1])
    assert 0 < expires_s - said["now"] <= 121


def test_a_connection_that_breaks_makes_one_job(
    fal: Check, stand: Stand, expander: SlowExpander, tasks: Callable[[str], list[str]]
) -> None:
    words = "broken connection of the javascript client"
    with dropping(stand.port, drops=3, pause_s=ANSWER_S / 4) as proxy:
        said = fal("submit_expanded", URL=f"http://127.0.0.1:{proxy.port}", WORDS=words)
        assert proxy.posts == 4
    assert said["prompt"] == f"{words}, at length"
    assert tasks(words) == ["SUCCESS"]
    assert expander.prompts.count(words) == 1


@pytest.mark.parametrize(
    "target",
    [
        "https://example.com/fal-ai/wan/v2.2-a14b/image-to-video",
        "http://queue.fal.run/fal-ai/wan/v2.2-a14b/image-to-video",
        "https://queue.fal.run@127.0.0.1/fal-ai/wan",
        "https://queue.fal.run:8443/fal-ai/wan",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_foreign_target_is_refused(stand: Stand, target: str) -> None:
    answer = httpx.post(f"{stand.url}/fal/proxy", headers={"x-fal-target-url": target}, json={"prompt": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"] == "x-fal-target-url must name one of fal's own hosts"
