"""Workflows of a client's own over the real ComfyUI with the toy family: as RunPod's stock worker takes them."""

import base64
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from wan_relay.service.worker.comfyui.process import PACK
from wan_relay.tests.service.worker.test_end_to_end import IMAGE, ROOT, Endpoint, frames_of, running_endpoint
from wan_relay.tools.toy_workflows import with_toy_files

pytestmark = [pytest.mark.server, pytest.mark.timeout(400)]
API = ROOT / "workflows" / "api"
# Saves where it likes, under a key of its own, and has no prefix that could be moved.
ANOTHER_PACK = """
import os, folder_paths
from PIL import Image
class AnotherSaver:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"images": ("IMAGE",)}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"
    def save(self, images):
        folder = os.path.join(folder_paths.get_output_directory(), "elsewhere")
        os.makedirs(folder, exist_ok=True)
        Image.new("RGB", (images.shape[2], images.shape[1])).save(os.path.join(folder, "x.gif"))
        return {"ui": {"gifs": [{"filename": "x.gif", "subfolder": "elsewhere", "type": "output"}]}}
NODE_CLASS_MAPPINGS = {"AnotherSaver": AnotherSaver}
"""
PICTURE = {"name": "example.png", "image": f"data:image/jpeg;base64,{IMAGE}"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, toy_models: Path) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("graphs")
    volume = folder / "volume"
    (volume / "workflows").mkdir(parents=True)
    (volume / "input").mkdir()
    (volume / "workflows" / "my flow.json").write_text(json.dumps(exported("wan22_i2v_4step")))
    (volume / "input" / "of_the_volume.jpg").write_bytes(base64.b64decode(IMAGE))
    packs = folder / "base" / "custom_nodes"
    packs.mkdir(parents=True)
    (packs / PACK).symlink_to(ROOT)
    (packs / "another_pack.py").write_text(ANOTHER_PACK)
    variables = {"WAN_RELAY_VOLUME": str(volume), "COMFYUI_BASE": str(folder / "base")}
    with running_endpoint(folder, toy_models, **variables) as running:
        yield running


def exported(name: str) -> dict[str, Any]:
    """A bundled workflow as a person would export it, at a size for a CPU."""
    graph = json.loads((API / f"{name}.json").read_text())
    for node in graph.values():
        if node["class_type"] == "WanRelay_PrepareLatent":
            node["inputs"] |= {"width": 64, "height": 64, "length": 5}
    return graph


def of_core_nodes() -> dict[str, Any]:
    """A two-expert graph of core's nodes but for the prompts, which saves a video and the frames, and previews them."""
    high, low = ("toy_wan2.2_i2v_high_noise_4step.safetensors", "toy_wan2.2_i2v_low_noise_4step.safetensors")
    sampler = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "noise_seed": 7}
    sampler |= {"positive": ["6", 0], "negative": ["6", 1]}
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("UNETLoader", {"unet_name": high, "weight_dtype": "default"}),
        "2": ("UNETLoader", {"unet_name": low, "weight_dtype": "default"}),
        "4": ("VAELoader", {"vae_name": "toy_wan_2.1_vae.safetensors"}),
        "5": (
            "WanRelay_EncodePrompts",
            {"text_encoder": "toy_umt5.safetensors", "prompt": "pan left", "negative_prompt": "", "type": "wan"},
        ),
        "6": (
            "WanImageToVideo",
            {"width": 64, "height": 64, "length": 5, "batch_size": 1, "positive": ["5", 0], "negative": ["5", 1]}
            | {"vae": ["4", 0], "start_image": ["7", 0]},
        ),
        "7": ("LoadImage", {"image": "example.png"}),
        "8": (
            "KSamplerAdvanced",
            sampler
            | {"model": ["1", 0], "latent_image": ["6", 2], "add_noise": "enable", "start_at_step": 0}
            | {"end_at_step": 1, "return_with_leftover_noise": "enable"},
        ),
        "9": (
            "KSamplerAdvanced",
            sampler
            | {"model": ["2", 0], "latent_image": ["8", 0], "add_noise": "disable", "start_at_step": 1}
            | {"end_at_step": 10000, "return_with_leftover_noise": "disable"},
        ),
        "10": ("VAEDecode", {"samples": ["9", 0], "vae": ["4", 0]}),
        "11": ("CreateVideo", {"images": ["10", 0], "fps": 16.0}),
        "12": ("SaveVideo", {"video": ["11", 0], "filename_prefix": "video/mine", "format": "mp4", "codec": "h264"}),
        "13": ("SaveImage", {"images": ["10", 0], "filename_prefix": "frame"}),
        "14": ("PreviewImage", {"images": ["10", 0]}),
        "15": ("SaveImage", {"images": ["7", 0], "filename_prefix": ["16", 0]}),
        "16": ("PrimitiveString", {"value": "linked"}),
    }
    return {
        key: {"class_type": kind, "inputs": inputs, "_meta": {"title": f"{kind} {key}"}}
        for key, (kind, inputs) in nodes.items()
    }


