"""Requests put into the bundled workflows."""

import copy
import json
import math
from pathlib import Path
from typing import get_args

import pytest
from wan_relay.nodes.rules.frames.frame_size import A14B_MULTIPLE, TI2V_5B_MULTIPLE, nearest_multiple, plan_size
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.sizes import SIZES
from wan_relay.service.contract.video_request import VideoRequest, WorkflowName, parse_request
from wan_relay.service.worker.interpolation import INTERPOLATE, MODEL_LOADER, InterpolationModel
from wan_relay.service.worker.lora_rows import LORAS
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import (
    ENCODE,
    FIELD_INPUTS,
    LOAD,
    NAG,
    OPENING,
    PREPARE,
    SAMPLE,
    SAVE,
    build_plan,
    find_node,
    model_files,
)

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows" / "api"
SETTINGS = Settings.from_environment({})
IMAGE = {"prompt": "a cat", "image_base64": "AAAA"}
TEXT = {"prompt": "a cat"}
HIGH = "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors"


def bundled(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def plan(settings: Settings = SETTINGS, end: str | None = None, **fields):
    takes_image = fields.get("workflow") not in ("wan22_t2v_4step", "wan22_ti2v_5b") or "image_base64" in fields
    request, _ = parse_request((IMAGE if takes_image else TEXT) | fields)
    return build_plan(request, 77, "start.png" if takes_image else None, end, "wan_relay_1/video", settings)


def test_only_the_request_changes_the_workflow():
    expected = bundled("wan22_i2v_4step")
    expected[find_node(expected, "LoadImage")]["inputs"]["image"] = "start.png"
    expected[find_node(expected, ENCODE)]["inputs"]["prompt"] = "a cat"
    expected[find_node(expected, SAMPLE)]["inputs"]["seed"] = 77
    expected[find_node(expected, SAVE)]["inputs"]["filename_prefix"] = "wan_relay_1/video"
    assert plan().graph == expected


def test_defaults_of_the_declaration_are_those_of_the_default_workflow():
    graph = bundled("wan22_i2v_4step")
    fields = VideoRequest.model_fields
    for name, (class_type, input_name) in FIELD_INPUTS.items():
        if name in ("prompt", "seed", "high_noise_cfg", "low_noise_cfg", "negative_prompt"):
            continue
        if class_type in (NAG, OPENING):  # that workflow has neither
            continue
        assert graph[find_node(graph, class_type)]["inputs"][input_name] == fields[name].default, name
    sampler = graph[find_node(graph, SAMPLE)]["inputs"]
    assert sampler["high_noise_cfg"] == sampler["low_noise_cfg"] == fields["cfg"].default


@pytest.mark.parametrize("name", sorted(path.stem for path in WORKFLOWS.glob("*.json")))
def test_every_field_reaches_its_node_in_every_workflow(name):
    sent = {
        "prompt": "p",
        "negative_prompt": "n",
        "width": 96,
        "height": 80,
        "length": 9,
        "sizing": "match image",
        "fit": "pad",
        "steps": 7,
        "sampler": "uni_pc",
        "scheduler": "beta",
        "shift": 3.0,
        "high_noise_cfg": 2.0,
        "low_noise_cfg": 1.5,
        "opening_steps": 2,
        "opening_cfg": 4.5,
        "nag_scale": 7.0,
        "switch": "step",
        "boundary": 0.8,
        "switch_step": 3,
        "fps": 24,
        "format": "webm vp9",
        "crf": 30,
        "encoder_preset": "small",
        "frame_order": "ping-pong",
        "loop": False,
    }
    assert set(sent) == set(FIELD_INPUTS) - {"seed"}
    end = "end.png" if name == "wan22_flf2v_4step" else None
    made = plan(workflow=name, end=end, **sent, **({"end_image_base64": "AAAA"} if end else {}))
    for field, (class_type, input_name) in FIELD_INPUTS.items():
        inputs = made.generated if field == "fps" else made.graph[made.node_id(class_type)]["inputs"]
        assert inputs[input_name] == (77 if field == "seed" else sent[field]), field
    assert made.warnings == ["boundary was ignored because switch is step"]
    links = {
        str(value[0]) for node in made.graph.values() for value in node["inputs"].values() if isinstance(value, list)
    }
    assert links <= set(made.graph)


def inputs(made, class_type):
    return made.graph[made.node_id(class_type)]["inputs"]


def test_an_opening_leg_is_the_expert_without_its_lora():
    for workflow in ("wan22_i2v_4step", "wan22_i2v_4step_lora", "wan22_i2v_4step_motion"):
        made = plan(workflow=workflow, opening_steps=1)
        load = made.node_id(LOAD)
        assert inputs(made, OPENING) == {"model": [load, 0], "steps": 1, "cfg": 3.5}
        assert inputs(made, SAMPLE)["opening"] == [made.node_id(OPENING), 0]
        assert made.opening_steps == 1
    assert inputs(plan(opening_cfg=5), OPENING)["cfg"] == 5
    none = plan(workflow="wan22_i2v_4step_motion", opening_steps=0, opening_cfg=5)
    assert (none.opening_steps, "opening" in inputs(none, SAMPLE)) == (0, False)
    assert plan().opening_steps == 0


def test_nag_comes_between_the_sampler_and_what_it_sampled():
    plain, made = plan(workflow="wan22_i2v_4step_lora"), plan(workflow="wan22_i2v_4step_lora", nag_scale=11)
    nag = made.node_id(NAG)
    before, after = inputs(plain, SAMPLE), inputs(made, SAMPLE)
    assert after == before | {"high_noise": [nag, 0], "low_noise": [nag, 1]}
    values = {"scale": 11, "alpha": 0.25, "tau": 2.37, "end_sigma": 0.0}
    assert inputs(made, NAG) == values | {name: before[name] for name in ("high_noise", "low_noise", "negative")}
    single = plan(workflow="wan22_ti2v_5b", nag_scale=11)
    assert ("low_noise" in inputs(single, NAG), "low_noise" in inputs(single, SAMPLE)) == (False, False)
    assert plan(nag_scale=0).graph == plan().graph
    assert plan(workflow="wan22_i2v_4step_motion", nag_scale=0).value(NAG, "scale") == 0


@pytest.mark.parametrize(
    ("sent", "warned"),
    [
        ({}, True),
        ({"nag_scale": 11}, False),
        ({"nag_scale": 1}, True),
        ({"cfg": 2}, False),
        ({"low_noise_cfg": 2}, False),
        ({"opening_steps": 1}, False),
        ({"opening_steps": 1, "opening_cfg": 1}, True),
        ({"workflow": "wan22_i2v_4step_motion"}, False),
        ({"workflow": "wan22_i2v_4step_motion", "nag_scale": 0, "opening_steps": 0}, True),
        ({"workflow": "wan22_i2v_reference"}, False),
        ({"negative_prompt": " "}, False),
    ],
)
def test_a_negative_prompt_that_nothing_looks_at_is_said(sent, warned):
    sentence = "negative_prompt has no effect at cfg 1; nag_scale makes it work there"
    assert plan(**{"negative_prompt": "blurry", **sent}).warnings == [sentence] * warned


def test_more_opening_steps_than_steps():
    with pytest.raises(JobError, match="opening_steps must be at most steps, which is 4"):
        plan(opening_steps=5)
    assert plan(opening_steps=5, steps=8).opening_steps == 5


def test_other_workflows_keep_their_own_values():
    made = plan(workflow="wan22_i2v_reference", width=480)
    assert [made.value(SAMPLE, name) for name in ("steps", "high_noise_cfg", "sampler", "switch")] == [
        40,
        3.5,
        "flow_unipc",
        "boundary",
    ]
    assert (made.value(PREPARE, "width"), made.value(PREPARE, "height")) == (480, 768)


def test_cfg_is_for_both_experts_unless_one_has_its_own():
    made = plan(cfg=2.5, low_noise_cfg=1)
    assert (made.value(SAMPLE, "high_noise_cfg"), made.value(SAMPLE, "low_noise_cfg")) == (2.5, 1)


@pytest.mark.parametrize(
    ("sent", "switch", "switch_step", "warnings"),
    [
        ({}, "step", 2, []),
        ({"steps": 1}, "step", 1, []),
        ({"steps": 3}, "step", 2, []),
        ({"steps": 8}, "step", 4, []),
        ({"steps": 8, "switch_step": 2}, "step", 2, []),
        ({"switch_step": 3}, "step", 3, []),
        ({"boundary": 0.8}, "boundary", 2, []),
        ({"steps": 8, "boundary": 0.8}, "boundary", 2, []),
        (
            {"switch": "boundary", "switch_step": 1},
            "boundary",
            1,
            ["switch_step was ignored because switch is boundary"],
        ),
        ({"workflow": "wan22_i2v_reference", "switch_step": 9}, "step", 9, []),
    ],
)
def test_hand_over(sent, switch, switch_step, warnings):
    made = plan(**sent)
    assert (made.value(SAMPLE, "switch"), made.value(SAMPLE, "switch_step")) == (switch, switch_step)
    assert made.warnings == warnings


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        ({"resolution": "480p"}, (832, 480, "match image")),
        ({"resolution": "720P"}, (1280, 720, "match image")),
        ({"resolution": "720p", "aspect_ratio": "auto"}, (1280, 720, "match image")),
        ({"resolution": "480p", "aspect_ratio": "9:16"}, (480, 832, "fixed")),
        ({"resolution": "720p", "aspect_ratio": "4:3"}, (1104, 832, "fixed")),
        ({"resolution": "720p", "workflow": "wan22_t2v_4step"}, (1280, 720, "fixed")),
        ({"resolution": "720p", "workflow": "wan22_ti2v_5b"}, (1280, 704, "fixed")),
        ({"resolution": "720p", "workflow": "wan22_ti2v_5b", "image_base64": "AAAA"}, (1280, 704, "match image")),
        ({"resolution": "720p", "workflow": "wan22_ti2v_5b", "aspect_ratio": "9:16"}, (704, 1280, "fixed")),
        ({"resolution": "480p", "workflow": "wan22_ti2v_5b", "aspect_ratio": "1:1"}, (640, 640, "fixed")),
    ],
)
def test_resolution(sent, size):
    made = plan(**sent)
    assert tuple(made.value(PREPARE, name) for name in ("width", "height", "sizing")) == size


