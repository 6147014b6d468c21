"""The project's own API: what a body becomes, and the whole of it over HTTP with a fast executor."""

import json
import time
from typing import Any

import httpx
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import Failure
from wan_relay.service.gateway.dialects import api
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

BODY = {"prompt": "hello", "image_url": PICTURE}


def sent(**fields: Any) -> dict[str, Any]:
    """What a body with these fields asks of the worker."""
    return api.parse({**BODY, **fields}).request.to_wire()


def refusal(**fields: Any) -> Failure:
    with pytest.raises(JobError) as caught:
        api.parse({**BODY, **fields})
    return caught.value.failure


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"length": 81, "fps": 16, "resolution": "720p", "aspect_ratio": "auto", "shift": 5.0}),
        ({"resolution": "480p"}, {"resolution": "480p", "shift": 3.0}),
        ({"resolution": "480P", "shift": 8}, {"resolution": "480p", "shift": 8.0}),
        ({"duration": 5}, {"length": 81}),
        ({"duration": 8}, {"length": 129}),
        ({"aspect_ratio": "9:16"}, {"aspect_ratio": "9:16"}),
        ({"seed": 7}, {"seed": 7}),
        ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
        ({"image_url": "https://example.com/a.jpg"}, {"image_url": "https://example.com/a.jpg"}),
        ({"end_image_url": PICTURE}, {"end_image_base64": PICTURE}),
        (
            {"model": "reference"},
            {
                "workflow": "wan22_i2v_reference",
                "steps": 40,
                "high_noise_cfg": 3.5,
                "low_noise_cfg": 3.5,
                "switch": "boundary",
                "boundary": 0.9,
            },
        ),
        ({"model": "reference", "steps": 20, "cfg": 4}, {"steps": 20, "high_noise_cfg": 4.0, "low_noise_cfg": 4.0}),
        ({"model": "5b"}, {"workflow": "wan22_ti2v_5b"}),
        ({"loop": True, "frame_order": "Reverse"}, {"loop": True, "frame_order": "reverse"}),
        ({"interpolation": "rife"}, {"interpolation": "rife"}),
        ({"interpolation": "film", "interpolation_factor": 4}, {"interpolation": "film", "interpolation_factor": 4}),
        ({"task_type": "t2v", "image_url": None}, {"workflow": "wan22_t2v_4step"}),
        ({"task_type": "t2v", "image_url": None, "model": "5b"}, {"workflow": "wan22_ti2v_5b"}),
        (
            {"loras": [{"high": "https://example.com/a.safetensors", "low": "b.safetensors", "low_strength": 2}]},
            {"loras": [{"high": "https://example.com/a.safetensors", "low": "b.safetensors", "low_strength": 2.0}]},
        ),
    ],
)
def test_the_fields_of_the_common_json(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = sent(**fields)
    assert {name: request[name] for name in expected} == expected
    assert "cfg" not in request or "model" not in fields


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"prompt": None}, "MISSING_FIELD", "prompt"),
        ({"prompt": " "}, "MISSING_FIELD", "prompt"),
        ({"prompt": 3}, "INVALID_TYPE", "prompt"),
        ({"task_type": "v2v"}, "INVALID_VALUE", "task_type"),
        ({"image_url": None}, "MISSING_FIELD", "image_url"),
        ({"image_url": None, "model": "5b"}, "MISSING_FIELD", "image_url"),
        ({"image_url": None, "end_image_url": PICTURE, "model": "5b"}, "MISSING_FIELD", "image_url"),
        ({"end_image_url": PICTURE, "model": "5b"}, "CONFLICT", "end_image_url"),
        ({"task_type": "t2v"}, "CONFLICT", "task_type"),
        ({"task_type": "t2v", "model": "5b"}, "CONFLICT", "task_type"),
        ({"task_type": "t2v", "image_url": None, "end_image_url": PICTURE}, "CONFLICT", "task_type"),
        ({"loop": True, "end_image_url": PICTURE}, "CONFLICT", "loop"),
        ({"loop": True, "model": "5b"}, "CONFLICT", "loop"),
        ({"interpolation": "blend"}, "INVALID_VALUE", "interpolation"),
        ({"interpolation_factor": 9}, "OUT_OF_RANGE", "interpolation_factor"),
        ({"interpolation_factor": 3}, "CONFLICT", "interpolation_factor"),
        ({"frame_order": "back"}, "INVALID_VALUE", "frame_order"),
        ({"task_type": "t2v", "model": "reference"}, "INVALID_VALUE", "model"),
        ({"resolution": "1080p"}, "INVALID_VALUE", "resolution"),
        ({"duration": 60}, "OUT_OF_RANGE", "duration"),
        ({"duration": "soon"}, "INVALID_TYPE", "duration"),
        ({"seed": -2}, "OUT_OF_RANGE", "seed"),
        ({"enable_prompt_expansion": "yes"}, "INVALID_TYPE", "enable_prompt_expansion"),
        ({"loras": [{"high": "/etc/secret-token"}]}, "INVALID_VALUE", "loras"),
        ({"loras": {"high": "a.safetensors"}}, "INVALID_TYPE", "loras"),
        ({"auth": "secret-token"}, "UNKNOWN_FIELD", None),
    ],
)
def test_a_bad_field_is_one_sentence(fields: dict[str, Any], code: str, field: str | None) -> None:
    failure = refusal(**fields)
    assert (failure.code, failure.field) == (code, field)
    assert "secret-token" not in failure.sentence
    status, body = api.reject(failure, "")
    assert status == 400
    assert body["error"].pop("message")
    assert body == {"error": {"code": code, "field": field}}


