"""Long Video in a real ComfyUI: one file of all segments, and what a second run makes again."""

import json
import random
from typing import Any

import pytest
from wan_relay.tests.engine.video.read_video import read_images
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.processes import DevError
from wan_relay.tools.toy_workflows import bundled_workflow, inputs_of, with_toy_files

pytestmark = pytest.mark.server

LONG, PREPARE, SAMPLE, ENCODE = "7", "5", "6", "3"


@pytest.fixture(scope="module")
def image(comfy_server: Any) -> str:
    return comfy_server.upload(EXAMPLE_IMAGE, "long")


def three_segments(image: str, last_prompt: str = "pan down", **long_video: Any) -> dict[str, Any]:
    workflow = with_toy_files(bundled_workflow("wan22_i2v_long"))
    inputs_of(workflow, "LoadImage")["image"] = image
    inputs_of(workflow, "WanRelay_PrepareLatent").update(width=64, height=64, length=13)
    inputs_of(workflow, "WanRelay_Sample")["seed"] = 5
    inputs_of(workflow, "WanRelay_SaveVideo")["filename_prefix"] = "long/clip"
    prompts = f"pan left\nzoom in\n{last_prompt}"
    inputs_of(workflow, "WanRelay_LongVideo").update({"prompts": prompts} | long_video)
    return workflow


