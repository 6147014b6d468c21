"""npm's replicate, as it is: the rows of providers.md 12."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.sdks.conftest import KeyedStand
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.sdks.slow_expander import ANSWER_S, SlowExpander
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import receiving
from wan_relay.tests.waiting import wait_until

FAST = "wan-video/wan-2.2-i2v-fast"
Check = Callable[..., Any]


@pytest.fixture
def replicate(node: Node, stand: Stand) -> Check:
    def check(name: str, **variables: str) -> Any:
        return node("replicate.mjs", name, **{"URL": stand.url, "PICTURE": PICTURE, **variables})

    return check


def test_run_over_tls_gives_a_file(replicate: Check, tls_stand: Stand) -> None:
    said = replicate("file", URL=tls_stand.url, NODE_EXTRA_CA_CERTS=str(tls_stand.folder / "tls" / "ca.crt"))
    assert said["url"].startswith(f"{tls_stand.url}/files/results/")
    assert (said["type"], said["head"]) == ("video/mp4", "ftyp")


def test_a_slow_prediction_is_polled_to_its_end(replicate: Check) -> None:
    assert replicate("slow").startswith("http")


def test_both_ways_to_wait(replicate: Check) -> None:
    assert all(output.startswith("http") for output in replicate("waits"))


def test_create_by_version(replicate: Check) -> None:
    assert replicate("version") == {"created": "starting", "ended": "succeeded", "same": True}


def test_create_get_list_cancel(replicate: Check) -> None:
    assert replicate("predictions") == {"first": True, "canceled": "canceled", "after": "canceled"}


def test_an_abort_cancels(replicate: Check) -> None:
    assert replicate("abort")["status"] == "canceled"


def test_files_in_the_input_are_seen(replicate: Check) -> None:
    seen = [f"image_base64 {hashlib.sha256(base64.b64decode(PICTURE.partition(',')[2])).hexdigest()}"]
    assert replicate("inputs") == {"blob": [seen, "http"], "buffer": [seen, "http"], "fallback": [seen, "data"]}


def test_a_token_that_a_bug_sends_as_input_is_not_told(replicate: Check, stand: Stand) -> None:
    said = replicate("token_as_input")
    assert said["status"] == 422
    assert "r8_secret" not in said["message"]
    assert "r8_secret" not in stand.errors()


def test_a_bad_field(replicate: Check) -> None:
    said = replicate("bad_field")
    assert said["status"] == 422
    assert "input.num_frames" in said["message"]


def test_a_failure(replicate: Check) -> None:
    assert replicate("job_failure")["message"] == "Prediction failed: NO_OUTPUT: the prompt asked for it"


def test_progress_is_called_back(replicate: Check) -> None:
    seen = replicate("progress")
    assert seen[0] == ["starting", None]
    assert seen[-1] == ["succeeded", [1, 4, 4]]
    assert ["processing", [0.25, 1, 4]] in seen


def test_a_stream_yields_logs_output_and_done(replicate: Check) -> None:
    events = replicate("stream")
    assert [name for name, _ in events[-2:]] == ["output", "done"]
    assert {name for name, _ in events[:-2]} == {"logs"}
    assert httpx.get(events[-2][1]).content[4:8] == b"ftyp"


def test_a_storm_of_refused_tries_makes_no_jobs(replicate: Check, keyed_stand: KeyedStand) -> None:
    said = replicate("storm", URL=keyed_stand.url, KEY=keyed_stand.once_a_minute)
    assert (said["first"], said["second"]["status"], said["number"]) == (None, 429, 1)
    assert "Request was throttled. " in said["second"]["message"]


def test_a_connection_that_breaks_makes_one_job(
    replicate: Check, stand: Stand, expander: SlowExpander, tasks: Callable[[str], list[str]]
) -> None:
    words = "broken connection of npm's replicate"
    with dropping(stand.port, drops=3, pause_s=ANSWER_S / 4) as proxy:
        output = replicate("optimized", URL=f"http://127.0.0.1:{proxy.port}", WORDS=words)
        assert output.startswith("http")
        assert proxy.posts == 4
    assert tasks(words) == ["SUCCESS"]
    assert expander.prompts.count(words) == 1


def test_a_webhook_is_valid(replicate: Check, stand: Stand) -> None:
    with receiving() as receiver:
        body = {"input": {"prompt": "told", "image": PICTURE}, "webhook": receiver.url}
        body["webhook_events_filter"] = ["completed"]
        httpx.post(f"{stand.url}/replicate/v1/models/{FAST}/predictions", json=body)
        wait_until(lambda: receiver.calls)
    [call] = receiver.calls
    sent = json.dumps({"headers": call.headers, "body": call.body.decode()})
    assert replicate("webhook", CALL=sent) == {"valid": True, "tampered": False}
