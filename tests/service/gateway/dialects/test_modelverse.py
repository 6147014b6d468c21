"""Modelverse: seed 5's bodies, the provider's envelope, and its client against a running gateway."""

import re
import time
from typing import Any

import httpx
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.gateway.dialects import modelverse
from wan_relay.service.tasks.task import Order, Outcome, Task, Video
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until

MODEL = "Wan-AI/Wan2.2-I2V"
RAW_PICTURE = PICTURE.partition(",")[2]
URL = "https://umodelverse-inference.cn-wlcb.ufileos.com/ucloud-maxcot.jpg"


def body(parameters: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "input": {"first_frame_url": URL, "prompt": "Convert to quick pencil sketch", **inputs},
        "parameters": parameters or {},
    }


def refusal(sent: dict[str, Any]) -> Failure:
    with pytest.raises(JobError) as caught:
        modelverse.parse(sent)
    return caught.value.failure


def task(state: str = "succeeded", **fields: Any) -> Task:
    draft = modelverse.parse(body({"duration": 8}))
    order = Order(
        dialect="modelverse",
        owner="me",
        request=draft.request.to_wire(),
        warnings=fields.pop("warnings", ()),
        retention_s=draft.retention_s,
        extras=draft.extras,
    )
    times = {"created_at_s": 1756959000.7, "started_at_s": 1756959001.0, "finished_at_s": 1756959050.2}
    return Task(id="t-1", state=state, order=order, **times | fields)


ANSWER = VideoAnswer(
    seed=7,
    width=832,
    height=480,
    length=129,
    fps=16,
    duration=8.0625,
    workflow="wan22_i2v_4step",
    format="video/mp4",
    warnings=["of the worker"],
    timings=Timings(),
)


def test_the_seeds_own_body() -> None:
    draft = modelverse.parse(body({"resolution": "720P"}, last_frame_url=URL))
    assert draft.request.to_wire() == {
        "workflow": "wan22_i2v_4step",
        "prompt": "Convert to quick pencil sketch",
        "image_url": URL,
        "end_image_url": URL,
        "resolution": "720p",
        "aspect_ratio": "auto",
        "length": 81,
        "fps": 16,
        "shift": 5.0,
    }
    assert (draft.warnings, draft.retention_s, draft.webhook) == ((), 24 * 3600.0, None)


@pytest.mark.parametrize(
    ("parameters", "inputs", "expected"),
    [
        ({"resolution": "480P"}, {}, {"resolution": "480p", "shift": 3.0}),
        ({"resolution": "480p"}, {}, {"resolution": "480p", "shift": 3.0}),
        ({}, {}, {"resolution": "720p", "shift": 5.0, "length": 81}),
        ({"duration": 5}, {}, {"length": 81}),
        ({"duration": 8}, {}, {"length": 129, "fps": 16}),
        ({"duration": "8"}, {}, {"length": 129}),
        ({"seed": 0}, {}, {"seed": 0}),
        ({"seed": 2147483647}, {}, {"seed": 2147483647}),
        ({}, {"first_frame_url": PICTURE}, {"image_base64": PICTURE}),
        ({}, {"first_frame_url": RAW_PICTURE}, {"image_base64": RAW_PICTURE}),
        ({}, {"last_frame_url": RAW_PICTURE}, {"image_url": URL, "end_image_base64": RAW_PICTURE}),
    ],
)
def test_each_value(parameters: dict[str, Any], inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    request = modelverse.parse(body(parameters, **inputs)).request.to_wire()
    assert {name: request.get(name) for name in expected} == expected


def test_a_null_is_a_field_that_was_not_sent() -> None:
    sent = {**body(None, last_frame_url=None, negative_prompt=None), "parameters": {"seed": None, "resolution": None}}
    assert modelverse.parse(sent).request.to_wire() == modelverse.parse(body()).request.to_wire()
    assert modelverse.parse({**sent, "parameters": None}).extras == {"duration": 5}


def test_what_cannot_be_honoured_is_said() -> None:
    sent = body({"prompt_extend": True, "size": "832*480"}, negative_prompt="blur", img_url="secret-value")
    draft = modelverse.parse({**sent, "webhook": "https://secret-value.example"})
    assert draft.warnings == (
        "field webhook is not known and was ignored",
        "field input.img_url is not known and was ignored",
        "field parameters.prompt_extend is not known and was ignored",
        "field parameters.size is not known and was ignored",
        "input.negative_prompt has no effect: the distilled model runs at cfg 1, without one",
    )
    assert draft.request.negative_prompt == "blur"


def test_an_operators_own_model() -> None:
    names = {MODEL: ("wan22_i2v_4step", ""), "mine": ("wan22_i2v_reference", "")}
    draft = modelverse.parse({**body(negative_prompt="blur"), "model": "mine"}, names)
    assert (draft.request.workflow, draft.model, draft.warnings) == ("wan22_i2v_reference", "mine", ())


def error(message: str, code: str = "param_error", kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code, "param": "req-1"}}


