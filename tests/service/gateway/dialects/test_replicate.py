"""Replicate's dialect: what an input becomes, and its answers word by word."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure
from wan_relay.service.contract.progress import Progress
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.gateway.dialects import replicate
from wan_relay.service.gateway.dialects.replicate_inputs import MODELS, WARNED
from wan_relay.service.gateway.dialects.replicate_models import model_of_version
from wan_relay.service.gateway.draft import Draft
from wan_relay.service.tasks.task import LogLine, Order, Outcome, Task, Video, Webhook

BASE, FAST, TEXT = "wan-2.2-i2v-a14b", "wan-2.2-i2v-fast", "wan-2.2-t2v-fast"
URL = "https://example.com/a.png"


def draft(model: str = FAST, headers: dict[str, str] | None = None, body: Any = None, **fields: Any) -> Draft:
    given = {"prompt": "hello", **({} if model == TEXT else {"image": URL}), **fields}
    return replicate.parse(MODELS[model], {"input": given, **(body or {})}, headers or {})


def test_the_input_of_seed_3() -> None:
    made = draft(
        BASE,
        go_fast=False,
        num_frames=81,
        resolution="480p",
        sample_shift=5,
        sample_steps=30,
        frames_per_second=16,
    )
    assert made.request.to_wire() == {
        "prompt": "hello",
        "image_url": URL,
        "resolution": "480p",
        "aspect_ratio": "auto",
        "length": 81,
        "fps": 16,
        "steps": 30,
        "shift": 5.0,
        "workflow": "wan22_i2v_reference",
    }
    assert made.warnings == ()
    assert made.extras["input"]["sample_steps"] == 30


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (BASE, {}, {"workflow": "wan22_i2v_reference", "steps": 30, "shift": 5.0, "resolution": "480p"}),
        (BASE, {"go_fast": True}, {"workflow": "wan22_i2v_4step", "steps": None}),
        (FAST, {}, {"workflow": "wan22_i2v_4step", "shift": 12.0, "length": 81, "fps": 16}),
        (FAST, {"last_image": "data:image/png;base64,AAAA"}, {"end_image_base64": "data:image/png;base64,AAAA"}),
        (FAST, {"num_frames": 121, "frames_per_second": 30, "seed": 4}, {"length": 121, "fps": 30, "seed": 4}),
        (TEXT, {"aspect_ratio": "9:16"}, {"workflow": "wan22_t2v_4step", "aspect_ratio": "9:16"}),
    ],
)
def test_what_an_input_becomes(model: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    made = draft(model, **fields)
    request = made.request.to_wire()
    assert {name: request.get(name) for name in expected} == expected
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("model", "fields", "field", "words"),
    [
        (FAST, {"prompt": None}, "input.prompt", "prompt is needed"),
        (FAST, {"image": None}, "input.image", "image is needed"),
        (FAST, {"num_frames": 80}, "input.num_frames", "num_frames must be from 81 to 121"),
        (BASE, {"num_frames": 101}, "input.num_frames", "num_frames must be from 81 to 100"),
        (BASE, {"frames_per_second": 25}, "input.frames_per_second", "frames_per_second must be from 5 to 24"),
        (FAST, {"sample_shift": 0}, "input.sample_shift", "sample_shift must be from 1 to 20"),
        (FAST, {"resolution": "1080p"}, "input.resolution", "resolution must be one of 480p or 720p"),
        (FAST, {"go_fast": "yes"}, "input.go_fast", "go_fast must be true or false"),
        (FAST, {"seed": -1}, "input.seed", f"seed must be from 0 to {2**53 - 1}"),
    ],
)
def test_a_bad_field_word_by_word(model: str, fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(JobError) as caught:
        draft(model, **fields)
    status, body = replicate.reject(caught.value.failure, "r1")
    assert (status, body) == (
        422,
        {
            "title": "Input validation failed",
            "detail": f"- {field}: {words}\n",
            "status": 422,
            "instance": "r1",
            "invalid_fields": [{"type": caught.value.code.lower(), "field": field, "description": words}],
        },
    )


LORA = "https://example.com/a.safetensors"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {
                "lora_weights_transformer": LORA,
                "lora_weights_transformer_2": "b.safetensors",
                "lora_scale_transformer_2": 0.5,
            },
            {"high": LORA, "high_strength": 1.0, "low": "b.safetensors", "low_strength": 0.5},
        ),
        ({"lora_weights_transformer_2": LORA}, {"low": LORA, "low_strength": 1.0}),
    ],
)
@pytest.mark.parametrize("model", [FAST, TEXT])
def test_loras_go_to_the_expert_that_they_are_for(model: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert draft(model, **fields).request.to_wire()["loras"] == [expected]
    assert "loras" not in draft(model, lora_weights_transformer="", lora_scale_transformer=2).request.to_wire()


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        (
            {"lora_weights_transformer": "owner/name"},
            "lora_weights_transformer",
            "owner/name is a repository, and the file in it must be named: send its URL, "
            "https://huggingface.co/OWNER/NAME/resolve/main/FILE.safetensors",
        ),
        (
            {"lora_weights_transformer": LORA, "lora_weights_transformer_2": "ftp://example.com/b.safetensors"},
            "lora_weights_transformer_2",
            "lora_weights_transformer_2 must be the name of a .safetensors file in the volume's loras folder, such as "
            "style_high.safetensors, or the https URL of one",
        ),
    ],
)
def test_a_lora_that_cannot_be_found_is_refused(fields: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(JobError) as caught:
        draft(FAST, **fields)
    [fault] = replicate.reject(caught.value.failure, "r")[1]["invalid_fields"]
    assert (fault["field"], fault["description"]) == (f"input.{field}", sentence)


def test_what_a_worker_says_of_a_lora_names_the_client_s_field() -> None:
    said = Failure(code="INVALID_LORA", sentence="low in loras item 1 is cut short", field="loras")
    [fault] = replicate.reject(said, "r")[1]["invalid_fields"]
    assert fault == {
        "type": "invalid_lora",
        "field": "input.lora_weights_transformer_2",
        "description": "lora_weights_transformer_2 is cut short",
    }


@pytest.mark.parametrize(("field", "value"), [("disable_safety_checker", False), ("go_fast", False)])
def test_what_is_not_honoured_is_said(field: str, value: Any) -> None:
    assert draft(FAST, **{field: value}).warnings == (WARNED[field][1],)


@pytest.mark.parametrize(
    ("fps", "factor", "said"),
    [
        (16, 2, "interpolate_output: the video has 32 frames a second, 2 times those that were generated"),
        (24, 2, "interpolate_output: the video has 48 frames a second, 2 times those that were generated"),
        (7, 5, "interpolate_output: the video has 35 frames a second, 5 times those that were generated"),
        (15, 2, None),
        (10, 3, None),
        (5, 6, None),
        (30, None, None),
    ],
)
def test_interpolation_comes_to_thirty_frames_a_second_or_a_little_more(
    fps: int, factor: int | None, said: str | None
) -> None:
    made = draft(FAST, interpolate_output=True, frames_per_second=fps)
    request = made.request.to_wire()
    assert (request.get("interpolation"), request.get("interpolation_factor")) == (factor and "film", factor)
    assert "slow_motion" not in request
    assert made.warnings == ((said,) if said else ())


def test_unknown_fields_are_said_and_not_kept() -> None:
    made = draft(FAST, auth="secret-token")
    assert made.warnings == ("field input.auth is not known and was ignored",)
    assert "secret-token" not in str(made)


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        ("data:image/png;base64,AAAA", "data:image/png;base64,…"),
        (" data:image/png;base64,AAAA", "data:image/png;base64,…"),
        ("iVBORw0KGgoAAAA", "…"),
        ("https://example.com/a.png", "https://example.com/a.png"),
    ],
)
def test_a_pictures_bytes_are_not_echoed(picture: str, shown: str) -> None:
    made = draft(FAST, image=picture, last_image=picture)
    assert made.extras["input"] == {"prompt": "hello", "image": shown, "last_image": shown}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"webhook": "https://example.com/a"}, Webhook(url="https://example.com/a")),
        (
            {"webhook": "https://example.com/a", "webhook_events_filter": ["logs"]},
            Webhook(url="https://example.com/a", events=("logs",)),
        ),
        (
            {"webhook_completed": "https://example.com/a"},
            Webhook(url="https://example.com/a", events=("completed",)),
        ),
        ({}, None),
    ],
)
def test_webhooks(body: dict[str, Any], expected: Webhook | None) -> None:
    assert draft(FAST, body=body).webhook == expected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"webhook": "file:///etc/passwd"}, "webhook"),
        ({"webhook": "https://example.com", "webhook_events_filter": ["end"]}, "webhook_events_filter"),
        ({"webhook": "https://example.com", "webhook_events_filter": "start"}, "webhook_events_filter"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
    ],
)
def test_a_bad_body(body: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError) as caught:
        draft(FAST, body=body)
    assert replicate.reject(caught.value.failure, "")[1]["invalid_fields"][0]["field"] == field


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1m", 60), ("1m30s", 90), ("2h", 7200)])
def test_cancel_after(text: str, seconds: float) -> None:
    assert draft(FAST, headers={"cancel-after": text}).end_deadline_s == seconds


@pytest.mark.parametrize("text", ["1s", "soon", "-5s", "25h", "1m 5s", "9" * 40])
def test_a_bad_cancel_after(text: str) -> None:
    with pytest.raises(JobError, match="Cancel-After must be a time from 5s to 24h"):
        draft(FAST, headers={"cancel-after": text})


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("respond-async", 0),
        ("wait", 59.75),
        ("wait=5", 4.75),
        ("wait=600", 59.75),
        ("wait=0", 0),
        ("respond-async, wait=2", 1.75),
        ("awaits=5", 0),
    ],
)
def test_prefer(prefer: str | None, seconds: float) -> None:
    assert replicate.wait_s(prefer) == seconds


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("wan-video/wan-2.2-i2v-fast", FAST),
        ("Wan-Video/WAN-2.2-i2v-fast:anything", FAST),
        (MODELS[TEXT].version, TEXT),
        (f"anything:{MODELS[TEXT].version}", TEXT),
        ("9c49fe41" + "a" * 56, BASE),
        ("4eaf2b01" + "a" * 56, FAST),
    ],
)
def test_versions(version: str, name: str) -> None:
    assert model_of_version(version).name == name


@pytest.mark.parametrize("version", [None, "", 3, "0" * 64, "9c49fe41", "black-forest-labs/flux-schnell"])
def test_an_unknown_version(version: Any) -> None:
    with pytest.raises(JobError):
        model_of_version(version)


ANSWER = VideoAnswer(
    seed=5,
    width=832,
    height=480,
    length=81,
    fps=16,
    duration=5.0625,
    workflow="wan22_i2v_4step",
    steps=4,
    format="video/mp4",
    warnings=["rounded"],
    timings=Timings(total_s=1.0),
)


def task(webhook: Webhook | None = None, end_deadline_s: float | None = None, **fields: Any) -> Task:
    order = Order(
        dialect="replicate",
        owner="key-1",
        request={},
        model=FAST,
        webhook=webhook,
        retention_s=100,
        end_deadline_s=end_deadline_s,
        extras={"input": {"prompt": "hello"}},
    )
    return Task(**{"id": "t1", "state": "queued", "order": order, "created_at_s": 1000.0, **fields})


def shown(task: Task, output: str | None = None, now_s: float = 1000.0) -> dict[str, Any]:
    return replicate.render(task, "https://gateway", output, "https://gateway/stream", now_s)


def test_a_prediction_that_succeeded() -> None:
    done = task(
        state="succeeded",
        started_at_s=1001.25,
        finished_at_s=1003.5,
        log=(LogLine(at_s=1.0, text="saving the video"),),
        outcome=Outcome(answer=ANSWER, video=Video(key="results/t1/a.mp4", size=1)),
    )
    expected = {
        "id": "t1",
        "model": "wan-video/wan-2.2-i2v-fast",
        "version": "hidden",
        "input": {"prompt": "hello"},
        "output": "https://gateway/a.mp4",
        "logs": "warning: rounded\nsaving the video\n"
        "  0%|          | 0/4\n 25%|██▌       | 1/4\n 50%|█████     | 2/4\n 75%|███████▌  | 3/4\n100%|██████████| 4/4",
        "error": None,
        "status": "succeeded",
        "created_at": "1970-01-01T00:16:40.000000Z",
        "started_at": "1970-01-01T00:16:41.250000Z",
        "completed_at": "1970-01-01T00:16:43.500000Z",
        "data_removed": False,
        "source": "api",
        "metrics": {"total_time": 3.5, "predict_time": 2.25},
        "urls": {
            "get": "https://gateway/replicate/v1/predictions/t1",
            "cancel": "https://gateway/replicate/v1/predictions/t1/cancel",
            "stream": "https://gateway/stream",
            "web": "https://gateway/replicate/v1/predictions/t1",
        },
    }
    assert shown(done, "https://gateway/a.mp4", 1103.0) == expected
    gone: dict[str, Any] = {"input": {}, "output": None, "logs": "", "data_removed": True}
    assert shown(done, None, 1103.5) == expected | gone


@pytest.mark.parametrize(
    ("state", "failure", "end_deadline_s", "status", "error"),
    [
        ("throttled", None, None, "starting", None),
        ("queued", None, None, "starting", None),
        ("running", None, None, "processing", None),
        ("cancelled", None, None, "canceled", None),
        ("failed", "TIMEOUT", 60.0, "canceled", None),
        ("failed", "TIMEOUT", None, "failed", "TIMEOUT: too late"),
        ("failed", "NO_OUTPUT", 60.0, "failed", "NO_OUTPUT: too late"),
    ],
)
def test_states(state: Any, failure: str | None, end_deadline_s: float | None, status: str, error: str | None) -> None:
    outcome = Outcome(failure=Failure(code=failure, sentence="too late") if failure else None)
    said = shown(task(state=state, outcome=outcome, end_deadline_s=end_deadline_s))
    assert (said["status"], said["error"]) == (status, error)


def test_a_failed_prediction_names_the_inputs_of_the_client() -> None:
    failure = Failure(code="INVALID_IMAGE", sentence="end_image_base64 is not an image", field="end_image_base64")
    said = shown(task(state="failed", outcome=Outcome(failure=failure)))
    assert said["error"] == "INVALID_IMAGE: last_image is not an image (last_image)"


def running(step: int, **fields: Any) -> Task:
    return task(state="running", progress=Progress(step=step, steps=4, progress=step / 4), **fields)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((), [True, True, False, True]),
        (("start",), [True, False, False, False]),
        (("logs",), [False, True, False, False]),
        (("output",), [False, False, False, True]),
        (("completed",), [False, False, False, True]),
    ],
)
def test_events_of_a_webhook(events: tuple[str, ...], told: list[bool]) -> None:
    hook = Webhook(url="https://example.com", events=events)
    queued, first, second = task(hook), running(1, webhook=hook), running(2, webhook=hook)
    done = task(hook, state="succeeded", outcome=Outcome(answer=ANSWER))
    changes = [(queued, first), (first, second), (second, second), (second, done)]
    assert [replicate.is_news(before, after) for before, after in changes] == told


def test_a_failure_is_no_output() -> None:
    failed = Outcome(failure=Failure(code="NO_OUTPUT", sentence="x"))
    for events, is_told in ((("output",), False), (("completed",), True)):
        hook = Webhook(url="https://example.com", events=events)
        assert replicate.is_news(None, task(hook, state="failed", outcome=failed)) is is_told


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_an_answer(code: str) -> None:
    status, body = replicate.reject(Failure(code=code, sentence="something is wrong", field="length"), "r1")
    assert body["status"] == status
    assert {"title", "detail", "status", "instance"} <= set(body)
    assert status == 422 or status == CODES[code].http_status


def test_a_refusal_of_too_many_word_by_word() -> None:
    failure = Failure(code="RATE_LIMITED", sentence="this key may start 6 tasks a minute; the next may come in 30 s")
    assert replicate.reject(failure, "r1") == (
        429,
        {
            "title": "Too many requests",
            "detail": "Request was throttled. This key may start 6 tasks a minute; the next may come in 30 s.",
            "status": 429,
            "instance": "r1",
        },
    )
