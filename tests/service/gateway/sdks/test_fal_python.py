"""fal's Python client, as it is: the rows of providers.md 12."""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fal_client.client import FalClientHTTPError, FalClientTimeoutError
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.sdks.slow_expander import ANSWER_S, SlowExpander
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import receiving
from wan_relay.tests.waiting import wait_until

WAN = "fal-ai/wan/v2.2-a14b/image-to-video"
TEXT = "fal-ai/wan/v2.2-a14b/text-to-video"
CODE = """
import fal_client
result = fal_client.run("{model}", {{"prompt": "over tls", "image_url": "{picture}", "seed": 5}})
handle = fal_client.submit("{model}", {{"prompt": "over tls", "image_url": "{picture}"}})
print(handle.status_url.split(":")[0], result["seed"], result["video"]["url"], handle.get()["video"]["url"])
"""


def wish(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "image_url": PICTURE, **more}


def point_at(url: str, patch: pytest.MonkeyPatch) -> None:
    """providers.md 11, the way without TLS."""
    patch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{url}/fal/run/")
    patch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{url}/fal/queue/")
    patch.setattr(fal_client.client, "REST_URL", f"{url}/fal/rest")
    patch.setattr(fal_client.client, "CDN_URL", f"{url}/fal/cdn")


@pytest.fixture
def fal(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> fal_client.SyncClient:
    point_at(stand.url, monkeypatch)
    return fal_client.SyncClient(key="anything")


@pytest.fixture
def hanging(fal: fal_client.SyncClient) -> Iterator[Any]:
    """A request that runs until it is cancelled."""
    handle = fal.submit(WAN, wish("hang"))
    wait_until(lambda: isinstance(handle.status(), fal_client.InProgress))
    yield handle
    if not isinstance(handle.status(), fal_client.Completed):
        handle.cancel()


def test_env_hosts_over_tls(tls_stand: Stand) -> None:
    host = tls_stand.url.removeprefix("https://")
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE.format(model=WAN, picture=PICTURE)],
        env=tls_stand.variables
        | {
            "FAL_RUN_HOST": f"{host}/fal/run",
            "FAL_QUEUE_RUN_HOST": f"{host}/fal/queue",
            "FAL_KEY": "anything",
            "SSL_CERT_FILE": str(tls_stand.folder / "tls" / "ca.crt"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scheme, seed, *urls = done.stdout.split()
    assert (scheme, seed) == ("https", "5")
    assert all(url.startswith(f"{tls_stand.url}/files/results/") for url in urls)


def test_run_gives_the_output(fal: fal_client.SyncClient) -> None:
    result = fal.run(WAN, wish("run", seed=7, interpolator_model="none"))
    content = httpx.get(result["video"]["url"]).content
    assert content[4:8] == b"ftyp"
    assert result == {
        "video": {
            "url": result["video"]["url"],
            "content_type": "video/mp4",
            "file_name": result["video"]["file_name"],
            "file_size": len(content),
        },
        "prompt": "run",
        "seed": 7,
    }


def test_subscribe_with_logs_tells_each_state_in_order(fal: fal_client.SyncClient, hanging: Any) -> None:
    seen: list[Any] = []

    def on_update(status: Any) -> None:
        if not seen:
            hanging.cancel()
        seen.append(status)

    result = fal.subscribe(WAN, wish("slow 2", enable_safety_checker=True), with_logs=True, on_queue_update=on_update)
    kinds = [type(status) for status in seen]
    order = [fal_client.Queued, fal_client.InProgress, fal_client.Completed]
    assert list(dict.fromkeys(kinds)) == order
    assert kinds == sorted(kinds, key=order.index)
    assert seen[0].position >= 0
    running = [status for status in seen if isinstance(status, fal_client.InProgress)]
    assert {item["level"] for item in running[-1].logs} == {"WARN", "INFO"}
    assert "step 1 of 4" in [item["message"] for item in running[-1].logs]
    assert result["video"]["url"]


def test_subscribe_without_logs(fal: fal_client.SyncClient) -> None:
    seen: list[Any] = []
    assert fal.subscribe(WAN, wish("no logs"), on_queue_update=seen.append)["video"]["url"]
    assert isinstance(seen[-1], fal_client.Completed)
    assert seen[-1].logs is None
    assert seen[-1].metrics["inference_time"] >= 0


def test_a_handle_goes_by_the_returned_urls(fal: fal_client.SyncClient, stand: Stand) -> None:
    handle = fal.submit(f"{WAN}/turbo", wish("handle"))
    base = f"{stand.url}/fal/queue/fal-ai/wan/requests/{handle.request_id}"
    assert (handle.response_url, handle.status_url, handle.cancel_url) == (base, f"{base}/status", f"{base}/cancel")
    assert handle.get()["prompt"] == "handle"
    assert isinstance(handle.status(with_logs=True), fal_client.Completed)


def test_status_and_result_by_the_short_path(fal: fal_client.SyncClient) -> None:
    handle = fal.submit(f"{TEXT}/lora", {"prompt": "short path"})
    wait_until(lambda: isinstance(fal.status(f"{TEXT}/lora", handle.request_id), fal_client.Completed))
    assert fal.result(f"{TEXT}/lora", handle.request_id) == handle.get()


def test_ids_without_regard_to_case(fal: fal_client.SyncClient) -> None:
    assert fal.run("fal-ai/Wan/v2.2-a14B/image-to-video", wish("case"))["prompt"] == "case"


def test_an_unknown_model_is_404(fal: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError, match="there is no application") as caught:
        fal.submit("fal-ai/flux/dev", {"prompt": "x"})
    assert caught.value.status_code == 404


def test_a_bad_field_is_422_and_named(fal: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        fal.subscribe(WAN, wish("bad", num_frames=900))
    assert caught.value.status_code == 422
    assert caught.value.response.json() == {
        "detail": [
            {
                "loc": ["body", "num_frames"],
                "msg": "Input should be less than or equal to 161",
                "type": "less_than_equal",
                "ctx": {"le": 161},
            }
        ]
    }


def test_a_job_that_fails_is_completed_and_its_result_raises(fal: fal_client.SyncClient) -> None:
    handle = fal.submit(WAN, wish("fail OUT_OF_MEMORY"))
    with pytest.raises(FalClientHTTPError, match="the prompt asked for it") as caught:
        handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (500, "runner_server_error")
    status = handle.status()
    assert isinstance(status, fal_client.Completed)
    assert (status.error, status.error_type) == ("the prompt asked for it", "runner_server_error")


def test_cancel_frees_the_place_of_a_queued_request(fal: fal_client.SyncClient, hanging: Any) -> None:
    queued, behind = fal.submit(WAN, wish("queued")), fal.submit(WAN, wish("behind"))
    assert behind.status() == fal_client.Queued(position=1)
    queued.cancel()
    wait_until(lambda: behind.status() == fal_client.Queued(position=0))
    assert vars(queued.status())["error_type"] == "client_cancelled"
    hanging.cancel()
    assert behind.get()["prompt"] == "behind"


def test_cancel_of_a_finished_request_is_400(fal: fal_client.SyncClient) -> None:
    handle = fal.submit(WAN, wish("finished"))
    handle.get()
    with pytest.raises(FalClientHTTPError) as caught:
        handle.cancel()
    assert (caught.value.status_code, caught.value.response.json()) == (400, {"status": "ALREADY_COMPLETED"})
    with pytest.raises(FalClientHTTPError) as caught:
        fal.cancel(WAN, "00000000-0000-0000-0000-000000000000")
    assert (caught.value.status_code, caught.value.response.json()) == (404, {"status": "NOT_FOUND"})


def test_a_clients_timeout_cancels(fal: fal_client.SyncClient, tasks: Callable[[str], list[str]]) -> None:
    with pytest.raises(FalClientTimeoutError):
        fal.subscribe(WAN, wish("hang too"), client_timeout=5)
    wait_until(lambda: tasks("hang too") == ["CANCELLED"])


def test_a_start_timeout_is_504_of_the_users(fal: fal_client.SyncClient, hanging: Any) -> None:
    handle = fal.submit(WAN, wish("too late"), start_timeout=2)
    wait_until(lambda: isinstance(handle.status(), fal_client.Completed))
    with pytest.raises(FalClientHTTPError, match="did not begin within the 2 s") as caught:
        handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (504, "startup_timeout")
    assert caught.value.response_headers["x-fal-request-timeout-type"] == "user"


def test_a_wrong_key_is_refused_at_once(keyed_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(keyed_stand.url, monkeypatch)
    began = time.monotonic()
    with pytest.raises(FalClientHTTPError, match="key of this gateway") as caught:
        fal_client.SyncClient(key="wrong").submit(WAN, wish("x"))
    assert caught.value.status_code == 401
    assert time.monotonic() - began < 10  # ten tries take longer
    assert fal_client.SyncClient(key="sesame").submit(WAN, wish("x")).request_id
    assert fal_client.SyncClient(key="some-id:sesame").submit(WAN, wish("y")).request_id


def test_the_async_client(fal: fal_client.SyncClient) -> None:
    async def main() -> tuple[dict[str, Any], list[Any]]:
        client = fal_client.AsyncClient(key="anything")
        result = await client.subscribe(WAN, wish("async"))
        handle = await client.submit(WAN, wish("slow 1"))
        return result, [event async for event in handle.iter_events(with_logs=True)]

    result, events = asyncio.run(main())
    assert result["prompt"] == "async"
    assert isinstance(events[-1], fal_client.Completed)


def test_a_connection_that_breaks_makes_one_job(
    fal: fal_client.SyncClient,
    stand: Stand,
    expander: SlowExpander,
    tasks: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "broken connection of fal's python client"
    with dropping(stand.port, drops=3, pause_s=ANSWER_S / 4) as proxy:
        point_at(f"http://127.0.0.1:{proxy.port}", monkeypatch)
        handle = fal.submit(WAN, wish(words, enable_prompt_expansion=True))
        assert handle.get()["prompt"] == f"{words}, at length"
        assert proxy.posts == 4
    assert tasks(words) == ["SUCCESS"]
    assert expander.prompts.count(words) == 1


def test_two_equal_wishes_are_two_jobs(fal: fal_client.SyncClient) -> None:
    first, second = fal.submit(WAN, wish("twice")), fal.submit(WAN, wish("twice"))
    assert first.request_id != second.request_id


@pytest.mark.parametrize(("prompt", "status"), [("told", "OK"), ("fail NO_OUTPUT", "ERROR")])
def test_a_webhook_verifies_by_the_gateways_own_keys(
    fal: fal_client.SyncClient, stand: Stand, prompt: str, status: str
) -> None:
    with receiving(500, 200) as receiver:
        handle = fal.submit(WAN, wish(prompt), webhook_url=f"{receiver.url}/hook?a=b")
        wait_until(lambda: len(receiver.calls) > 0)
        [call] = receiver.calls[:1]
    body = json.loads(call.body)
    assert (call.path, body["status"], body["request_id"]) == ("/hook?a=b", status, handle.request_id)
    if status == "OK":
        assert body["payload"]["video"]["url"] == handle.get()["video"]["url"]
    else:
        assert body["error"] == "Invalid status code: 500"
        assert body["payload"] == {"detail": "the prompt asked for it", "error_type": "runner_server_error"}
    [key] = httpx.get(f"{stand.url}/fal/rest/.well-known/jwks.json").json()["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    names = ("request-id", "user-id", "timestamp")
    lines = [call.headers[f"x-fal-webhook-{name}"] for name in names] + [hashlib.sha256(call.body).hexdigest()]
    public.verify(bytes.fromhex(call.headers["x-fal-webhook-signature"]), "\n".join(lines).encode())
    assert abs(int(lines[2]) - time.time()) < 120


def picture_seen(fal: fal_client.SyncClient, url: str) -> str:
    """What the executor's picture hashes to."""
    handle = fal.submit(WAN, wish("look", image_url=url))
    handle.get()
    messages = [item["message"] for item in vars(handle.status(with_logs=True))["logs"]]
    return next(message for message in messages if message.startswith("image_base64 ")).split()[1]


def test_a_picture_as_data_uri(fal: fal_client.SyncClient, tmp_path: Path) -> None:
    content = base64.b64decode(PICTURE.partition(",")[2])
    (tmp_path / "photo.png").write_bytes(content)
    url = fal_client.encode_file(tmp_path / "photo.png")
    assert picture_seen(fal, url) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("repository", ["fal_v3", "fal"])
def test_an_upload_is_a_file_that_a_job_sees(fal: fal_client.SyncClient, repository: Any, tmp_path: Path) -> None:
    content = base64.b64decode(PICTURE.partition(",")[2])
    (tmp_path / "my photo.png").write_bytes(content)
    url = fal.upload_file(tmp_path / "my photo.png", repository=repository)
    assert url.endswith("/my-photo.png")
    answer = httpx.get(url)
    assert (answer.content, answer.headers["content-type"]) == (content, "image/png")
    assert picture_seen(fal, url) == hashlib.sha256(content).hexdigest()


def test_a_large_upload_in_parts(fal: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_client.client, "MULTIPART_THRESHOLD", 1000)
    monkeypatch.setattr(fal_client.client, "MULTIPART_CHUNK_SIZE", 700)
    content = bytes(range(256)) * 10
    url = fal.upload(content, "application/octet-stream", file_name="large.bin")
    assert httpx.get(url).content == content
