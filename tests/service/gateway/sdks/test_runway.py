"""Runway's dialect through the official Python SDK, unmodified: the rows of providers.md 12."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import runwayml
from runwayml import RunwayML, TaskFailedError
from wan_relay.tests.service.gateway.sdks.conftest import LimitedStand
from wan_relay.tests.service.gateway.sdks.dropping_proxy import UNAVAILABLE, dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.worker.conftest import png
from wan_relay.tests.waiting import wait_until

VERSION = {"X-Runway-Version": "2024-11-06"}
RATIOS = {"1280:720", "720:1280", "1104:832", "832:1104", "960:960", "1584:672"}
ARGUMENTS: dict[str, Any] = {
    "model": "gen4_turbo",
    "prompt_image": PICTURE,
    "prompt_text": "hello",
    "ratio": "1280:720",
    "duration": 5,
}


@pytest.fixture
def client(stand: Stand) -> Iterator[RunwayML]:
    with RunwayML(api_key="any", base_url=f"{stand.url}/runway", max_retries=2) as client:
        yield client


@pytest.fixture
def raw(stand: Stand) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{stand.url}/runway/v1", headers=VERSION, timeout=60) as client:
        yield client


def ended(client: RunwayML, task_id: str) -> Any:
    return wait_until(
        lambda: (t := client.tasks.retrieve(task_id)).status in ("SUCCEEDED", "FAILED", "CANCELLED") and t
    )


def kind_of(task: Any) -> str:
    return type(task).__name__.removeprefix("Awaitable")


def body(**fields: Any) -> dict[str, Any]:
    sent = {"model": "gen4_turbo", "promptImage": PICTURE, "promptText": "hello", "ratio": "1280:720", "duration": 5}
    return {name: value for name, value in {**sent, **fields}.items() if value != "left out"}


def test_a_task_ends_with_a_video(client: RunwayML) -> None:
    task = client.image_to_video.create(**ARGUMENTS).wait_for_task_output()
    assert (kind_of(task), task.status) == ("Succeeded", "SUCCEEDED")
    video = httpx.get(task.output[0])
    assert (video.status_code, video.headers["content-type"], video.content[4:8]) == (200, "video/mp4", b"ftyp")


def test_each_state_is_the_class_that_the_sdk_has_for_it(client: RunwayML) -> None:
    running = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "slow 8"}).id
    waiting = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "slow 0.1"}).id
    seen = wait_until(lambda: (t := client.tasks.retrieve(running)).status == "RUNNING" and t)
    assert kind_of(seen) == "Running"
    assert 0 <= seen.progress <= 1
    pending = client.tasks.retrieve(waiting)
    assert (kind_of(pending), pending.status) == ("Pending", "PENDING")
    done = ended(client, waiting)
    assert (kind_of(done), done.cost.credits) == ("Succeeded", 0)


def test_tasks_that_failed_and_that_were_cancelled_elsewhere(client: RunwayML, stand: Stand) -> None:
    """The gateway's own API shows and cancels what came in by any dialect."""
    task_id = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "hang"}).id
    with stand.client(prefix="/api/v1") as own:
        assert own.delete(f"/videos/{task_id}").status_code == 204
    cancelled = ended(client, task_id)
    assert (kind_of(cancelled), cancelled.status, cancelled.cost.credits) == ("Cancelled", "CANCELLED", 0)
    failed = ended(client, client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "fail NO_OUTPUT"}).id)
    assert (kind_of(failed), failed.failure_code, failed.cost.credits) == ("Failed", "INTERNAL.BAD_OUTPUT", 0)


def test_a_list_of_key_frames_equals_a_string(client: RunwayML) -> None:
    frames = [{"uri": PICTURE, "position": "first"}]
    task_id = client.image_to_video.create(**{**ARGUMENTS, "prompt_image": frames}).id
    assert ended(client, task_id).status == "SUCCEEDED"


def test_a_ratio_that_is_none_names_its_field(client: RunwayML) -> None:
    with pytest.raises(runwayml.BadRequestError) as caught:
        client.image_to_video.create(**{**ARGUMENTS, "ratio": "9:16"})
    answer = caught.value.body
    assert isinstance(answer, dict)
    assert answer["error"] == "Validation of body failed"
    assert [issue["path"] for issue in answer["issues"]] == [["ratio"]]
    assert answer["issues"][0]["message"] == (
        "`ratio` must be one of: 1280:720, 720:1280, 1104:832, 832:1104, 960:960, 1584:672"
    )


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"seed": None}, ["seed"]),
        ({"seed": 4294967296}, ["seed"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": "7"}, ["seed"]),
        ({"promptImage": "left out"}, ["promptImage"]),
        ({"promptImage": ""}, ["promptImage", 0, "uri"]),
        ({"promptImage": "ftp://example.com/a.png"}, ["promptImage", 0, "uri"]),
        ({"promptImage": "runway://no-upload"}, ["promptImage", 0, "uri"]),
        ({"promptImage": "runway://uploads/../a.png?signature=0"}, ["promptImage", 0, "uri"]),
        ({"promptImage": []}, ["promptImage"]),
        ({"promptText": ""}, ["promptText"]),
        ({"promptText": " "}, ["promptText"]),
        ({"promptText": "x" * 1001}, ["promptText"]),
        ({"promptText": "😀" * 501}, ["promptText"]),
        ({"duration": 11}, ["duration"]),
        ({"duration": 5.5}, ["duration"]),
        ({"model": "gen9"}, ["model"]),
        ({"model": "left out"}, ["model"]),
        ({"ratio": "left out"}, ["ratio"]),
        ({"secret_token": "sesame"}, []),
    ],
)
def test_a_bad_field_is_an_issue(raw: httpx.Client, fields: dict[str, Any], path: list[Any]) -> None:
    answer = raw.post("/image_to_video", json=body(**fields))
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "issues", "docUrl"}
    assert path in [issue["path"] for issue in answer.json()["issues"]]
    assert "sesame" not in answer.text
    assert "secret_token" not in answer.text


