"""The whole body of each refusal that a client may build on, in each dialect's words: status and JSON, word by word."""

import json
from typing import Any, get_args

import httpx
import pytest
from wan_relay.service.contract.video_request import WorkflowName
from wan_relay.service.gateway.dialects import fal_inputs, openai, replicate_models
from wan_relay.tests.service.gateway.dialects.every_dialect import SUBMITS
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

ID = "the request's id"
UNKNOWN_KEY = "a key of this gateway is not known"
NO_JSON = "the body is not JSON"
*FIRST, LAST = get_args(WorkflowName)
RATIOS = "`ratio` must be one of: 1280:720, 720:1280, 1104:832, 832:1104, 960:960, 1584:672"
OPENAI_MODELS = f"the model must be one of {', '.join(sorted(openai.MODELS))}"
FAL_MODELS = f"there is no application 'fal-ai/flux/dev' here; there are {', '.join(fal_inputs.MODELS)}"
REPLICATE_MODELS = ", ".join(f"wan-video/{name}" for name in replicate_models.MODELS)
FLUX = {"fal": "/fal/queue/fal-ai/flux/dev"}
FLUX |= {"replicate": "/replicate/v1/models/black-forest-labs/flux-schnell/predictions"}


def common(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "field": field}}


def modelverse(code: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": ID}}


def of_openai(code: str, message: str, param: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    return {"title": title, "detail": detail, "status": status, "instance": ID}


def bad_input(kind: str, field: str, sentence: str) -> dict[str, Any]:
    found = problem(422, "Input validation failed", f"- {field}: {sentence}\n")
    return found | {"invalid_fields": [{"type": kind, "field": field, "description": sentence}]}


def issue(code: str, path: str, message: str) -> dict[str, Any]:
    return {
        "error": "Validation of body failed",
        "issues": [{"code": code, "path": [path], "message": message}],
        "docUrl": "https://docs.dev.runwayml.com/errors/errors",
    }


def details(loc: list[str], message: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"detail": [{"loc": loc, "msg": message, "type": kind, **more}]}


# dialect, what is wrong -> fields in place of the good body's (None: left out), and the answer
BAD: dict[tuple[str, str], tuple[dict[str, Any], int, dict[str, Any]]] = {
    ("api", "value"): (
        {"duration": 99},
        400,
        common("OUT_OF_RANGE", "duration must be from 0.5 to 10", "duration"),
    ),
    ("api", "missing"): ({"prompt": None}, 400, common("MISSING_FIELD", "prompt is needed", "prompt")),
    ("api", "model"): (
        {"model": "flux"},
        400,
        common("INVALID_VALUE", "model must be one of 4step, reference or 5b", "model"),
    ),
    ("cerebrium", "value"): (
        {"num_frames": 82},
        400,
        {
            "error": "Invalid payload: num_frames must be from 25 to 121 and of the form 4n+1 (25, 29, … 121)",
            "code": "OUT_OF_RANGE",
        },
    ),
    ("cerebrium", "missing"): (
        {"prompt": None},
        400,
        {"error": "Invalid payload: prompt is needed", "code": "MISSING_FIELD"},
    ),
    ("fal", "value"): (
        {"num_frames": 900},
        422,
        details(
            ["body", "num_frames"], "Input should be less than or equal to 161", "less_than_equal", ctx={"le": 161}
        ),
    ),
    ("fal", "missing"): ({"prompt": None}, 422, details(["body", "prompt"], "Field required", "missing")),
    ("fal", "model"): ({}, 404, {"detail": FAL_MODELS}),
    ("modelverse", "value"): (
        {"parameters": {"duration": 6}},
        400,
        modelverse("param_error", "parameters.duration must be 5 or 8"),
    ),
    ("modelverse", "missing"): (
        {"input": {"prompt": "x"}},
        400,
        modelverse("param_error", "input.first_frame_url is needed"),
    ),
    ("modelverse", "model"): (
        {"model": "flux"},
        400,
        modelverse("model_error", "model must be Wan-AI/Wan2.2-I2V; others are not served here"),
    ),
    ("openai", "value"): (
        {"seconds": "99"},
        400,
        of_openai("out_of_range", "seconds must be from 1 to 15", "seconds"),
    ),
    ("openai", "missing"): ({"prompt": None}, 400, of_openai("missing_field", "prompt is needed", "prompt")),
    ("openai", "model"): ({"model": "flux"}, 400, of_openai("invalid_value", OPENAI_MODELS, "model")),
    ("replicate", "value"): (
        {"input": {"prompt": "x", "image": PICTURE, "num_frames": 900}},
        422,
        bad_input("out_of_range", "input.num_frames", "num_frames must be from 81 to 121"),
    ),
    ("replicate", "missing"): (
        {"input": {"prompt": "x"}},
        422,
        bad_input("missing_field", "input.image", "image is needed"),
    ),
    ("replicate", "model"): (
        {},
        404,
        problem(404, "Not found", f"there is no such model here; there are {REPLICATE_MODELS}"),
    ),
    ("runpod", "value"): (
        {"input": {"prompt": "x", "image_base64": PICTURE, "length": 900}},
        400,
        {"error": "OUT_OF_RANGE: length must be from 5 to 257, got 900 (length)"},
    ),
    ("runpod", "missing"): (
        {"input": {"image_base64": PICTURE}},
        400,
        {"error": "MISSING_FIELD: prompt is needed (prompt)"},
    ),
    ("runpod", "model"): (
        {"input": {"prompt": "x", "image_base64": PICTURE, "workflow": "flux"}},
        400,
        {"error": f"INVALID_VALUE: workflow must be one of {', '.join(FIRST)} or {LAST} (workflow)"},
    ),
    ("runway", "value"): ({"ratio": "9:16"}, 400, issue("invalid_enum_value", "ratio", RATIOS)),
    ("runway", "missing"): ({"promptImage": None}, 400, issue("invalid_type", "promptImage", "Required")),
    ("runway", "model"): (
        {"model": "flux"},
        400,
        issue("invalid_union_discriminator", "model", "Model variant flux is not available"),
    ),
}
WRONG_KEY: dict[str, dict[str, Any]] = {
    "api": common("UNAUTHORIZED", UNKNOWN_KEY),
    "cerebrium": {"error": f"Unauthorized: {UNKNOWN_KEY}", "code": "UNAUTHORIZED"},
    "fal": {"detail": UNKNOWN_KEY},
    "modelverse": modelverse("auth_error", UNKNOWN_KEY),
    "openai": of_openai("invalid_api_key", UNKNOWN_KEY, None, "authentication_error"),
    "replicate": problem(401, "Unauthenticated", UNKNOWN_KEY),
    "runpod": {"error": f"UNAUTHORIZED: {UNKNOWN_KEY}"},
    "runway": {"error": UNKNOWN_KEY},
}
NOT_JSON: dict[str, tuple[int, dict[str, Any]]] = {
    "api": (400, common("INVALID_INPUT", NO_JSON)),
    "cerebrium": (400, {"error": f"Invalid payload: {NO_JSON}", "code": "INVALID_INPUT"}),
    "fal": (422, details(["body"], NO_JSON, "value_error")),
    "modelverse": (400, modelverse("param_error", NO_JSON)),
    "openai": (400, of_openai("invalid_input", NO_JSON, None)),
    "replicate": (400, problem(400, "Bad request", NO_JSON)),
    "runpod": (400, {"error": f"INVALID_INPUT: {NO_JSON}"}),
    "runway": (400, {"error": NO_JSON}),
}


def said(answer: httpx.Response) -> tuple[int, Any]:
    """The status and the body, with a word in place of the id that every answer has of its own."""
    return answer.status_code, json.loads(answer.text.replace(answer.headers["x-request-id"], ID))


def ask(stand: Stand, name: str, key: str, content: bytes, path: str | None = None) -> httpx.Response:
    headers = {**SUBMITS[name].headers, "Authorization": f"Bearer {key}"}
    return httpx.post(stand.url + (path or SUBMITS[name].path), content=content, headers=headers)


def test_the_tables_are_whole() -> None:
    kinds = ("value", "missing", "model")
    # Cerebrium's address names the application, which may have any name, and its body no model.
    assert {*BAD, ("cerebrium", "model")} == {(name, kind) for name in SUBMITS for kind in kinds}
    assert set(WRONG_KEY) == set(NOT_JSON) == set(SUBMITS)


@pytest.mark.parametrize(("name", "kind"), list(BAD))
def test_a_bad_field(keyed_stand: Stand, name: str, kind: str) -> None:
    fields, status, body = BAD[name, kind]
    sent = {field: value for field, value in {**SUBMITS[name].body, **fields}.items() if value is not None}
    path = FLUX[name] if kind == "model" and name in FLUX else None
    answer = ask(keyed_stand, name, "sesame", json.dumps(sent).encode(), path)
    assert said(answer) == (status, body)


@pytest.mark.parametrize("name", list(SUBMITS))
def test_a_wrong_key(keyed_stand: Stand, name: str) -> None:
    answer = ask(keyed_stand, name, "wrong", json.dumps(SUBMITS[name].body).encode())
    assert said(answer) == (401, WRONG_KEY[name])


@pytest.mark.parametrize("name", list(SUBMITS))
def test_a_body_that_is_no_json(keyed_stand: Stand, name: str) -> None:
    assert said(ask(keyed_stand, name, "sesame", b"{")) == NOT_JSON[name]


@pytest.mark.parametrize("name", list(SUBMITS))
def test_the_good_body_is_taken(keyed_stand: Stand, name: str) -> None:
    answer = ask(keyed_stand, name, "sesame", json.dumps(SUBMITS[name].body).encode())
    assert answer.status_code in (200, 201, 202), answer.text