@pytest.mark.parametrize(
    ("sent", "status", "expected"),
    [
        ({}, 400, error(f"model is needed; it must be {MODEL}", "model_error")),
        (
            {**body(), "model": "Wan-AI/Wan2.5-I2V"},
            400,
            error(f"model must be {MODEL}; others are not served here", "model_error"),
        ),
        ({"model": MODEL}, 400, error("input is needed")),
        ({"model": MODEL, "input": "x"}, 400, error("input must be an object")),
        ({**body(), "parameters": []}, 400, error("parameters must be an object")),
        (body(first_frame_url=None), 400, error("input.first_frame_url is needed")),
        (body(first_frame_url=" "), 400, error("input.first_frame_url must not be blank")),
        (body(first_frame_url=3), 400, error("input.first_frame_url must be a string")),
        (body(prompt=None), 400, error("input.prompt is needed")),
        (body(prompt=""), 400, error("input.prompt must not be blank")),
        (body(prompt="a\x00b"), 400, error("input.prompt must not contain control characters or broken Unicode")),
        (
            body(prompt="x" * 10_001),
            400,
            error("input.prompt must be at most 10000 characters, got 10001", "tokens_too_long"),
        ),
        (body({"resolution": "1080P"}), 400, error("parameters.resolution must be one of 720P or 480P")),
        (body({"duration": 6}), 400, error("parameters.duration must be 5 or 8")),
        (body({"duration": "five"}), 400, error("parameters.duration must be a whole number")),
        (body({"seed": -1}), 400, error("parameters.seed must be from 0 to 2147483647")),
        (body({"seed": 2147483648}), 400, error("parameters.seed must be from 0 to 2147483647")),
        (body({"seed": True}), 400, error("parameters.seed must be a whole number")),
        (body({"seed": 1.5}), 400, error("parameters.seed must be a whole number")),
    ],
)
def test_the_words_of_a_refusal(sent: dict[str, Any], status: int, expected: dict[str, Any]) -> None:
    assert modelverse.reject(refusal(sent), "req-1") == (status, expected)


@pytest.mark.parametrize(
    ("code", "status", "kind", "name"),
    [
        ("UNAUTHORIZED", 401, "invalid_request_error", "auth_error"),
        ("NOT_FOUND", 400, "invalid_request_error", "param_error"),
        ("METHOD_NOT_ALLOWED", 400, "invalid_request_error", "param_error"),
        ("BODY_TOO_LARGE", 400, "invalid_request_error", "param_error"),
        ("INVALID_IMAGE", 400, "invalid_request_error", "param_error"),
        ("RATE_LIMITED", 429, "rate_limit_error", "rate_limit"),
        ("QUEUE_FULL", 429, "rate_limit_error", "rate_limit"),
        ("TIMEOUT", 504, "timeout", "gateway_timeout_error"),
        ("QUEUE_UNAVAILABLE", 500, "internal_error", "internal_error"),
        ("STORE_FULL", 500, "internal_error", "internal_error"),
        ("INTERNAL_ERROR", 500, "internal_error", "internal_error"),
    ],
)
def test_the_providers_codes(code: str, status: int, kind: str, name: str) -> None:
    assert modelverse.reject(Failure(code=code, sentence="why"), "req-1") == (status, error("why", name, kind))


@pytest.mark.parametrize("code", list(CODES))
def test_every_failure_has_a_status_of_the_providers_list(code: str) -> None:
    assert modelverse.reject(Failure(code=code, sentence="why"), "")[0] in (400, 401, 429, 500, 504)


def test_a_bad_picture_is_named_as_the_client_named_it() -> None:
    failure = Failure(code="INVALID_IMAGE", sentence="end_image_base64 is not valid base64", field="end_image_base64")
    assert modelverse.reject(failure, "req-1") == (400, error("input.last_frame_url is not valid base64"))
    failed = modelverse.render(task("failed", outcome=Outcome(failure=failure)), None, "r")
    said = "INVALID_IMAGE: input.last_frame_url is not valid base64 (input.last_frame_url)"
    assert failed["output"]["error_message"] == said


def test_a_success_is_the_seeds() -> None:
    done = task(outcome=Outcome(answer=ANSWER.model_copy(update={"warnings": []}), video=Video(key="k", size=3)))
    assert modelverse.render(done, "https://x/v.mp4", "req-2") == {
        "output": {
            "task_id": "t-1",
            "task_status": "Success",
            "urls": ["https://x/v.mp4"],
            "submit_time": 1756959000,
            "finish_time": 1756959050,
        },
        "usage": {"duration": 8},
        "request_id": "req-2",
    }


def test_warnings_of_gateway_and_worker_come_with_it_and_a_video_that_went_is_said() -> None:
    done = task(warnings=("of the gateway",), outcome=Outcome(answer=ANSWER, video=Video(key="k", size=3)))
    output = modelverse.render(done, None, "")["output"]
    assert output["urls"] == []
    assert output["warnings"] == ["of the gateway", "of the worker", "the video is kept no longer"]


