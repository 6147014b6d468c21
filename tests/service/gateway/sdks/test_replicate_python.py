"""Replicate's Python client, as it is: the rows of providers.md 12."""

import asyncio
import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import replicate
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.webhook import InvalidSignatureError, Webhooks
from wan_relay.service.gateway.dialects.replicate_inputs import MODELS
from wan_relay.tests.service.gateway.sdks.dropping_proxy import dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.gateway.webhook_receiver import receiving
from wan_relay.tests.waiting import wait_until

BASE = "wan-video/wan-2.2-i2v-a14b"
FAST = "wan-video/wan-2.2-i2v-fast"
TEXT = "wan-video/wan-2.2-t2v-fast"
CONTENT = base64.b64decode(PICTURE.partition(",")[2])


def wish(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "image": PICTURE, **more}


@pytest.fixture
def client(stand: Stand) -> Client:
    return Client(base_url=f"{stand.url}/replicate", api_token="anything")


@pytest.fixture
def hanging(client: Client) -> Iterator[Any]:
    """A prediction that runs until it is canceled."""
    prediction = client.models.predictions.create(FAST, input=wish("hang"))
    wait_until(lambda: client.predictions.get(prediction.id).status == "processing")
    yield prediction
    client.predictions.cancel(prediction.id)


def test_run_over_tls_gives_a_file(tls_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_stand.folder / "tls" / "ca.crt"))
    client = Client(base_url=f"{tls_stand.url}/replicate", api_token="anything")
    output = client.run(FAST, input=wish("file"))
    assert isinstance(output, FileOutput)
    assert output.read()[4:8] == b"ftyp"


def test_run_over_plain_http_gives_the_link(client: Client) -> None:
    output = client.run(BASE, input=wish("link", go_fast=True))
    assert httpx.get(output).content[4:8] == b"ftyp"


def test_a_slow_prediction_is_polled_to_its_end(client: Client) -> None:
    prediction = client.models.predictions.create(FAST, input=wish("slow 2"), wait=1)
    assert prediction.status == "starting"
    assert client.run(FAST, input=wish("slow 2"), wait=1).startswith("http")
    prediction.reload()
    assert prediction.status == "succeeded"


def test_wait_is_kept_to(client: Client, hanging: Any) -> None:
    began = time.monotonic()
    prediction = client.models.predictions.create(FAST, input=wish("waits"), wait=1)
    assert time.monotonic() - began > 0.7
    assert prediction.status == "starting"  # the client itself would have given up at 1.5 s
    client.predictions.cancel(prediction.id)


def test_run_by_version(client: Client) -> None:
    version = MODELS["wan-2.2-i2v-fast"].version
    assert client.run(f"{FAST}:{version}", input=wish("by version")).startswith("http")
    known = "4eaf2b01" + "0" * 56
    assert client.run(f"{FAST}:{known}", input=wish("by the provider's version")).startswith("http")
    with pytest.raises(ReplicateError) as caught:
        client.run(f"{FAST}:{'0' * 64}", input=wish("x"))
    assert (caught.value.status, "can be run by name" in str(caught.value.detail)) == (422, True)
    assert client.predictions.create(FAST, input=wish("by name")).status == "starting"


def test_create_get_list_cancel(client: Client, hanging: Any) -> None:
    prediction = client.predictions.create(FAST, input=wish("listed", seed=4))
    assert client.predictions.get(prediction.id).input == {
        "prompt": "listed",
        "image": "data:image/png;base64,…",
        "seed": 4,
    }
    assert client.predictions.list().results[0].id == prediction.id
    assert client.predictions.cancel(prediction.id).status == "canceled"
    assert client.predictions.get(prediction.id).status == "canceled"
    hanging.cancel()
    hanging.wait()
    assert (hanging.status, hanging.output, hanging.error) == ("canceled", None, None)


def test_cancel_of_a_finished_one_changes_nothing(client: Client) -> None:
    prediction = client.models.predictions.create(FAST, input=wish("done"), wait=True)
    assert prediction.status == "succeeded"
    prediction.cancel()
    assert prediction.status == "succeeded"