def test_sentences_name_the_fields_of_the_common_json() -> None:
    assert refusal(image_url=None).sentence == "image_url is needed"
    assert refusal(task_type="t2v").sentence == "task_type t2v takes no picture, and image_url was sent"
    no_picture = refusal(task_type="t2v", model="5b", image_url=None, end_image_url=PICTURE)
    assert no_picture.sentence == "task_type t2v takes no picture, and end_image_url was sent"
    no_end = refusal(end_image_url=PICTURE, model="5b")
    assert no_end.sentence == "model 5b takes no end picture, and end_image_url was sent"
    _, body = api.reject(refusal(loop=True, end_image_url=PICTURE), "")
    assert body["error"]["message"] == "loop and end_image_url exclude each other: a loop ends with its start image"
    failure = Failure(code="INVALID_IMAGE", sentence="image_base64 is no image", field="image_base64")
    said = {"code": "INVALID_IMAGE", "message": "image_url is no image", "field": "image_url"}
    assert api.reject(failure, "") == (422, {"error": said})


@pytest.fixture
def client(stand: Stand) -> httpx.Client:
    return stand.client(prefix="/api/v1")


def ended(client: httpx.Client, video_id: str) -> dict[str, Any]:
    return wait_until(
        lambda: (video := client.get(f"/videos/{video_id}").json())["status"] not in ("queued", "running") and video
    )


def test_a_video_from_a_picture(client: httpx.Client) -> None:
    answer = client.post("/videos", json={**BODY, "resolution": "480p", "aspect_ratio": "16:9", "seed": 5})
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(f"/api/v1/videos/{answer.json()['id']}")
    video = ended(client, answer.json()["id"])
    assert video["status"] == "succeeded"
    assert video["seed"] == 5
    assert video["settings"]["shift"] == 3.0
    assert video["models"] == [{"role": "vae", "file": "wan_2.1_vae.safetensors", "bytes": 5, "sha256": "5" * 64}]
    assert video["progress"] == dict.fromkeys(("step", "steps", "expert", "seconds_left")) | {
        "percent": 100.0,
        "stage": "done",
    }
    file = video["video"]
    assert (file["width"], file["height"], file["num_frames"], file["fps"]) == (832, 480, 81, 16)
    content = httpx.get(file["url"], headers={"Authorization": "Bearer stray"})
    assert (content.status_code, content.headers["content-type"], len(content.content)) == (
        200,
        "video/mp4",
        file["size"],
    )
    assert content.content[4:8] == b"ftyp"


def test_a_failure_has_its_code(client: httpx.Client) -> None:
    video = ended(client, client.post("/videos", json={**BODY, "prompt": "fail OUT_OF_MEMORY"}).json()["id"])
    assert video["status"] == "failed"
    assert video["error"] == {"code": "OUT_OF_MEMORY", "message": "the prompt asked for it", "field": None}
    assert video["video"] is None