@pytest.mark.parametrize(("state", "status"), [("throttled", "Pending"), ("queued", "Pending"), ("running", "Running")])
def test_a_task_on_its_way_has_no_finish_time(state: str, status: str) -> None:
    assert modelverse.render(task(state, finished_at_s=None), None, "r") == {
        "output": {"task_id": "t-1", "task_status": status, "submit_time": 1756959000},
        "usage": {"duration": 8},
        "request_id": "r",
    }


def test_a_cancelled_task_is_a_failure() -> None:
    output = modelverse.render(task("cancelled"), None, "r")["output"]
    assert (output["task_status"], output["error_message"]) == ("Failure", "CANCELLED: the task was cancelled")
    assert output["finish_time"] == 1756959050


@pytest.fixture
def client(stand: Stand) -> httpx.Client:
    return stand.client(prefix="/modelverse/v1")


def submitted(client: httpx.Client, sent: dict[str, Any]) -> str:
    answer = client.post("/tasks/submit", json=sent)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"output", "request_id"}
    found: str = answer.json()["output"]["task_id"]
    return found


def ended(client: httpx.Client, task_id: str) -> dict[str, Any]:
    def state() -> Any:
        answer = client.get("/tasks/status", params={"task_id": task_id})
        assert answer.status_code == 200
        return answer.json()["output"]["task_status"] not in ("Pending", "Running") and answer.json()

    found: dict[str, Any] = wait_until(state)
    return found


@pytest.mark.parametrize("picture", [PICTURE, RAW_PICTURE])
def test_from_submit_to_the_file(client: httpx.Client, picture: str) -> None:
    task_id = submitted(client, body({"resolution": "480P", "duration": 8}, first_frame_url=picture))
    seen = []

    def state() -> Any:
        found = client.get(f"/tasks/status?task_id={task_id}").json()
        seen.append(found["output"]["task_status"])
        return seen[-1] == "Success" and found

    found = wait_until(state)
    assert [name for name in ("Pending", "Running", "Success") if name in seen] == list(dict.fromkeys(seen))
    output = found["output"]
    assert 0 <= output["finish_time"] - output["submit_time"] < 60
    assert abs(output["submit_time"] - time.time()) < 120
    assert found["usage"] == {"duration": 8}
    assert re.fullmatch(r"[0-9a-f-]{36}", found["request_id"])
    content = httpx.get(output["urls"][0]).content
    assert content[4:8] == b"ftyp"


def test_a_failed_task_is_answered_with_200(client: httpx.Client) -> None:
    found = ended(client, submitted(client, body(prompt="fail OUT_OF_MEMORY", first_frame_url=PICTURE)))
    assert found["output"]["task_status"] == "Failure"
    assert found["output"]["error_message"] == "OUT_OF_MEMORY: the prompt asked for it"
    assert "urls" not in found["output"]


def test_warnings_are_told_at_once(client: httpx.Client) -> None:
    answer = client.post("/tasks/submit", json=body({"shot_type": "x"}, first_frame_url=PICTURE)).json()
    assert answer["output"]["warnings"] == ["field parameters.shot_type is not known and was ignored"]
    assert ended(client, answer["output"]["task_id"])["output"]["warnings"] == answer["output"]["warnings"]


@pytest.mark.parametrize(
    ("method", "path", "content", "message"),
    [
        ("GET", "/tasks/status?task_id=nothing", None, "there is no task 'nothing' for this key"),
        ("GET", "/tasks/status", None, "task_id is needed in the query"),
        ("GET", "/tasks/list", None, "there is nothing at this address"),
        ("PUT", "/tasks/submit", b"{}", "PUT is not what this address takes"),
        ("POST", "/tasks/submit", b"{", "the body is not JSON"),
        ("POST", "/tasks/submit", b"[]", "the body must be a JSON object"),
        ("POST", "/tasks/submit", b'{"model": NaN}', "the body is not JSON"),
    ],
)
def test_every_refusal_has_the_envelope(
    client: httpx.Client, method: str, path: str, content: bytes | None, message: str
) -> None:
    answer = client.request(method, path, content=content)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert re.fullmatch(r"[0-9a-f-]{36}", said.pop("param"))
    assert said == {"message": message, "type": "invalid_request_error", "code": "param_error"}


def test_a_picture_that_is_no_base64_is_refused_in_its_words(client: httpx.Client) -> None:
    answer = client.post("/tasks/submit", json=body(first_frame_url="ftp://example.com/a.png"))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "input.first_frame_url is not valid base64"


def test_a_task_of_another_dialect_is_none_of_this(client: httpx.Client, stand: Stand) -> None:
    other = stand.client(prefix="/api/v1").post("/videos", json={"prompt": "x", "image_url": PICTURE}).json()["id"]
    assert client.get(f"/tasks/status?task_id={other}").status_code == 400


def test_nothing_was_said_to_standard_error(stand: Stand, client: httpx.Client) -> None:
    assert client.get("/tasks/status?task_id=x").status_code == 400
    assert stand.errors("service.gateway") == ""
