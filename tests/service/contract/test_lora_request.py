"""A request's LoRA pairs: what is taken, and the one sentence for each thing that is not."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.lora_request import lora_urls
from wan_relay.service.contract.video_request import VideoRequest, parse_request

BASE = {"prompt": "a cat", "image_base64": "AAAA"}


def loras(value: Any) -> Any:
    return parse_request(BASE | {"loras": value})[0].loras


def test_a_pair_a_half_and_numbers_as_text() -> None:
    high, low = "style_high.safetensors", "a/style low.SFT"
    pair, half = loras([{"high": high, "low": f" {low} ", "high_strength": "0.5"}, {"low": low, "high": None}])
    assert pair.model_dump() == {"high": high, "low": low, "high_strength": 0.5, "low_strength": 1.0}
    assert half.model_dump() == {"high": None, "low": low, "high_strength": 1.0, "low_strength": 1.0}
    assert (loras([]), loras(None)) == ((), None)


def test_urls_are_taken_as_they_are_written() -> None:
    url = "https://civitai.com/api/download/models/1?type=Model&format=SafeTensor"
    requests = loras([{"high": f" {url}\n", "low": "b.safetensors"}, {"low": "HTTPS://Example.com/a%20b.safetensors"}])
    assert [(lora.high, lora.low) for lora in requests] == [
        (url, "b.safetensors"),
        (None, "HTTPS://Example.com/a%20b.safetensors"),
    ]
    assert list(lora_urls(requests)) == [
        ("high in loras item 1", url),
        ("low in loras item 2", "HTTPS://Example.com/a%20b.safetensors"),
    ]


def test_what_goes_on_the_wire_comes_back() -> None:
    request, _ = parse_request(BASE | {"loras": [{"high": "a.safetensors", "high_strength": 2}]})
    assert request.to_wire()["loras"] == [{"high": "a.safetensors", "high_strength": 2.0}]
    assert VideoRequest.model_validate(request.to_wire()) == request


NAME = (
    "loras item 1: high must be the name of a .safetensors file in the volume's loras folder, such as "
    "style_high.safetensors, or the https URL of one"
)
REFUSED = [
    ("a.safetensors", "INVALID_TYPE: loras must be a list of objects, got a string (loras)"),
    ({"high": "a.safetensors"}, "INVALID_TYPE: loras must be a list of objects, got an object (loras)"),
    ([{"high": "a.safetensors"}] * 6, "INVALID_VALUE: loras must have at most 5 items, got 6 (loras)"),
    (["a.safetensors"], "INVALID_VALUE: loras item 1 must be an object (loras)"),
    ([{"high": "a.safetensors"}, {}], "INVALID_VALUE: loras item 2 needs a file in high, in low, or in both (loras)"),
    (
        [{"hihg": "a.safetensors"}],
        "INVALID_VALUE: loras item 1 has a field that is not known; the known ones are high, low, high_strength, "
        "low_strength (loras)",
    ),
    ([{"high": 5}], f"INVALID_VALUE: {NAME} (loras)"),
    *(
        ([{"high": name}], f"INVALID_VALUE: {NAME}; other paths are not taken (loras)")
        for name in (
            "http:a.safetensors",
            "C:\\a.safetensors",
            "/runpod-volume/models/loras/a.safetensors",
            "../a.safetensors",
            "a/../../b.safetensors",
            "a\\..\\b.safetensors",
            "a/ .. /b.safetensors",
            "~/a.safetensors",
            "a//b.safetensors",
            "a.ckpt",
            "a.safetensors/",
            "",
        )
    ),
    *(
        ([{"high": url}], f"INVALID_VALUE: {NAME} (loras)")
        for url in (
            "ftp://example.com/a.safetensors",
            "file:///models/loras/a.safetensors",
            "https://",
            "https:///a.safetensors",
            "https://example.com:99999/a.safetensors",
            "https://[::1/a.safetensors",
            "https://example.com/a b.safetensors",
            "https://example.com/" + "a" * 4096,
        )
    ),
    *(
        ([{"low": url}], "INVALID_VALUE: loras item 1: low must not carry a user name or password (loras)")
        for url in ("https://me:secret@example.com/a.safetensors", "https://example.com@10.0.0.1/a.safetensors")
    ),
    (
        [{"high": "a.safetensors", "high_strength": 21}],
        "INVALID_VALUE: loras item 1: high_strength must be a number from -20 to 20 (loras)",
    ),
    (
        [{"high": "a.safetensors", "low_strength": float("nan")}],
        "INVALID_VALUE: loras item 1: low_strength must be a number from -20 to 20 (loras)",
    ),
    (
        [{"high": "a\x00.safetensors"}],
        "INVALID_VALUE: loras must not contain control characters or broken Unicode (loras)",
    ),
]


@pytest.mark.parametrize(("value", "sentence"), REFUSED)
def test_anything_else_is_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(JobError) as refusal:
        loras(value)
    assert str(refusal.value) == sentence