def test_a_drawn_seed_is_known_at_once_and_stays(client: httpx.Client) -> None:
    first = client.post("/videos", json={**BODY, "prompt": "seed"}).json()
    assert first["seed"] >= 0
    assert ended(client, first["id"])["seed"] == first["seed"]


def test_a_task_is_cancelled_while_it_runs_and_the_next_goes_on(client: httpx.Client) -> None:
    video_id = client.post("/videos", json={**BODY, "prompt": "hang"}).json()["id"]
    wait_until(lambda: client.get(f"/videos/{video_id}").json()["status"] == "running")
    waiting = client.post("/videos", json={**BODY, "prompt": "next"}).json()
    assert waiting["queue_position"] == 0
    assert client.delete(f"/videos/{video_id}").status_code == 204
    assert client.get(f"/videos/{video_id}").json()["status"] == "cancelled"
    assert ended(client, waiting["id"])["status"] == "succeeded"
    assert client.get(f"/videos/{video_id}").json()["status"] == "cancelled"


def test_a_finished_video_is_deleted_with_its_file(client: httpx.Client, stand: Stand) -> None:
    video = ended(client, client.post("/videos", json={**BODY, "prompt": "to go"}).json()["id"])
    assert client.delete(f"/videos/{video['id']}").status_code == 204
    assert client.get(f"/videos/{video['id']}").status_code == 404
    assert httpx.get(video["video"]["url"]).status_code == 404
    assert not [path for path in (stand.folder / "objects").rglob("*") if path.is_file() and video["id"] in str(path)]


def test_events_tell_each_change_to_the_end(client: httpx.Client) -> None:
    video_id = client.post("/videos", json={**BODY, "prompt": "slow 2"}).json()["id"]
    with client.stream("GET", f"/videos/{video_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    states = [event["status"] for event in events]
    assert states == sorted(states, key=["queued", "running", "succeeded"].index)
    assert states[-1] == "succeeded"
    experts = {event["progress"]["expert"] for event in events if event["progress"]}
    assert {"high_noise", "low_noise"} <= experts
    assert events[-1]["logs"][-1] == "step 4 of 4"


def test_the_list_is_newest_first_in_pages(client: httpx.Client) -> None:
    made = [client.post("/videos", json={**BODY, "prompt": f"list {n}"}).json()["id"] for n in range(3)]
    for video_id in made:
        ended(client, video_id)
    page = client.get("/videos", params={"limit": 2}).json()
    assert len(page["videos"]) == 2
    assert page["next_offset"] == 2
    ids = []
    offset: int | None = 0
    while offset is not None:
        page = client.get("/videos", params={"limit": 2, "offset": offset}).json()
        ids += [video["id"] for video in page["videos"]]
        offset = page["next_offset"]
    assert set(made) <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/videos/unknown", 404, "NOT_FOUND"),
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("PUT", "/videos", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/videos?limit=0", 400, "INVALID_VALUE"),
        ("GET", "/videos?limit=x", 400, "INVALID_VALUE"),
    ],
)
def test_other_addresses_are_refused_in_words(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"prompt": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/videos", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_INPUT")


def test_expansion_that_is_not_configured_is_said(client: httpx.Client) -> None:
    video = client.post("/videos", json={**BODY, "enable_prompt_expansion": True}).json()
    assert video["expanded_prompt"] is None
    assert "prompt expansion is not configured on this gateway; the prompt was used as it is" in video["warnings"]


def test_the_api_is_documented(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/videos", "/videos/{video_id}", "/videos/{video_id}/events"}
    properties = schema["paths"]["/videos"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "properties"
    ]
    assert set(properties) == set(api.VideoOrder.model_fields)


def test_nothing_was_said_to_standard_error(stand: Stand, client: httpx.Client) -> None:
    time.sleep(0.5)
    assert stand.errors("service.gateway") == ""


@pytest.mark.parametrize("address", ["nonsense", "ftp://example.com/told", "http://"])
def test_a_webhook_that_can_never_be_called_is_refused(address: str) -> None:
    failure = refusal(webhook_url=address)
    assert (failure.code, failure.field) == ("INVALID_URL", "webhook_url")
