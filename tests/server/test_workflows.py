"""The bundled workflows over HTTP, on the toy family: from an API prompt to a decoded mp4."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from wan_relay.tests.engine.video.read_video import read_images
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.environment import ROOT
from wan_relay.tools.processes import DevError
from wan_relay.tools.toy_workflows import bundled_workflow, inputs_of, with_toy_files

pytestmark = pytest.mark.server

SIZE = {"width": 64, "height": 64, "length": 5}
FEWER_STEPS = {"wan22_i2v_reference": 5, "wan22_ti2v_5b": 3}


@pytest.fixture(scope="module")
def image(comfy_server: Any) -> str:
    """The name under which LoadImage finds a real photograph."""
    return comfy_server.upload(EXAMPLE_IMAGE, "photograph")


def tiny(name: str, image: str, seed: int = 0) -> dict[str, Any]:
    """A bundled workflow on toy files, at a size that takes a CPU a second or two."""
    workflow = with_toy_files(bundled_workflow(name))
    inputs_of(workflow, "WanRelay_PrepareLatent").update(SIZE)
    inputs_of(workflow, "WanRelay_Sample")["seed"] = seed
    if name in FEWER_STEPS:
        inputs_of(workflow, "WanRelay_Sample")["steps"] = FEWER_STEPS[name]
    inputs_of(workflow, "WanRelay_SaveVideo")["filename_prefix"] = f"{name}/clip"
    for title in ("Start image", "End image"):
        inputs_of(workflow, "LoadImage", title)["image"] = image
    return workflow


def output_of(history: dict[str, Any], workflow: dict[str, Any], class_type: str) -> dict[str, Any]:
    (node_id,) = [key for key, node in workflow.items() if node["class_type"] == class_type]
    return history["outputs"][node_id]


def saved_file(server: Any, history: dict[str, Any], workflow: dict[str, Any]) -> Path:
    (item,) = output_of(history, workflow, "WanRelay_SaveVideo")["images"]
    return server.base / "output" / item["subfolder"] / item["filename"]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json")))
def test_a_workflow_makes_the_video_that_it_reports(name: str, comfy_server: Any, image: str) -> None:
    workflow = tiny(name, image, seed=3)
    history = comfy_server.run(workflow, timeout_s=240)

    path = saved_file(comfy_server, history, workflow)
    frames, side, fps = 5, 64, inputs_of(workflow, "WanRelay_SaveVideo")["fps"]
    if name == "wan22_i2v_smooth":
        frames, side, fps = 9, 128, 32
    assert output_of(history, workflow, "WanRelay_SaveVideo")["images"] == [
        {
            "filename": path.name,
            "subfolder": name,
            "type": "output",
            "format": "video/mp4",
            "fps": fps,
            "frame_count": frames,
            "width": side,
            "height": side,
            "duration": frames / fps,
            "seed": 3,
        }
    ]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", side, side)
        assert stream.average_rate == Fraction(fps)
        assert len(list(container.decode(stream))) == frames
        tags = dict(container.metadata)
    report = output_of(history, workflow, "WanRelay_Sample")["wan_relay"][0]
    assert json.loads(tags["prompt"]) == workflow
    facts = json.loads(tags["wan_relay"])
    assert facts == report | {key: facts[key] for key in ("segments",) if name == "wan22_i2v_long"}
    asked = inputs_of(workflow, "WanRelay_Sample")
    same = ("seed", "steps", "sampler", "scheduler", "shift", "high_noise_cfg", "low_noise_cfg")
    assert {key: report[key] for key in same} == {key: asked[key] for key in same}
    assert len(report["sigmas"]) == asked["steps"] + 1


def test_the_same_seed_makes_the_same_frames_again(comfy_server: Any, image: str) -> None:
    clips = []
    for seed in (11, 11, 12):
        comfy_server.request("/free", b'{"unload_models": true, "free_memory": true}')  # else the cache would answer
        workflow = tiny("wan22_i2v_4step", image, seed)
        history = comfy_server.run(workflow, timeout_s=240)
        assert output_of(history, workflow, "WanRelay_Sample")["wan_relay"][0]["seed"] == seed
        clips.append(read_images(saved_file(comfy_server, history, workflow)))
    assert torch.equal(clips[0], clips[1])
    assert not torch.equal(clips[0], clips[2])


def test_what_was_snapped_is_said(comfy_server: Any, image: str) -> None:
    workflow = tiny("wan22_i2v_4step", image)
    inputs_of(workflow, "WanRelay_PrepareLatent").update(width=71, length=6)
    report = output_of(comfy_server.run(workflow, timeout_s=240), workflow, "WanRelay_PrepareLatent")["wan_relay"][0]
    assert {key: report[key] for key in ("width", "height", "length")} == {"width": 64, "height": 64, "length": 5}
    assert report["warnings"][:2] == [
        "width 71 is not a multiple of 16; 64 is used.",
        "length 6 is not of the form 4n+1; 5 frames are made.",
    ]


REFUSED = {
    "no image for an image pair": (
        "WanRelay_PrepareLatent",
        {"start_image": None},
        "positive must carry a start or end image for an I2V pair: connect an image to Prepare Latent, or load a T2V "
        "pair. (WanRelay_Sample)",
    ),
    "steps out of range": (
        "WanRelay_Sample",
        {"steps": 0},
        "steps must be between 1 and 200, not 0. (WanRelay_Sample)",
    ),
    "the same file twice": (
        "WanRelay_LoadExperts",
        {"low_noise": "toy_wan2.2_i2v_high_noise_4step.safetensors"},
        "low_noise: toy_wan2.2_i2v_high_noise_4step.safetensors holds the same weights as "
        "toy_wan2.2_i2v_high_noise_4step.safetensors in high_noise; expected the low-noise expert, which is another "
        "file. (WanRelay_LoadExperts)",
    ),
    "an unknown file": (
        "VAELoader",
        {"vae_name": "missing.safetensors"},
        "Value not in list: vae_name: 'missing.safetensors' not in ['toy_wan2.2_vae.safetensors', "
        "'toy_wan_2.1_vae.safetensors', 'pixel_space'] (VAELoader)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_in_a_sentence(case: str, comfy_server: Any, image: str) -> None:
    class_type, changes, sentence = REFUSED[case]
    workflow = tiny("wan22_i2v_4step", image)
    inputs = inputs_of(workflow, class_type)
    inputs.update(changes)
    for name in [name for name, value in inputs.items() if value is None]:
        del inputs[name]
    with pytest.raises(DevError) as refused:
        comfy_server.run(workflow, timeout_s=240)
    assert str(refused.value) == sentence