@pytest.mark.parametrize("workflow", get_args(WorkflowName))
@pytest.mark.parametrize("resolution", ["480p", "720p"])
@pytest.mark.parametrize("aspect_ratio", ["auto", "16:9", "9:16", "4:3", "3:4", "1:1"])
def test_no_size_that_is_offered_is_changed_by_the_nodes(workflow, resolution, aspect_ratio):
    end = {"end": "end.png", "end_image_base64": "AAAA"} if workflow == "wan22_flf2v_4step" else {}
    made = plan(workflow=workflow, resolution=resolution, aspect_ratio=aspect_ratio, **end)
    width, height, sizing = (made.value(PREPARE, name) for name in ("width", "height", "sizing"))
    multiple = TI2V_5B_MULTIPLE if workflow == "wan22_ti2v_5b" else A14B_MULTIPLE
    done = plan_size(width, height, sizing, (width, height), multiple)
    assert done == {"width": width, "height": height, "warnings": []}


@pytest.mark.parametrize(
    ("family", "multiple", "areas"),
    [
        ("A14B", A14B_MULTIPLE, {"480p": 832 * 480, "720p": 1280 * 720}),
        ("TI2V-5B", TI2V_5B_MULTIPLE, {"480p": 832 * 480, "720p": 1280 * 704}),
    ],
)
def test_offered_sizes_have_the_familys_number_of_pixels(family, multiple, areas):
    """Each side is the multiple nearest to the exact aspect at that area; 832x480 is what A14B was trained at."""
    for resolution, area in areas.items():
        for aspect_ratio, size in SIZES[family][resolution].items():
            across, down = map(int, aspect_ratio.split(":"))
            sides = math.isqrt(area * across // down), math.isqrt(area * down // across)
            if sorted(size) != [480, 832]:
                assert size == tuple(nearest_multiple(side, multiple) for side in sides), aspect_ratio


@pytest.mark.parametrize(
    ("sent", "length"), [({"duration": 5}, 81), ({"duration": "7", "fps": 16}, 113), ({"duration": 2, "fps": 24}, 49)]
)
def test_duration(sent, length):
    assert plan(**sent).value(PREPARE, "length") == length


def test_duration_of_too_many_frames():
    with pytest.raises(JobError) as caught:
        plan(duration=16, fps=60)
    assert str(caught.value) == "OUT_OF_RANGE: duration asks for 961 frames, from 5 to 257 are possible (duration)"


def test_size_budget():
    plan(width=1280, height=720, length=161)
    with pytest.raises(JobError) as caught:
        plan(width=2048, height=2048, length=161)
    assert str(caught.value) == (
        "OUT_OF_RANGE: 2048 x 2048 x 161 is 675 million pixels; this worker takes at most 148 million, "
        "so lower the size or the length (length)"
    )


def interpolated(model: InterpolationModel | None = None, **fields):
    request, _ = parse_request(IMAGE | {"interpolation": "film"} | fields)
    return build_plan(request, 77, "start.png", None, "x/video", SETTINGS, model)


def test_interpolation_stands_between_the_frames_and_the_file():
    plain, made = plan(fps=12), interpolated(fps=12, interpolation_factor=5)
    decoded = inputs(plain, SAVE)["images"]
    assert inputs(made, INTERPOLATE) == {"images": decoded, "factor": 5, "fps": 12, "videos": 1}
    assert inputs(made, SAVE) == inputs(plain, SAVE) | {
        "images": [made.node_id(INTERPOLATE), 0],
        "fps": [made.node_id(INTERPOLATE), 1],
        "filename_prefix": "x/video",
    }
    assert made.fps == 60
    assert made.warnings == [
        "interpolation: this worker has no model file for film; FFmpeg's minterpolate made the frames in between"
    ]


@pytest.mark.parametrize(
    ("model", "warnings"),
    [
        (InterpolationModel("nets/mine.pth", "film"), []),
        (
            InterpolationModel("rife_v4.26.safetensors", "rife"),
            ["interpolation: this worker has no model file for film; rife_v4.26.safetensors was used"],
        ),
    ],
)
def test_a_model_file_is_loaded_by_cores_node(model, warnings):
    made = interpolated(model)
    assert inputs(made, MODEL_LOADER) == {"model_name": model.name}
    assert inputs(made, INTERPOLATE)["model"] == [made.node_id(MODEL_LOADER), 0]
    assert made.warnings == warnings


def test_slow_motion_keeps_the_rate_and_no_interpolation_adds_nothing():
    slow = interpolated(slow_motion=True)
    assert (inputs(slow, SAVE)["fps"], slow.fps) == (16, 16)
    assert inputs(slow, SAVE)["images"] == [slow.node_id(INTERPOLATE), 0]
    for fields in ({"interpolation": "none", "interpolation_factor": 4}, {"interpolation_factor": 1}):
        made = interpolated(InterpolationModel("film.pt", "film"), **fields)
        assert inputs(made, SAVE) == inputs(plan(), SAVE) | {"filename_prefix": "x/video"}
        assert not [node for node in made.graph.values() if node["class_type"] in (INTERPOLATE, MODEL_LOADER)]
        assert made.warnings == []


def test_interpolated_size_budget():
    size = {"width": 1280, "height": 720, "length": 161}
    interpolated(**size, interpolation_factor=5)
    with pytest.raises(JobError) as caught:
        interpolated(**size, interpolation_factor=8)
    assert str(caught.value) == (
        "OUT_OF_RANGE: 1280 x 720 x 1281 is 1181 million pixels; this worker takes at most 742 million, "
        "so lower the size or interpolation_factor (interpolation_factor)"
    )


def test_a_loop_ends_with_its_start_image_and_shows_it_once():
    request, _ = parse_request(IMAGE | {"loop": True})
    made = build_plan(request, 1, "start.png", "start.png", "x/video", SETTINGS)
    prepare = inputs(made, PREPARE)
    loaded = [made.graph[prepare[name][0]]["inputs"]["image"] for name in ("start_image", "end_image")]
    assert loaded == ["start.png", "start.png"]
    assert inputs(made, SAVE)["drop_last_frame"] is True


def test_end_image_is_added_and_start_image_is_removed():
    request, _ = parse_request({"prompt": "p", "end_image_base64": "AAAA"})
    graph = build_plan(request, 1, None, "end.png", "x/video", SETTINGS).graph
    prepare = graph[find_node(graph, PREPARE)]["inputs"]
    assert "start_image" not in prepare
    loader, slot = prepare["end_image"]
    assert (graph[loader]["class_type"], graph[loader]["inputs"], slot) == ("LoadImage", {"image": "end.png"}, 0)
    assert len([node for node in graph.values() if node["class_type"] == "LoadImage"]) == 1


def test_nodes_are_found_whatever_their_numbers(tmp_path):
    numbers = {key: f"n{index}" for index, key in enumerate(reversed(bundled("wan22_i2v_4step")))}
    text = json.dumps(bundled("wan22_i2v_4step"))
    graph = {
        numbers[key]: node
        | {"inputs": {k: [numbers[v[0]], v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()}}
        for key, node in json.loads(text).items()
    }
    (tmp_path / "wan22_i2v_4step.json").write_text(json.dumps(graph))
    settings = Settings.from_environment({"WAN_RELAY_WORKFLOWS": str(tmp_path)})
    made, usual = plan(settings, length=9), plan(length=9)
    for class_type, name in FIELD_INPUTS.values():
        if class_type in (NAG, OPENING):
            continue
        assert made.value(class_type, name) == usual.value(class_type, name)


def test_model_files_of_the_operator():
    settings = Settings.from_environment(
        {
            "WAN_RELAY_HIGH_NOISE": "my/high.safetensors",
            "WAN_RELAY_VAE": "my_vae.safetensors",
            "WAN_RELAY_MODEL_FILES": json.dumps(
                {"wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": "base_low.safetensors"}
            ),
        }
    )
    usual = {key: copy.deepcopy(plan().value(LOAD, key)) for key in ("high_noise", "low_noise")}
    assert plan(settings).value(LOAD, "high_noise") == "my/high.safetensors"
    assert plan(settings).value(LOAD, "low_noise") == usual["low_noise"]
    assert plan(settings).value("VAELoader", "vae_name") == "my_vae.safetensors"
    lora = plan(settings, workflow="wan22_i2v_4step_lora")
    assert lora.value(LOAD, "low_noise") == "base_low.safetensors"
    assert lora.value(LORAS, "low_noise_lora").endswith("low_noise.safetensors")
    assert plan(settings, workflow="wan22_ti2v_5b").value(LOAD, "low_noise") == "none"


def test_files_in_the_order_of_use():
    names = [file.name for file in model_files("wan22_i2v_4step", SETTINGS)]
    assert names == [
        "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "wan_2.1_vae.safetensors",
        HIGH,
        HIGH.replace("High", "Low"),
    ]
    assert [file.name for file in model_files("wan22_ti2v_5b", SETTINGS)][-1] == "wan2.2_ti2v_5B_fp16.safetensors"


LORA_PAIRS = [
    {"high": "a_high.safetensors", "low": "a_low.safetensors", "low_strength": 0.5},
    {"high": "b.safetensors"},
]


def test_loras_are_rows_of_a_node_between_the_experts_and_the_sampler():
    before, made = bundled("wan22_i2v_4step"), plan(loras=LORA_PAIRS)
    node = made.graph[made.node_id(LORAS)]
    loader = find_node(before, LOAD)
    assert node["inputs"] == {
        "high_noise": [loader, 0],
        "low_noise": [loader, 1],
        "pairs": "2",
        "high_noise_lora": "a_high.safetensors",
        "low_noise_lora": "a_low.safetensors",
        "high_noise_strength": 1.0,
        "low_noise_strength": 0.5,
        "pairs.high_noise_lora_2": "b.safetensors",
        "pairs.low_noise_lora_2": "none",
        "pairs.high_noise_strength_2": 1.0,
        "pairs.low_noise_strength_2": 1.0,
    }
    sampler = made.graph[made.node_id(SAMPLE)]["inputs"]
    assert [sampler[name] for name in ("high_noise", "low_noise")] == [[made.node_id(LORAS), slot] for slot in (0, 1)]
    untouched = {key: value for key, value in sampler.items() if key not in ("high_noise", "low_noise", "seed")}
    assert untouched.items() <= before[find_node(before, SAMPLE)]["inputs"].items()


@pytest.mark.parametrize("name", sorted(path.stem for path in WORKFLOWS.glob("*.json")))
def test_loras_go_into_every_workflow_after_its_own(name):
    end = "end.png" if name == "wan22_flf2v_4step" else None
    lists = [{"high": "b.safetensors"}] if name == "wan22_ti2v_5b" else LORA_PAIRS
    made = plan(workflow=name, end=end, loras=lists, **({"end_image_base64": "AAAA"} if end else {}))
    before = plan(workflow=name, end=end, **({"end_image_base64": "AAAA"} if end else {})).graph
    own = [node["inputs"] for node in before.values() if node["class_type"] == LORAS]
    inputs, last = made.graph[made.node_id(LORAS)]["inputs"], len(own) + len(lists)
    assert inputs["pairs"] == str(last)
    assert inputs["high_noise_lora" if last == 1 else f"pairs.high_noise_lora_{last}"] == "b.safetensors"
    for kept in own:
        assert {key: value for key, value in kept.items() if key != "pairs"}.items() <= inputs.items()
    takes_them = NAG if name == "wan22_i2v_4step_motion" else SAMPLE
    assert made.value(takes_them, "high_noise") == [made.node_id(LORAS), 0]


def test_one_model_takes_no_low_noise_lora():
    with pytest.raises(JobError, match="CONFLICT: loras must leave low out, because this workflow has one model"):
        plan(workflow="wan22_ti2v_5b", loras=LORA_PAIRS)