def test_a_model_with_its_version(client: Client) -> None:
    model = client.models.get(FAST)
    assert (model.owner, model.name, model.visibility) == ("wan-video", "wan-2.2-i2v-fast", "public")
    assert model.latest_version.id == MODELS["wan-2.2-i2v-fast"].version
    schema = model.latest_version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    assert schema["num_frames"]["maximum"] == 121
    assert [each.name for each in client.models.list().results] == list(MODELS)
    assert [each.id for each in model.versions.list().results] == [model.latest_version.id]
    with pytest.raises(ReplicateError) as caught:
        client.models.get("black-forest-labs/flux-schnell")
    assert caught.value.status == 404


def test_a_deployment(client: Client) -> None:
    deployment = client.deployments.get("my-team/wan-2.2-t2v-fast")
    prediction = deployment.predictions.create(input={"prompt": "deployed"})
    prediction.wait()
    assert prediction.status == "succeeded"


def picture_seen(prediction: Any) -> str:
    prediction.wait()
    return next(line for line in prediction.logs.split("\n") if line.startswith("image_base64 ")).split()[1]


@pytest.mark.parametrize("strategy", ["url", "base64"])
def test_a_file_in_the_input_is_seen(client: Client, strategy: Any) -> None:
    file = io.BytesIO(CONTENT)
    file.name = "photo.png"
    prediction = client.models.predictions.create(FAST, input=wish("look", image=file), file_encoding_strategy=strategy)
    assert picture_seen(prediction) == hashlib.sha256(CONTENT).hexdigest()