def run(endpoint: Endpoint, given: Any) -> dict[str, Any]:
    status = endpoint.wait(endpoint.submit_input(given))
    assert status["status"] == "COMPLETED", status
    return status["output"]


def refusal(endpoint: Endpoint, given: Any) -> str:
    status = endpoint.wait(endpoint.submit_input(given))
    assert status["status"] == "FAILED", status
    return status["error"]


def test_exported_graph_as_it_is(endpoint):
    """A stock client's request, answered in the stock shape, with ours beside it; the same again, from no cache."""
    request = {"workflow": exported("wan22_i2v_4step"), "images": [PICTURE]}
    for _ in range(2):
        answer = run(endpoint, request)
        [item] = answer["images"]
        assert set(item) == {"filename", "type", "data"}
        assert (item["filename"], item["type"]) == ("wan_relay_00001_.mp4", "base64")
        assert item["data"] == answer["video"]
        assert frames_of(item["data"]) == (5, 64, 64, 16.0)
        assert [answer[name] for name in ("workflow", "seed", "steps", "switch_step", "length")] == [
            "request",
            0,
            4,
            2,
            5,
        ]
        assert answer["warnings"] == ["start_image of 96x72 loses 24.7% of its width to fill 64x64."]
        assert endpoint.left_files() == []


def test_graph_of_core_nodes(endpoint):
    """All of core's nodes are there once a graph asks for them; every saved file comes, under its own name."""
    request = {"workflow": json.dumps(of_core_nodes()), "images": [PICTURE]}
    for _ in range(2):
        answer = run(endpoint, json.dumps(request))
        names = [item["filename"] for item in answer["images"]]
        assert sorted(names) == [*(f"frame_0000{n}_.png" for n in range(1, 6)), "linked_00001_.png", "mine_00001_.mp4"]
        assert frames_of(answer["video"]) == (5, 64, 64, 16.0)
        assert [answer[name] for name in ("seed", "width", "height", "length", "fps", "duration", "format")] == [
            7,
            64,
            64,
            5,
            16,
            0.3125,
            "video/mp4",
        ]
        frame = answer["images"][names.index("frame_00003_.png")]
        with Image.open(io.BytesIO(base64.b64decode(frame["data"]))) as picture:
            assert (picture.format, picture.size) == ("PNG", (64, 64))
        assert endpoint.left_files() == []


def test_node_of_another_pack(endpoint):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "of_the_volume.jpg"}},
        "2": {"class_type": "AnotherSaver", "inputs": {"images": ["1", 0]}},
    }
    for _ in range(2):
        [item] = run(endpoint, {"workflow": graph})["images"]
        assert (item["filename"], base64.b64decode(item["data"])[:3]) == ("x.gif", b"GIF")
        assert endpoint.left_files() == []


