"""The OpenAI Videos dialect through the official Python SDK, unmodified: the rows of providers.md 12."""

import base64
import io
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image
from wan_relay.service.gateway.dialects.openai import parse
from wan_relay.tests.service.gateway.sdks.dropping_proxy import UNAVAILABLE, dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.worker.conftest import png
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def client(stand: Stand) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=f"{stand.url}/openai/v1") as client:
        yield client


@pytest.fixture
def raw(stand: Stand) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{stand.url}/openai/v1", timeout=60) as client:
        yield client


def photo() -> tuple[str, bytes, str]:
    return ("photo.png", png((64, 48)), "image/png")


def made(client: OpenAI, prompt: str = "hello", **fields: Any) -> Any:
    return client.videos.create_and_poll(prompt=prompt, input_reference=photo(), **fields)


def test_a_video_from_a_file(client: OpenAI) -> None:
    video = client.videos.create(prompt="slow 1", input_reference=photo(), model="sora-2", seconds="4", size="1280x720")
    assert (video.object, video.model, video.seconds) == ("video", "sora-2", "4")
    assert video.status in ("queued", "in_progress")
    assert isinstance(video.created_at, int)
    seen: list[int] = []

    def finished() -> Any:
        seen.append((now := client.videos.retrieve(video.id)).progress)
        return now.status == "completed" and now

    done = wait_until(finished)
    assert all(0 <= percent <= 100 for percent in seen)
    assert (done.progress, done.size) == (100, "1280x720")
    assert done.expires_at > done.completed_at >= done.created_at


def test_create_and_poll_ends_and_the_content_is_the_file(client: OpenAI) -> None:
    video = made(client)
    assert video.status == "completed"
    content = client.videos.download_content(video.id)
    assert content.response.headers["content-type"] == "video/mp4"
    assert content.read()[4:8] == b"ftyp"


def test_create_and_poll_honours_the_pause_that_each_answer_names(stand: Stand) -> None:
    looks: list[tuple[float, httpx.Response]] = []
    hooks = {"response": [lambda answer: looks.append((time.monotonic(), answer))]}
    with OpenAI(
        api_key="any", base_url=f"{stand.url}/openai/v1", http_client=httpx.Client(event_hooks=hooks, timeout=60)
    ) as client:
        assert client.videos.create_and_poll(prompt="slow 2.5").status == "completed"
    created, *polls = looks
    assert [answer.request.method for _, answer in looks] == ["POST"] + ["GET"] * len(polls)
    assert {answer.headers.get("openai-poll-after-ms") for _, answer in (created, *polls[:-1])} == {"1000"}
    assert len(polls) >= 3
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(polls)]
    assert min(pauses) >= 1.0


@pytest.mark.parametrize("variant", ["thumbnail", "spritesheet"])
def test_stills_are_pictures(client: OpenAI, variant: Any) -> None:
    video = made(client, size="320x192")
    picture = Image.open(io.BytesIO(client.videos.download_content(video.id, variant=variant).read()))
    assert picture.format == "JPEG"
    assert picture.size == {"thumbnail": (320, 192), "spritesheet": (960, 144)}[variant]


def test_words_alone_are_a_video_too(client: OpenAI) -> None:
    assert client.videos.create_and_poll(prompt="hello").status == "completed"


def test_an_address_in_an_object(raw: httpx.Client) -> None:
    body = {"prompt": "hello", "input_reference": {"image_url": PICTURE}}
    as_json = raw.post("/videos", json=body)
    as_form = raw.post("/videos", data={"prompt": "hello", "input_reference[image_url]": PICTURE})
    for answer in (as_json, as_form):
        assert answer.status_code == 200, answer.text
        assert answer.headers["openai-poll-after-ms"] == "1000"