def test_files(client: Client, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(CONTENT)
    file = client.files.create(tmp_path / "photo.png", metadata={"a": 1})
    assert (file.name, file.content_type, file.size, file.metadata) == (
        "photo.png",
        "image/png",
        len(CONTENT),
        {"a": 1},
    )
    assert file.checksums["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert client.files.get(file.id).id == file.id
    assert file.id in [each.id for each in client.files.list()]
    assert httpx.get(file.urls["get"]).content == CONTENT
    client.files.delete(file.id)
    assert httpx.get(file.urls["get"]).status_code == 404
    with pytest.raises(ReplicateError):
        client.files.get(file.id)


def test_a_bad_field_is_422_and_named(client: Client) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.run(FAST, input=wish("bad", num_frames=900))
    assert (caught.value.status, caught.value.title) == (422, "Input validation failed")
    assert caught.value.detail == "- input.num_frames: num_frames must be from 81 to 121\n"


def test_a_key_in_the_input_is_not_told(client: Client, stand: Stand) -> None:
    prediction = client.predictions.create(FAST, input=wish("quiet", auth="r8_secret-token"))
    prediction.wait()
    assert "r8_secret" not in httpx.get(prediction.urls["get"]).text
    assert "r8_secret" not in stand.errors()
    with pytest.raises(ReplicateError) as caught:
        client.run(FAST, input={"auth": "r8_secret-token"})
    assert "r8_secret" not in str(caught.value)


def test_a_failure_is_a_model_error(client: Client) -> None:
    with pytest.raises(ModelError) as caught:
        client.run(FAST, input=wish("fail OUT_OF_MEMORY"))
    assert str(caught.value) == "OUT_OF_MEMORY: the prompt asked for it"
    assert caught.value.prediction.error == str(caught.value)


def test_progress_is_read_from_the_logs(client: Client) -> None:
    prediction = client.predictions.create(FAST, input=wish("slow 4"))
    seen = set()
    while prediction.status in ("starting", "processing"):
        prediction.reload()
        if prediction.progress:
            seen.add((prediction.progress.current, prediction.progress.total, prediction.progress.percentage))
        time.sleep(0.05)
    assert {(1, 4, 0.25), (4, 4, 1.0)} <= seen


def test_a_stream_tells_logs_output_and_done(client: Client) -> None:
    prediction = client.predictions.create(FAST, input=wish("slow 1"))
    events = list(prediction.stream())
    names = [event.event.value for event in events]
    assert names[-2:] == ["output", "done"]
    assert set(names[:-2]) == {"logs"}
    prediction.reload()
    assert events[-2].data == prediction.output
    said = "".join(event.data for event in events if event.event.value == "logs").split("\n")
    assert sorted(line for line in said if line) == sorted(prediction.logs.split("\n"))


def test_webhooks_are_signed_and_filtered(client: Client) -> None:
    secret = client.webhooks.default.secret()
    with receiving() as receiver:
        prediction = client.predictions.create(
            FAST, input=wish("slow 3"), webhook=f"{receiver.url}/all", webhook_events_filter=["start", "completed"]
        )
        wait_until(lambda: len(receiver.calls) >= 2)
        time.sleep(1)
        calls = list(receiver.calls)
    assert [json.loads(call.body)["status"] for call in calls] == ["processing", "succeeded"]
    assert json.loads(calls[-1].body)["output"] == client.predictions.get(prediction.id).output
    for call in calls:
        Webhooks.validate(headers=call.headers, body=call.body.decode(), secret=secret, tolerance=300)
        with pytest.raises(InvalidSignatureError):
            Webhooks.validate(headers=call.headers, body=call.body.decode() + " ", secret=secret)
    assert len({call.headers["webhook-id"] for call in calls}) == 2


def test_webhooks_tell_logs_in_between(client: Client) -> None:
    with receiving() as receiver:
        client.predictions.create(FAST, input=wish("slow 6"), webhook=receiver.url)
        wait_until(lambda: receiver.calls and json.loads(receiver.calls[-1].body)["status"] == "succeeded")
    bodies = [json.loads(call.body) for call in receiver.calls]
    assert [body["status"] for body in bodies[:-1]] == ["processing"] * (len(bodies) - 1)
    assert len({body["logs"] for body in bodies}) >= 3


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
def test_a_key(keyed_stand: Stand, scheme: str) -> None:
    for key, status in (("sesame", 200), ("wrong", 401)):
        answer = httpx.get(f"{keyed_stand.url}/replicate/v1/predictions", headers={"Authorization": f"{scheme} {key}"})
        assert answer.status_code == status
    with pytest.raises(ReplicateError) as caught:
        Client(base_url=f"{keyed_stand.url}/replicate", api_token="wrong").run(FAST, input=wish("x"))
    assert (caught.value.status, caught.value.title) == (401, "Unauthenticated")


def test_the_base_address_with_v1_too(stand: Stand) -> None:
    client = Client(base_url=f"{stand.url}/replicate/v1", api_token="anything")
    assert client.run(FAST, input=wish("twice v1")).startswith("http")
    assert httpx.get(f"{stand.url}/replicate/predictions").status_code == 200


def test_a_connection_that_breaks_makes_one_job(stand: Stand, tasks: Callable[[str], list[str]]) -> None:
    """This client never repeats a submit."""
    words = "broken connection of replicate 1.x"
    with dropping(stand.port, drops=1, pause_s=0.2) as proxy:
        client = Client(base_url=f"http://127.0.0.1:{proxy.port}/replicate", api_token="anything")
        with pytest.raises(httpx.TransportError):
            client.run(FAST, input=wish(words))
        assert proxy.posts == 1
    wait_until(lambda: tasks(words) == ["SUCCESS"])


def test_cancel_after(client: Client, stand: Stand) -> None:
    answer = httpx.post(
        f"{stand.url}/replicate/v1/models/{FAST}/predictions",
        json={"input": wish("hang")},
        headers={"Cancel-After": "5s"},
    )
    prediction = client.predictions.get(answer.json()["id"])
    prediction.wait()
    assert (prediction.status, prediction.error) == ("canceled", None)


def test_the_async_client(stand: Stand) -> None:
    client = Client(base_url=f"{stand.url}/replicate", api_token="anything")
    output = asyncio.run(client.async_run(TEXT, input={"prompt": "async"}))
    assert output.startswith("http")


def test_the_module_by_its_environment(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", f"{stand.url}/replicate")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "anything")
    assert replicate.client.Client().run(TEXT, input={"prompt": "by environment"}).startswith("http")