@pytest.mark.parametrize("ratio", sorted(RATIOS))
def test_the_video_has_the_ratio_exactly(client: RunwayML, stand: Stand, ratio: str) -> None:
    import io

    import av

    task = ended(client, client.image_to_video.create(**{**ARGUMENTS, "ratio": ratio}).id)
    with av.open(io.BytesIO(httpx.get(task.output[0]).content)) as video:
        stream = video.streams.video[0]
        assert f"{stream.width}:{stream.height}" == ratio


def test_a_failure_has_its_code(client: RunwayML) -> None:
    created = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "fail INVALID_IMAGE"})
    with pytest.raises(TaskFailedError) as caught:
        created.wait_for_task_output()
    details = caught.value.task_details
    assert (details.failure, details.failure_code) == ("the prompt asked for it", "ASSET.INVALID")


def test_a_failure_names_the_fields_of_the_client(client: RunwayML) -> None:
    created = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "fail INVALID_IMAGE of image_base64"})
    with pytest.raises(TaskFailedError) as caught:
        created.wait_for_task_output()
    assert caught.value.task_details.failure == "promptImage: the prompt asked for it"


def test_a_deleted_task_is_gone_and_its_place_is_free(client: RunwayML) -> None:
    running = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "hang"}).id
    wait_until(lambda: client.tasks.retrieve(running).status == "RUNNING")
    client.tasks.delete(running)
    with pytest.raises(runwayml.NotFoundError):
        client.tasks.retrieve(running)
    assert ended(client, client.image_to_video.create(**ARGUMENTS).id).status == "SUCCEEDED"


def test_an_upload_is_used_once_and_twice(client: RunwayML) -> None:
    uploaded = client.uploads.create_ephemeral(file=("photo.png", png((64, 48)), "image/png"))
    assert uploaded.uri.startswith("runway://")
    for _ in range(2):
        task = ended(client, client.image_to_video.create(**{**ARGUMENTS, "prompt_image": uploaded.uri}).id)
        assert task.status == "SUCCEEDED"


def test_the_version_header_is_needed(stand: Stand) -> None:
    answer = httpx.post(f"{stand.url}/runway/v1/image_to_video", json=body())
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "The X-Runway-Version header is required, such as 2024-11-06"},
    )


def test_nothing_is_found_in_its_words(raw: httpx.Client) -> None:
    assert raw.get("/tasks/00000000-0000-4000-8000-000000000000").status_code == 404
    assert set(raw.get("/nothing").json()) == {"error"}


def test_over_its_limit_a_key_is_throttled_and_later_runs(limited_stand: LimitedStand) -> None:
    with RunwayML(api_key=limited_stand.one_at_a_time, base_url=f"{limited_stand.url}/runway") as client:
        first = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": "slow 3"}).id
        second = client.image_to_video.create(**ARGUMENTS).id
        assert client.tasks.retrieve(second).status == "THROTTLED"
        assert ended(client, first).status == "SUCCEEDED"
        assert ended(client, second).status == "SUCCEEDED"


def test_a_wrong_key(keyed_stand: Stand) -> None:
    with (
        RunwayML(api_key="wrong", base_url=f"{keyed_stand.url}/runway") as stranger,
        pytest.raises(runwayml.AuthenticationError),
    ):
        stranger.tasks.retrieve("00000000-0000-4000-8000-000000000000")


def test_what_is_not_honoured_is_said_in_the_task(client: RunwayML) -> None:
    """In a field that the SDK does not know, in each of its classes."""
    task_id = client.image_to_video.create(**ARGUMENTS, extra_body={"watermark": True}).id
    assert client.tasks.retrieve(task_id).to_dict()["warnings"] == ["this gateway adds no watermark"]
    done = ended(client, task_id)
    assert (kind_of(done), done.warnings) == ("Succeeded", ["this gateway adds no watermark"])


def test_a_task_of_another_dialect_is_none_of_this(client: RunwayML, stand: Stand) -> None:
    with stand.client(prefix="/openai/v1") as other:
        video_id = other.post("/videos", json={"prompt": "slow 2"}).json()["id"]
        for call in (client.tasks.retrieve, client.tasks.delete):
            with pytest.raises(runwayml.NotFoundError):
                call(video_id)
        assert other.get(f"/videos/{video_id}").status_code == 200


@pytest.mark.parametrize("instead", [b"", UNAVAILABLE], ids=["broken", "503"])
def test_a_connection_that_breaks_makes_one_job(
    stand: Stand, tasks: Callable[[str], list[str]], instead: bytes
) -> None:
    words = f"broken connection of runwayml {instead[9:12].decode()}"
    with (
        dropping(stand.port, drops=2, instead=instead) as proxy,
        RunwayML(api_key="any", base_url=f"http://127.0.0.1:{proxy.port}/runway") as client,
    ):
        task_id = client.image_to_video.create(**{**ARGUMENTS, "prompt_text": words}).id
        assert proxy.posts == 3
        assert ended(client, task_id).status == "SUCCEEDED"
    assert tasks(words) == ["SUCCESS"]