@pytest.mark.parametrize("is_multipart", [False, True])
def test_a_data_uri_in_a_form_may_be_as_large_as_a_file(raw: httpx.Client, stand: Stand, is_multipart: bool) -> None:
    picture = png() + os.urandom(20 * 1024 * 1024 - len(png()))
    data_uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    fields = {"prompt": "hello", "input_reference[image_url]": data_uri}
    parts = {name: (None, value) for name, value in fields.items()}
    answer = raw.post("/videos", files=parts) if is_multipart else raw.post("/videos", data=fields)
    assert answer.status_code == 200, answer.text
    [kept] = (stand.folder / "objects" / "inputs" / answer.json()["id"].removeprefix("video_")).iterdir()
    assert kept.read_bytes() == picture


def test_the_list_has_pages(client: OpenAI) -> None:
    for n in range(3):
        client.videos.create(prompt=f"page {n}", input_reference=photo())
    first = client.videos.list(limit=2)
    assert len(first.data) == 2
    ids = [video.id for video in client.videos.list(limit=2, order="desc")]
    assert len(ids) == len(set(ids)) >= 3
    assert ids[:2] == [video.id for video in first.data]
    assert [video.id for video in client.videos.list(limit=50, order="asc")] == ids[::-1]


def test_a_deleted_video_is_gone(client: OpenAI) -> None:
    video = made(client)
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_a_remix_has_another_prompt_and_the_same_picture(client: OpenAI) -> None:
    video = made(client, "first")
    remix = client.videos.remix(video.id, prompt="second")
    assert (remix.prompt, remix.remixed_from_video_id) == ("second", video.id)
    assert wait_until(lambda: client.videos.retrieve(remix.id).status == "completed")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "tall"}, "size"),
        ({"size": "9999x16"}, "size"),
        ({"seconds": "99"}, "seconds"),
        ({"model": "unknown"}, "model"),
        ({"guidance_scale": "much"}, "guidance_scale"),
        ({"prompt": ""}, "prompt"),
        ({"input_reference": "***"}, "input_reference"),
        ({"lora": "x"}, "lora"),
        ({"lora[name]": "x"}, "lora"),
        ({"extra_params": "{}"}, "extra_params"),
        ({"frame_interpolation_exp": "4"}, "frame_interpolation_exp"),
        ({"enable_frame_interpolation": "maybe"}, "enable_frame_interpolation"),
    ],
)
def test_a_bad_field_is_named(raw: httpx.Client, fields: dict[str, str], param: str) -> None:
    answer = raw.post("/videos", data={"prompt": "hello", **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"}


def test_the_sdk_raises_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="hello", size="9:16")  # type: ignore[arg-type]
    assert caught.value.param == "size"


def test_fields_of_other_servers_reach_the_job(client: OpenAI, stand: Stand) -> None:
    """As vLLM-Omni's clients send them; what the job became is shown by the gateway's own API."""
    extra = {"num_frames": 33, "fps": 12, "seed": 7, "guidance_scale": 2.0, "guidance_scale_2": 3.0, "flow_shift": 4.0}
    video = made(client, extra_body=extra)
    assert video.status == "completed"
    with stand.client(prefix="/api/v1") as api:
        found = api.get(f"/videos/{video.id}").json()
    assert (found["seed"], found["video"]["num_frames"], found["video"]["fps"]) == (7, 33, 12)
    said = {name: found["settings"][name] for name in ("shift", "high_noise_cfg", "low_noise_cfg")}
    assert said == {"shift": 4.0, "high_noise_cfg": 3.0, "low_noise_cfg": 2.0}


def test_what_is_not_known_is_said_in_the_video(client: OpenAI, raw: httpx.Client) -> None:
    video: Any = client.videos.create(
        prompt="hello", input_reference=photo(), extra_body={"quality": "high", "a": {"b": 1}}
    )
    expected = ["field quality is not known and was ignored", "field a[b] is not known and was ignored"]
    later: Any = client.videos.retrieve(video.id)
    assert video.warnings == later.warnings == expected
    as_json = raw.post("/videos", json={"prompt": "hello", "image_reference": {"image_url": PICTURE}, "n": 2}).json()
    assert as_json["warnings"] == ["field n is not known and was ignored"]
    audio = ("a.wav", b"RIFF", "audio/wav")
    with_file = raw.post("/videos", data={"prompt": "words alone"}, files={"audio": audio}).json()
    assert with_file["warnings"] == ["field audio is not known and was ignored"]
    assert wait_until(lambda: client.videos.retrieve(with_file["id"]).status == "completed")
    remix = raw.post(f"/videos/{with_file['id']}/remix", json={"prompt": "again", "style": 1}).json()
    assert remix["warnings"] == ["field style is not known and was ignored"]


def test_a_video_of_another_dialect_is_none_of_this(client: OpenAI, stand: Stand) -> None:
    body = {"model": "gen4_turbo", "promptImage": PICTURE, "promptText": "x", "ratio": "1280:720", "duration": 5}
    with stand.client(prefix="/runway/v1") as other:
        other.headers["X-Runway-Version"] = "2024-11-06"
        task_id = other.post("/image_to_video", json=body).json()["id"]
        calls = (client.videos.retrieve, client.videos.delete, client.videos.download_content)
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                call(task_id)
        with pytest.raises(openai.NotFoundError):
            client.videos.remix(task_id, prompt="x")
        assert other.get(f"/tasks/{task_id}").status_code == 200


def test_an_error_has_the_requests_id(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.retrieve("nothing")
    assert len(caught.value.request_id or "") == 36


@pytest.mark.parametrize("instead", [b"", UNAVAILABLE], ids=["broken", "503"])
def test_a_connection_that_breaks_makes_one_job(
    stand: Stand, tasks: Callable[[str], list[str]], instead: bytes
) -> None:
    words = f"broken connection of python's openai {instead[9:12].decode()}"
    with (
        dropping(stand.port, drops=2, instead=instead) as proxy,
        OpenAI(api_key="any", base_url=f"http://127.0.0.1:{proxy.port}/openai/v1") as client,
    ):
        video = client.videos.create(prompt=words, input_reference=photo())
        assert proxy.posts == 3
        assert wait_until(lambda: client.videos.retrieve(video.id).status == "completed")
    assert tasks(words) == ["SUCCESS"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"enable_frame_interpolation": "true"}, ("rife", 2)),
        ({"enable_frame_interpolation": True, "frame_interpolation_exp": 3}, ("rife", 8)),
        ({"enable_frame_interpolation": "false", "frame_interpolation_exp": "2"}, ("none", 2)),
        ({"frame_interpolation_exp": 2}, ("none", 2)),
    ],
)
def test_interpolation_as_vllm_omni_and_sglang_spell_it(fields: dict[str, Any], expected: tuple[str, int]) -> None:
    request = parse({"prompt": "hello", **fields}, {}).request
    assert (request.interpolation, request.interpolation_factor) == expected
    assert not request.slow_motion