def test_node_that_saves_elsewhere(endpoint):
    """Core's own writes into a datasets folder, beside ComfyUI's output folder."""
    words = {"text_encoder": "toy_umt5.safetensors", "prompt": "pan left", "negative_prompt": "", "type": "wan"}
    saved = {"latents": ["1", 0], "conditioning": ["2", 0], "folder_name": "mine", "shard_size": 10}
    graph = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "2": {"class_type": "WanRelay_EncodePrompts", "inputs": words},
        "3": {"class_type": "SaveTrainingDataset", "inputs": saved},
    }
    assert run(endpoint, {"workflow": graph})["status"] == "success_no_images"
    datasets = endpoint.folder / "base" / "datasets"
    assert datasets.is_dir()
    assert list(datasets.iterdir()) == []


def test_bundled_workflows_still_run_on_the_whole_comfyui(endpoint):
    assert endpoint.video()["seed"] == 3


def test_graph_that_saves_only_pictures_or_nothing(endpoint):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "of_the_volume.jpg"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ComfyUI"}},
    }
    answer = run(endpoint, {"workflow": graph})
    assert [item["filename"] for item in answer["images"]] == ["ComfyUI_00001_.png"]
    assert set(answer) == {"images", "workflow", "warnings", "timings"}
    graph["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    answer = run(endpoint, {"workflow": graph})
    assert (answer["images"], answer["status"]) == ([], "success_no_images")
    assert endpoint.left_files() == []


def test_fields_fill_a_graph_of_ours(endpoint):
    """One exported graph serves like a bundled one, from the request and from the volume."""
    fields = {"prompt": "pan left", "seed": 5, "steps": 2, "length": 9, "fps": 8, "image_base64": IMAGE}
    by_object = run(endpoint, {"workflow": exported("wan22_i2v_4step"), **fields})
    by_name = run(endpoint, {"workflow": "my flow", **fields})
    bundled = run(endpoint, {"workflow": "wan22_i2v_4step", "width": 64, "height": 64, **fields})
    assert frames_of(bundled["video"]) == (9, 64, 64, 8.0)
    videos = {answer["video"] for answer in (by_object, by_name, bundled)}
    assert len(videos) == 1
    shown = [
        {k: v for k, v in answer.items() if k not in ("images", "timings", "workflow")}
        for answer in (by_object, by_name, bundled)
    ]
    assert shown[0] == shown[1] == shown[2]
    assert [answer["workflow"] for answer in (by_object, by_name)] == ["request", "my flow"]


def test_field_without_its_node(endpoint):
    request = {"workflow": of_core_nodes(), "image_base64": IMAGE, "prompt": "zoom in", "crf": 10}
    answer = run(endpoint, request)
    assert answer["warnings"] == ["crf fills no node of this workflow, so it was ignored"]
    assert refusal(endpoint, request | {"strict": True}) == ("UNKNOWN_FIELD: crf fills no node of this workflow (crf)")


def broken(node_id: str, **inputs: Any) -> dict[str, Any]:
    graph = of_core_nodes()
    graph[node_id]["inputs"] |= inputs
    return graph


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (
            broken("1", unet_name="flux1-dev-fp8.safetensors"),
            "MODEL_MISSING: flux1-dev-fp8.safetensors is not on this worker (node UNETLoader 1, input unet_name)",
        ),
        (
            broken("1", unet_name="toy_wan2.2_i2v_high_noise_4step.sft")
            | {"99": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
            "MODEL_MISSING: toy_wan2.2_i2v_high_noise_4step.sft is not on this worker, where the closest name is "
            "toy_wan2.2_i2v_high_noise_4step.safetensors (node UNETLoader 1, input unet_name); and 1 more fault",
        ),
        (
            broken("8", sampler_name="bogus"),
            "INVALID_VALUE: sampler_name must be one that this worker's ComfyUI knows, got bogus "
            "(node KSamplerAdvanced 8, input sampler_name)",
        ),
        (
            broken("8", steps=0),
            "OUT_OF_RANGE: Value 0 smaller than min of 1 (node KSamplerAdvanced 8, input steps)",
        ),
        (
            of_core_nodes() | {"20": {"class_type": "NoSuchNode", "inputs": {}, "_meta": {"title": "Magic"}}},
            "NODE_MISSING: this worker's ComfyUI has no node NoSuchNode (node Magic)",
        ),
        (
            broken("7", image="gone.png"),
            "FILE_NOT_FOUND: gone.png is neither one of images nor in the volume's input folder (node LoadImage 7) "
            "(image)",
        ),
        (
            broken("12", filename_prefix="../../elsewhere"),
            "INVALID_PATH: filename_prefix must not lead out of the job's folders (node SaveVideo 12)",
        ),
        (
            {"nodes": [], "links": [], "version": 0.4},
            "INVALID_VALUE: workflow has the editor's own format, which ComfyUI cannot run; in ComfyUI's editor choose "
            "File > Export (API), and send what that file holds (workflow)",
        ),
    ],
)
def test_faults_of_a_graph(endpoint, graph, sentence):
    given = (
        {"workflow": graph, "images": [PICTURE]}
        if graph.get("7", {}).get("inputs", {}).get("image") == "example.png"
        else {"workflow": graph}
    )
    assert refusal(endpoint, given) == sentence
    assert endpoint.left_files() == []


