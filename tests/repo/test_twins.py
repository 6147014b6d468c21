"""What stands twice, because the pack and the services may not import each other, is the same in both."""

from pathlib import Path

import pytest
from wan_relay.nodes.rules.long_video.lora_tags import _FITS, _comparable, take_tags
from wan_relay.nodes.rules.long_video.segment_plan import LONGEST_SEGMENT, whole_numbers
from wan_relay.service.contract.segment_request import MAX_LENGTH, without_loras
from wan_relay.service.worker.long_video import frames_of
from wan_relay.service.worker.url_loras.job_loras import _is_name, _is_part

ROOT = Path(__file__).resolve().parents[2]


def test_scheduling() -> None:
    of_the_pack, of_the_services = (
        (ROOT / folder / "usual_scheduling.py").read_text() for folder in ("nodes/engine/video", "service/media")
    )
    assert of_the_pack == of_the_services


@pytest.mark.parametrize(
    "prompt",
    [
        "a  cat",
        "a <lora:pan:0.8>  cat",
        "<LORA:pan>",
        "<lora:a:1><lora:b:0.5:0> two",
        "a <lorax:1> b",
        "<lora:Ä b.c/d:1>\tcat ",
    ],
)
def test_a_prompt_without_its_lora_tags(prompt: str) -> None:
    assert without_loras(prompt) == take_tags(prompt)[0]


@pytest.mark.parametrize("lengths", ["", "81", "81,49", " 81 ; 49,\n13 ", "5;5"])
def test_lengths_of_segments(lengths: str) -> None:
    assert frames_of(lengths) == whole_numbers("lengths", lengths, LONGEST_SEGMENT)
    assert MAX_LENGTH == LONGEST_SEGMENT


@pytest.mark.parametrize("file", ["Zoom.safetensors", "wan/É_zoom.v2.safetensors", "a\\b.sft", "high_noise"])
@pytest.mark.parametrize(
    "name",
    [
        "zoom",
        "ZOOM.safetensors",
        "oo",
        "e\u0301_zoom.v2",
        "É_ZOOM",
        "wan\\é_zoom.v2.safetensors",
        "a/b",
        "b",
        "noise",
        "x",
    ],
)
def test_which_lora_a_tag_names(name: str, file: str) -> None:
    whole, end_of_path, part = (fits(_comparable(name), file) for fits in _FITS)
    assert (whole or end_of_path, part) == (_is_name(name, file), _is_part(name, file))
