"""fal's dialect: what an input becomes, and its answers word by word."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure
from wan_relay.service.contract.progress import Progress
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.gateway.dialects import fal
from wan_relay.service.gateway.dialects.fal_inputs import MODELS, WARNED
from wan_relay.service.gateway.draft import Draft
from wan_relay.service.tasks.task import LogLine, Order, Outcome, Task, Video

I2V = "fal-ai/wan/v2.2-a14b/image-to-video"
T2V = "fal-ai/wan/v2.2-a14b/text-to-video"
URL = "https://example.com/a.png"
BODY = {"prompt": "hello", "image_url": URL, "interpolator_model": "none"}
# seed 3, as a user of fal writes it
SEED_3 = {
    "image_url": "https://storage.googleapis.com/falserverless/model_tests/wan/dragon-warrior.jpg",
    "prompt": "The white dragon warrior stands still",
    "num_frames": 81,
    "frames_per_second": 16,
    "resolution": "720p",
    "aspect_ratio": "auto",
    "num_inference_steps": 27,
    "enable_safety_checker": True,
    "enable_output_safety_checker": False,
    "enable_prompt_expansion": False,
    "acceleration": "regular",
    "guidance_scale": 3.5,
    "guidance_scale_2": 3.5,
    "shift": 5,
    "interpolator_model": "film",
    "num_interpolated_frames": 1,
    "adjust_fps_for_interpolation": True,
    "video_quality": "high",
    "video_write_mode": "balanced",
}


def draft(
    model: str = I2V, headers: dict[str, str] | None = None, query: dict[str, str] | None = None, **fields: Any
) -> Draft:
    return fal.parse(model, {**BODY, **fields}, query or {}, headers or {})


def test_the_input_of_seed_3() -> None:
    made = fal.parse(I2V, SEED_3, {}, {})
    assert made.request.to_wire() == {
        "prompt": "The white dragon warrior stands still",
        "image_url": SEED_3["image_url"],
        "resolution": "720p",
        "aspect_ratio": "auto",
        "length": 81,
        "fps": 16,
        "shift": 5.0,
        "crf": 19,
        "interpolation": "film",
        "interpolation_factor": 2,
        "workflow": "wan22_i2v_4step",
    }
    assert [warning.partition(":")[0] for warning in made.warnings] == [
        "enable_safety_checker",
        "num_inference_steps, guidance_scale, guidance_scale_2",
    ]


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (I2V, {}, {"workflow": "wan22_i2v_4step", "length": 81, "fps": 16, "crf": 19, "shift": 5.0}),
        (
            I2V,
            {"acceleration": "none", "guidance_scale": 4, "negative_prompt": "blur"},
            {
                "workflow": "wan22_i2v_reference",
                "steps": 27,
                "high_noise_cfg": 4.0,
                "low_noise_cfg": 3.5,
                "negative_prompt": "blur",
            },
        ),
        (I2V, {"num_frames": 161, "frames_per_second": 24}, {"length": 161, "fps": 24}),
        (I2V, {"resolution": "480P", "aspect_ratio": "9:16"}, {"resolution": "480p", "aspect_ratio": "9:16"}),
        (I2V, {"resolution": "580p"}, {"width": 1024, "height": 576, "sizing": "match image"}),
        (I2V, {"resolution": "580p", "aspect_ratio": "1:1"}, {"width": 768, "height": 768, "sizing": "fixed"}),
        (I2V, {"video_quality": "low"}, {"crf": 28}),
        (
            I2V,
            {"video_quality": "maximum", "video_write_mode": "small"},
            {"crf": 16, "encoder_preset": "small"},
        ),
        (I2V, {"video_write_mode": "fast"}, {"crf": 19, "encoder_preset": "fast"}),
        (I2V, {"video_write_mode": "balanced"}, {"crf": 19, "encoder_preset": None}),
        (
            I2V,
            {"interpolator_model": "RIFE", "num_interpolated_frames": 4, "frames_per_second": 60, "num_frames": 161},
            {"interpolation": "rife", "interpolation_factor": 5, "slow_motion": None, "fps": 60, "length": 161},
        ),
        (
            T2V,
            {"interpolator_model": "film", "adjust_fps_for_interpolation": False, "image_url": None},
            {"interpolation": "film", "interpolation_factor": 2, "slow_motion": True},
        ),
        (
            I2V,
            {"interpolator_model": "film", "num_interpolated_frames": 0, "adjust_fps_for_interpolation": False},
            {"interpolation": None, "interpolation_factor": None, "slow_motion": None},
        ),
        (I2V, {"num_interpolated_frames": 3}, {"interpolation": None, "interpolation_factor": None}),
        (f"{I2V}/lora", {"reverse_video": True}, {"frame_order": "reverse"}),
        (I2V, {"end_image_url": "data:image/png;base64,AAAA"}, {"end_image_base64": "data:image/png;base64,AAAA"}),
        (I2V, {"seed": 0}, {"seed": 0}),
        (f"{I2V}/turbo", {}, {"workflow": "wan22_i2v_4step", "resolution": "720p"}),
        (f"{I2V}/lora", {"loras": [], "reverse_video": False}, {"workflow": "wan22_i2v_4step"}),
        (T2V, {"image_url": None}, {"workflow": "wan22_t2v_4step", "aspect_ratio": "16:9"}),
    ],
)
def test_what_an_input_becomes(model: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    made = draft(model, **fields)
    request = made.request.to_wire()
    assert {name: request.get(name) for name in expected} == expected
    assert not [warning for warning in made.warnings if "not known" in warning] or model.endswith("turbo")


def test_ids_are_known_without_regard_to_case() -> None:
    assert all(draft(model.upper(), image_url=URL).model == model.upper() for model in MODELS)


@pytest.mark.parametrize(
    ("model", "fields", "loc", "kind"),
    [
        (I2V, {"prompt": None}, "prompt", "missing"),
        (I2V, {"image_url": None}, "image_url", "missing"),
        (I2V, {"image_url": 3}, "image_url", "type_error"),
        (I2V, {"num_frames": 16}, "num_frames", "greater_than_equal"),
        (I2V, {"num_frames": 162}, "num_frames", "less_than_equal"),
        (I2V, {"num_frames": "many"}, "num_frames", "type_error"),
        (I2V, {"frames_per_second": 61}, "frames_per_second", "less_than_equal"),
        (I2V, {"num_inference_steps": 1}, "num_inference_steps", "greater_than_equal"),
        (I2V, {"guidance_scale_2": 11}, "guidance_scale_2", "less_than_equal"),
        (I2V, {"seed": -1}, "seed", "greater_than_equal"),
        (I2V, {"resolution": "1080p"}, "resolution", "literal_error"),
        (I2V, {"aspect_ratio": "4:3"}, "aspect_ratio", "literal_error"),
        (T2V, {"aspect_ratio": "auto"}, "aspect_ratio", "literal_error"),
        (I2V, {"acceleration": "high"}, "acceleration", "literal_error"),
        (f"{I2V}/lora", {"loras": [{"scale": 1}]}, "path", "missing"),
    ],
)
def test_a_bad_field_is_listed(model: str, fields: dict[str, Any], loc: str, kind: str) -> None:
    with pytest.raises(fal.InvalidInput) as caught:
        draft(model, **fields)
    assert [(detail["loc"][0], detail["loc"][-1], detail["type"]) for detail in caught.value.details] == [
        ("body", loc, kind)
    ]


def test_all_bad_fields_are_listed() -> None:
    with pytest.raises(fal.InvalidInput) as caught:
        draft(num_frames=900, shift=0, prompt=None)
    assert [detail["loc"] for detail in caught.value.details] == [
        ["body", "prompt"],
        ["body", "num_frames"],
        ["body", "shift"],
    ]


LORA = "https://example.com/a.safetensors"
HUB = "https://huggingface.co/owner/name/resolve/main"


@pytest.mark.parametrize(
    ("loras", "expected"),
    [
        ([{"path": LORA}], [{"high": LORA, "high_strength": 1.0}]),
        ([{"path": LORA, "scale": 0.5, "transformer": "LOW"}], [{"low": LORA, "low_strength": 0.5}]),
        (
            [{"path": "a/b.safetensors", "scale": 2, "transformer": "both"}, {"path": f" {LORA} ", "weight_name": "x"}],
            [
                {"high": "a/b.safetensors", "high_strength": 2.0, "low": "a/b.safetensors", "low_strength": 2.0},
                {"high": LORA, "high_strength": 1.0},
            ],
        ),
        (
            [{"path": "owner/name", "weight_name": "sub dir/a_high.safetensors"}],
            [{"high": f"{HUB}/sub%20dir/a_high.safetensors", "high_strength": 1.0}],
        ),
    ],
)
@pytest.mark.parametrize("model", [I2V, T2V])
def test_loras_go_to_the_expert_that_they_are_for(model: str, loras: Any, expected: Any) -> None:
    made = draft(f"{model}/lora", **({"image_url": None} if model == T2V else {}), loras=loras)
    assert made.request.to_wire()["loras"] == expected


@pytest.mark.parametrize(
    ("lora", "sentence"),
    [
        (
            {"path": "owner/name"},
            "owner/name is a repository, and the file in it must be named: send its URL, "
            "https://huggingface.co/OWNER/NAME/resolve/main/FILE.safetensors",
        ),
        (
            {"path": "owner/name", "weight_name": "../../a.safetensors"},
            "weight_name must be the name of a .safetensors file",
        ),
        ({"path": "owner/name", "weight_name": "a.ckpt"}, "weight_name must be the name of a .safetensors file"),
        (
            {"path": "a.ckpt"},
            "loras item 1: high must be the name of a .safetensors file in the volume's loras folder, such as "
            "style_high.safetensors, or the https URL of one; other paths are not taken",
        ),
        ({"path": LORA, "scale": 21}, "loras item 1: high_strength must be a number from -20 to 20"),
    ],
)
def test_a_lora_that_cannot_be_found_is_refused(lora: dict[str, Any], sentence: str) -> None:
    with pytest.raises(JobError) as caught:
        draft(f"{I2V}/lora", loras=[lora])
    assert caught.value.failure == Failure(code="INVALID_VALUE", sentence=sentence, field="loras")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("low in loras item 2 is cut short", "path in loras item 2 is cut short"),
        ("loras item 1: high must be the name of a high file", "loras item 1: path must be the name of a high file"),
        ("loras item 1: low_strength must be a number", "loras item 1: scale must be a number"),
    ],
)
def test_what_is_said_of_a_lora_names_the_clients_field(said: str, shown: str) -> None:
    status, body = fal.reject(Failure(code="INVALID_LORA", sentence=said, field="loras"), "r1")
    assert (status, [(detail["loc"], detail["msg"]) for detail in body["detail"]]) == (
        422,
        [(["body", "loras"], shown)],
    )
    other = fal.reject(Failure(code="INVALID_VALUE", sentence="low in loras item 2", field="prompt"), "r1")[1]
    assert other["detail"][0]["msg"] == "low in loras item 2"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enable_safety_checker", True),
        ("enable_output_safety_checker", True),
    ],
)
def test_what_is_not_honoured_is_said(field: str, value: Any) -> None:
    assert draft(**{field: value}).warnings == (WARNED[field][1],)
    assert draft().warnings == ()


def test_an_unknown_field_is_said_and_not_shown() -> None:
    made = draft(auth="secret-token")
    assert made.warnings == ("field auth is not known and was ignored",)
    assert "secret-token" not in str(made)


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, {"retention_s": 7 * 24 * 3600, "priority": 0, "start_deadline_s": None, "webhook": None}),
        ({"x-fal-object-lifecycle-preference": '{"expiration_duration_seconds": 3600}'}, {}, {"retention_s": 3600}),
        ({"x-fal-object-lifecycle": '{"expiration_duration_seconds": 1}'}, {}, {"retention_s": 60}),
        ({"x-fal-object-lifecycle": '{"expiration_duration_seconds": 1e12}'}, {}, {"retention_s": 30 * 24 * 3600}),
        ({"x-fal-object-lifecycle": "[" * 100_000}, {}, {"retention_s": 7 * 24 * 3600}),
        ({"x-fal-object-lifecycle": '{"expiration_duration_seconds": NaN}'}, {}, {"retention_s": 7 * 24 * 3600}),
        ({"x-fal-request-timeout": "30.0"}, {}, {"start_deadline_s": 30.0}),
        ({"x-fal-request-timeout": "nan"}, {}, {"start_deadline_s": None}),
        ({"x-fal-queue-priority": "low"}, {}, {"priority": 1}),
        ({"x-fal-queue-priority": "normal"}, {}, {"priority": 0}),
    ],
)
def test_headers(headers: dict[str, str], query: dict[str, str], expected: dict[str, Any]) -> None:
    made = draft(headers=headers, query=query)
    assert {name: getattr(made, name) for name in expected} == expected


def test_a_webhook_is_checked() -> None:
    made = draft(query={"fal_webhook": "https://example.com/hook"})
    assert made.webhook is not None
    assert made.webhook.url == "https://example.com/hook"
    with pytest.raises(JobError, match="INVALID_URL"):
        draft(query={"fal_webhook": "ftp://example.com"})


def task(**fields: Any) -> Task:
    order = Order(
        dialect="fal",
        owner="key-1",
        request={"prompt": "hello", "seed": 5},
        model=I2V.upper(),
        base_url="https://gateway",
        retention_s=100,
        extras={"prompt": "hello"},
    )
    return Task(**{"id": "t1", "state": "queued", "order": order, "created_at_s": 1000.0, **fields})


ANSWER = VideoAnswer(
    seed=5,
    width=1280,
    height=720,
    length=81,
    fps=16,
    duration=5.0625,
    workflow="wan22_i2v_4step",
    steps=4,
    format="video/mp4",
    warnings=["rounded"],
    timings=Timings(total_s=1.0),
)
URLS = {
    "response_url": "https://gateway/fal/queue/fal-ai/wan/requests/t1",
    "status_url": "https://gateway/fal/queue/fal-ai/wan/requests/t1/status",
    "cancel_url": "https://gateway/fal/queue/fal-ai/wan/requests/t1/cancel",
}


def test_status_queued() -> None:
    assert fal.render_status(task(queue_position=3), True) == {
        "status": "IN_QUEUE",
        "request_id": "t1",
        "queue_position": 3,
        **URLS,
    }
    assert fal.render_status(task(state="throttled"), True)["status"] == "IN_QUEUE"


def test_status_running_has_logs_only_where_they_are_wanted() -> None:
    progress = Progress(step=1, steps=4, progress=0.25)
    running = task(state="running", progress=progress, log=(LogLine(at_s=1000.9999, text="step 1 of 4"),))
    assert fal.render_status(running, False) == {"status": "IN_PROGRESS", "request_id": "t1", "logs": None, **URLS}
    assert fal.render_status(running, True)["logs"] == [
        {
            "message": "step 1 of 4",
            "level": "INFO",
            "source": "run",
            "timestamp": "1970-01-01T00:16:40.999+00:00",
        }
    ]


def test_status_completed_has_no_output() -> None:
    done = task(state="succeeded", started_at_s=1001.0, finished_at_s=1003.5, outcome=Outcome(answer=ANSWER))
    assert fal.render_status(done, False) == {
        "status": "COMPLETED",
        "request_id": "t1",
        "logs": None,
        "metrics": {"inference_time": 2.5},
        **URLS,
    }


def test_the_output() -> None:
    video = Video(key="results/t1/abc.mp4", size=1234)
    done = task(state="succeeded", finished_at_s=1003.5, outcome=Outcome(answer=ANSWER, video=video))
    assert fal.render(done, "https://gateway/files/x") == {
        "video": {
            "url": "https://gateway/files/x",
            "content_type": "video/mp4",
            "file_name": "abc.mp4",
            "file_size": 1234,
        },
        "prompt": "hello",
        "seed": 5,
        "warnings": ["rounded"],
    }


@pytest.mark.parametrize(
    ("failure", "status", "body", "headers"),
    [
        (
            Failure(code="UNAUTHORIZED", sentence="a key is needed"),
            401,
            {"detail": "a key is needed"},
            {"X-Fal-Retryable": "false"},
        ),
        (
            Failure(code="GPU_ERROR", sentence="the GPU is gone"),
            503,
            {"detail": "the GPU is gone", "error_type": "runner_disconnected"},
            {"X-Fal-Retryable": "true", "X-Fal-Error-Type": "runner_disconnected"},
        ),
        (
            Failure(code="INVALID_IMAGE", sentence="image_base64 is no picture", field="image_base64"),
            422,
            {"detail": [{"loc": ["body", "image_url"], "msg": "image_url is no picture", "type": "image_load_error"}]},
            {"X-Fal-Retryable": "false"},
        ),
        (
            Failure(code="INVALID_INPUT", sentence="the body is not JSON"),
            422,
            {"detail": [{"loc": ["body"], "msg": "the body is not JSON", "type": "value_error"}]},
            {"X-Fal-Retryable": "false"},
        ),
    ],
)
def test_errors_word_by_word(failure: Failure, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    assert fal.reject(failure, "r1") == (status, body)
    assert fal.reject_headers(failure) == headers


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_an_answer(code: str) -> None:
    status, body = fal.reject(Failure(code=code, sentence="something is wrong", field="steps"), "r1")
    assert 400 <= status < 600
    assert set(body) <= {"detail", "error_type"}
    ended = task(state="failed", outcome=Outcome(failure=Failure(code=code, sentence="something is wrong")))
    if code not in fal.PLAIN:
        assert fal.render_status(ended, False)["error_type"]