def test_fault_while_it_runs(endpoint):
    """A latent of one size, an image of another: ComfyUI's own words, and the node's title."""
    graph = broken("9", latent_image=["17", 0])
    graph["17"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    graph["9"]["_meta"]["title"] = "Low noise"
    assert refusal(endpoint, {"workflow": graph, "images": [PICTURE]}).endswith("(node Low noise)")
    assert endpoint.left_files() == []


def test_progress_and_cancel(endpoint):
    graph = broken("8", steps=200, end_at_step=200)
    graph["6"]["inputs"]["length"] = 33
    job = endpoint.submit_input({"workflow": graph, "images": [PICTURE]})
    status = endpoint.first_progress(job)
    assert status["output"]["node"] == "KSamplerAdvanced 8"
    requests.post(f"{endpoint.base_url}/cancel/{job}", timeout=60)
    assert run(endpoint, {"workflow": copy.deepcopy(of_core_nodes()), "images": [PICTURE]})["images"]
    assert endpoint.left_files() == []


def test_ping_lists_own_workflows(endpoint):
    body = {"input": {"action": "ping"}}
    answer = requests.post(f"{endpoint.base_url}/runsync?wait=300000", json=body, timeout=310).json()
    assert answer["output"]["own_workflows"] == ["my flow"]


def test_every_bundled_workflow_as_a_graph(endpoint):
    """With the operator's files in place of the real names, and as a client that has those files would export it."""
    from wan_relay.tests.engine.video.interpolation_models import save_rife
    from wan_relay.tests.engine.video.upscaling_models import save_upscaler

    save_upscaler(endpoint.folder / "models" / "upscale_models" / "RealESRGAN_x4plus.safetensors", 4)
    save_rife(endpoint.folder / "models" / "frame_interpolation" / "film_net_fp16.safetensors")  # core tells them apart
    names = sorted(path.stem for path in API.glob("*.json"))
    for name in names:
        graph = with_toy_files(exported(name)) if name == names[0] else exported(name)
        pictures = [node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"]
        images = [PICTURE | {"name": picture} for picture in dict.fromkeys(pictures)]
        answer = run(
            endpoint, {"workflow": graph, "images": images, "steps": 2 if name != "wan22_i2v_4step_motion" else 4}
        )
        expected = (9, 128, 128, 32.0) if name == "wan22_i2v_smooth" else (5, 64, 64)
        assert frames_of(answer["images"][0]["data"])[: len(expected)] == expected, name