def test_a_failed_video_says_why(client: OpenAI) -> None:
    video = made(client, "fail OUT_OF_MEMORY")
    assert video.status == "failed"
    assert (video.error.code, video.error.message) == ("out_of_memory", "the prompt asked for it")


def test_a_failed_video_names_the_fields_of_the_client(client: OpenAI) -> None:
    video = made(client, "fail INVALID_IMAGE of image_base64")
    assert video.error.message == "input_reference: the prompt asked for it"


def test_a_video_that_is_not_ready_has_no_content(client: OpenAI) -> None:
    video = client.videos.create(prompt="slow 5", input_reference=photo())
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(video.id)
    client.videos.delete(video.id)


def test_a_wrong_key(keyed_stand: Stand) -> None:
    with (
        OpenAI(api_key="wrong", base_url=f"{keyed_stand.url}/openai/v1") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.videos.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(("limit", "most"), [("1", 1), ("0", 1), ("x", 20), ("9" * 5000, 20)])
def test_a_limit_of_any_kind_is_answered(raw: httpx.Client, client: OpenAI, limit: str, most: int) -> None:
    for n in range(3):
        client.videos.create(prompt=f"limit {n}", input_reference=photo())
    page = raw.get("/videos", params={"limit": limit})
    assert page.status_code == 200
    assert min(3, most) <= len(page.json()["data"]) <= most