class Heard:
    """The nodes that ran, and how far Long Video's own bar came; interrupts the run once `stop_at` begins."""

    def __init__(self, server: Any, stop_at: str | None = None) -> None:
        self.server, self.stop_at = server, stop_at
        self.executed: list[str] = []
        self.segments: list[tuple[int, int]] = []

    def __call__(self, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["type"] == "executing" and data["node"]:
            self.executed.append(data["node"])
            if data["node"] == self.stop_at:
                self.server.request("/interrupt", b"{}")
        if message["type"] == "progress" and data["node"] == LONG:
            self.segments.append((data["value"], data["max"]))


def run(server: Any, workflow: dict[str, Any], stop_at: str | None = None) -> tuple[Heard, dict[str, Any]]:
    heard = Heard(server, stop_at)
    return heard, server.run(workflow, heard, timeout_s=400)


def names_of(segment: int) -> set[str]:
    return {f"{LONG}.0.0.{segment}.{name}" for name in (ENCODE, PREPARE, SAMPLE, "segment")}


def samplers(*segments: int) -> set[str]:
    """Their prompts and first pictures may be known from a run before; with a new seed these are not."""
    return {f"{LONG}.0.0.{segment}.{name}" for segment in segments for name in (SAMPLE, "segment")}


def test_one_file_of_three_segments_and_a_report_of_each(comfy_server: Any, image: str) -> None:
    heard, entry = run(comfy_server, three_segments(image))
    outputs = entry["outputs"]
    (item,) = outputs["8"]["images"]
    assert (item["frame_count"], item["width"], item["height"], item["seed"]) == (13, 64, 64, 5)
    path = comfy_server.base / "output" / item["subfolder"] / item["filename"]
    assert len(read_images(path)) == 13
    assert names_of(1) | names_of(2) | names_of(3) <= set(heard.executed)
    assert not {ENCODE, PREPARE, SAMPLE} & set(heard.executed), "the graph in front runs as copies alone"
    assert heard.segments == [(0, 3), (1, 3), (2, 3), (3, 3)]

    assert outputs[LONG]["wan_relay"] == [
        {
            "length": 13,
            "overlap": 1,
            "segments": [
                {"length": 5, "seed": 5, "prompt": "pan left"},
                {"length": 5, "seed": 6, "prompt": "zoom in"},
                {"length": 5, "seed": 7, "prompt": "pan down"},
            ],
            "attention_ratio": 0.75,
            "warnings": [],
        }
    ]
    segments = [outputs[f"{LONG}.0.0.{number}.segment"]["wan_relay"][0] for number in (1, 2, 3)]
    assert [segment["seed"] for segment in segments] == [5, 6, 7]
    assert [segment["length"] for segment in segments] == [5, 5, 5]
    assert all(segment["seconds"]["high_noise"] > 0 for segment in segments)
    assert entry["meta"][f"{LONG}.0.0.2.{SAMPLE}"]["display_node"] == SAMPLE, "its report is seen on Sample"


def new_seeds() -> str:
    """Of which ComfyUI has nothing in its cache, also where a test runs once more."""
    return ", ".join(str(seed) for seed in random.sample(range(2**32), 3))


def test_another_last_prompt_makes_the_last_segment_alone(comfy_server: Any, image: str) -> None:
    seeds = new_seeds()
    first, _ = run(comfy_server, three_segments(image, seeds=seeds))
    assert samplers(1, 2, 3) <= set(first.executed)
    heard, entry = run(comfy_server, three_segments(image, last_prompt="rotate left", seeds=seeds))
    assert set(heard.executed) == {LONG, *names_of(3), "8"}
    assert entry["outputs"]["8"]["images"][0]["frame_count"] == 13
    again, _ = run(comfy_server, three_segments(image, last_prompt="rotate left", seeds=seeds))
    assert not set(again.executed) & (names_of(1) | names_of(2) | names_of(3))


def with_loras(workflow: dict[str, Any], **strengths: float) -> dict[str, Any]:
    pair = {f"{slot}_lora": f"toy_wan2.2_i2v_{slot}_4step_lora.safetensors" for slot in ("high_noise", "low_noise")}
    experts = {"high_noise": ["2", 0], "low_noise": ["2", 1]}
    values = {"high_noise_strength": 1.0, "low_noise_strength": 1.0} | strengths
    workflow["lora"] = {"class_type": "WanRelay_ApplyLoraPair", "inputs": experts | pair | values}
    inputs_of(workflow, "WanRelay_LoadExperts").update({slot: f"toy_wan2.2_i2v_{slot}.safetensors" for slot in experts})
    inputs_of(workflow, "WanRelay_Sample").update({slot: ["lora", number] for number, slot in enumerate(experts)})
    return workflow


def test_a_segment_has_the_lora_strengths_of_its_prompt(comfy_server: Any, image: str) -> None:
    strength = round(random.uniform(0.2, 0.8), 9)  # that no run before had
    tag = f"<lora:high_noise_4step_lora:{strength}:0>"
    workflow = with_loras(three_segments(image, prompts=f"pan left {tag}\nzoom in\npan left {tag}"))
    heard, entry = run(comfy_server, workflow)
    loras = [f"{LONG}.0.0.{number}.lora" for number in (1, 2, 3)]
    assert set(loras[:2]) <= set(heard.executed)
    assert loras[2] not in heard.executed, "the third segment has the models of the first"
    used = [entry["outputs"][name]["wan_relay"][0]["pairs"][0] for name in loras[:2]]
    assert [[row[slot]["strength"] for slot in ("high_noise", "low_noise")] for row in used] == [[strength, 0], [1, 1]]
    planned = entry["outputs"][LONG]["wan_relay"][0]["segments"]
    set_so = {"name": "high_noise_4step_lora", "high_noise_strength": strength, "low_noise_strength": 0}
    assert planned[0] == {"length": 5, "seed": 5, "prompt": "pan left", "loras": [set_so]}
    assert planned[1] == {"length": 5, "seed": 6, "prompt": "zoom in"}

    typed_in = with_loras(three_segments(image, prompts="pan left", segment_length=13, lengths="5"))
    typed_in["lora"]["inputs"] |= {"high_noise_strength": strength, "low_noise_strength": 0.0}
    tagged = with_loras(three_segments(image, prompts=f"pan left {tag}", lengths="5"))
    own, by_tag, without = (
        frames_of(comfy_server, run(comfy_server, graph)[1])
        for graph in (typed_in, tagged, with_loras(three_segments(image, prompts="pan left", lengths="5")))
    )
    assert (own == by_tag).all()
    assert (own != without).any(), "the strengths show in the picture"


def frames_of(server: Any, entry: dict[str, Any]) -> Any:
    (item,) = entry["outputs"]["8"]["images"]
    return read_images(server.base / "output" / item["subfolder"] / item["filename"])


def test_after_a_cancel_the_finished_segments_are_there(comfy_server: Any, image: str) -> None:
    workflow = three_segments(image, seeds=new_seeds())
    _, entry = run(comfy_server, workflow, stop_at=f"{LONG}.0.0.2.{SAMPLE}")
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in kinds, json.dumps(kinds)
    heard, entry = run(comfy_server, workflow)
    assert not names_of(1) & set(heard.executed)
    assert samplers(2, 3) <= set(heard.executed)
    assert entry["outputs"]["8"]["images"][0]["frame_count"] == 13


def test_what_a_later_segment_could_not_take_is_said_before_the_first_is_made(comfy_server: Any, image: str) -> None:
    refusals = {
        "end_image": "Prepare Latent must have a start image for a long video of several segments",
        "anchor": "overlap of Long Video must be at least 5 with an anchor",
    }
    for name, sentence in refusals.items():
        workflow = three_segments(image)
        prepare = inputs_of(workflow, "WanRelay_PrepareLatent")
        prepare[name] = prepare.pop("start_image")
        heard = Heard(comfy_server)
        with pytest.raises(DevError, match=sentence):
            comfy_server.run(workflow, heard, timeout_s=400)
        assert not [node for node in heard.executed if node.endswith(SAMPLE)]


def test_one_segment_may_be_shorter_than_the_overlap(comfy_server: Any, image: str) -> None:
    workflow = three_segments(image, prompts="", overlap=33)
    _, entry = run(comfy_server, workflow)
    assert entry["outputs"]["8"]["images"][0]["frame_count"] == 13
    assert entry["outputs"][LONG]["wan_relay"][0]["segments"] == [{"length": 13, "seed": 5, "prompt": None}]
