"""Fields of a video request in workflows that are not bundled."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.graph_request import GraphFields
from wan_relay.service.contract.video_request import parse_fields, parse_request
from wan_relay.service.worker.graph_fields import fill_graph, is_like_ours
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import PREPARE, SAMPLE, SAVE, Plan, build_plan

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows" / "api"
SETTINGS = Settings.from_environment({"WAN_RELAY_VAE": "my_vae.safetensors"})
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def bundled(name: str = "wan22_i2v_4step") -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def filled(
    graph: dict[str, Any], images: dict[str, str] | None = None, settings: Settings = SETTINGS, **fields: Any
) -> Plan:
    plan = Plan(copy.deepcopy(graph))
    fill_graph(plan, parse_fields(fields, GraphFields)[0], images or {}, settings)
    return plan


@pytest.mark.parametrize("name", NAMES)
def test_without_fields_a_graph_stays_as_it_is_but_for_the_operators_files(name):
    expected = bundled(name)
    assert is_like_ours(expected)
    for node in expected.values():
        if node["class_type"] == "VAELoader" and node["inputs"]["vae_name"] == "wan_2.1_vae.safetensors":
            node["inputs"]["vae_name"] = "my_vae.safetensors"
    plan = filled(bundled(name))
    assert (plan.graph, plan.warnings) == (expected, [])


@pytest.mark.parametrize(
    "fields",
    [
        {
            "prompt": "a cat",
            "seed": 3,
            "steps": 6,
            "cfg": 2,
            "duration": 2,
            "resolution": "720p",
            "aspect_ratio": "16:9",
        },
        {"opening_steps": 1, "nag_scale": 11, "negative_prompt": "blur", "format": "webm vp9"},
        {"switch": "boundary", "boundary": 0.8, "loras": [{"high": "a.safetensors", "low": "b.safetensors"}]},
    ],
)
@pytest.mark.parametrize(
    "name", ["wan22_i2v_4step", "wan22_i2v_4step_lora", "wan22_i2v_4step_motion", "wan22_i2v_reference"]
)
def test_exported_graph_takes_fields_as_the_bundled_one_does(name, fields):
    request, _ = parse_request({"prompt": "", "image_base64": "AAAA", "workflow": name} | {"prompt": "p"} | fields)
    seed = fields.get("seed", bundled(name)["6" if name == "wan22_i2v_4step" else _sampler(name)]["inputs"]["seed"])
    expected = build_plan(request, seed, "start.png", None, _prefix(name), SETTINGS)
    plan = filled(bundled(name), {"start_image": "start.png"}, **({"prompt": "p"} | fields))
    assert plan.graph == expected.graph
    assert plan.warnings == expected.warnings


def _sampler(name: str) -> str:
    return next(key for key, node in bundled(name).items() if node["class_type"] == SAMPLE)


def _prefix(name: str) -> str:
    return next(node["inputs"]["filename_prefix"] for node in bundled(name).values() if node["class_type"] == SAVE)


def test_seed_is_the_graphs_own_or_drawn():
    graph = bundled()
    graph["6"]["inputs"]["seed"] = 99
    assert filled(graph).value(SAMPLE, "seed") == 99
    assert filled(graph, seed=4).value(SAMPLE, "seed") == 4
    assert len({filled(graph, seed=-1).value(SAMPLE, "seed") for _ in range(3)}) == 3


def test_fields_that_the_graphs_links_do_not_take():
    graph = bundled()
    del graph["6"]["inputs"]["negative"]
    with pytest.raises(JobError, match="CONFLICT: the fields do not fit this workflow"):
        filled(graph, nag_scale=11)
    del graph["6"]["inputs"]["seed"]
    assert not is_like_ours(graph)


def test_size_of_a_5b_graph():
    plan = filled(bundled("wan22_ti2v_5b"), resolution="720p", aspect_ratio="16:9")
    assert (plan.value(PREPARE, "width"), plan.value(PREPARE, "height")) == (1280, 704)


@pytest.mark.parametrize("name", ["lengths", "segment_length"])
def test_a_long_video_whose_segments_come_by_a_link_is_filled_one_by_one(name):
    graph = bundled("wan22_i2v_long")
    assert is_like_ours(graph)
    graph["7"]["inputs"][name] = ["9", 0]
    assert not is_like_ours(graph)
    assert filled(graph, prompt="p").graph["3"]["inputs"]["prompt"] == "p"


def long_video(**inputs: Any) -> dict[str, Any]:
    graph = bundled("wan22_i2v_long")
    graph["7"]["inputs"] |= {"prompts": "one\ntwo", "seeds": "1, 2", "lengths": "81, 81"} | inputs
    return graph


@pytest.mark.parametrize(
    ("fields", "cleared"),
    [
        ({}, set()),
        ({"negative_prompt": "blur", "fps": 24}, set()),
        ({"prompt": "NEW"}, {"prompts"}),
        ({"seed": 9}, {"seeds"}),
        ({"length": 33}, {"lengths"}),
        ({"duration": 2}, {"lengths"}),
        ({"segment_length": 41}, {"lengths"}),
        ({"prompt": "NEW", "seed": 9, "length": 33, "segment_length": 41}, {"prompts", "seeds", "lengths"}),
    ],
)
def test_a_field_clears_the_list_of_long_video_that_would_overrule_it(fields, cleared):
    graph = long_video()
    expected = graph["7"]["inputs"] | dict.fromkeys(cleared, "")
    expected["segment_length"] = fields.get("segment_length", 81)
    assert filled(graph, **fields).graph["7"]["inputs"] == expected


def test_segments_of_a_request_replace_all_that_long_video_says_itself():
    made = filled(long_video(), seed=9, segments=[{"prompt": "a"}, {"prompt": "b", "length": 49}]).graph["7"]["inputs"]
    assert {name: made[name] for name in ("prompts", "seeds", "lengths")} == {
        "prompts": "a\nb",
        "seeds": "9, 10",
        "lengths": "81, 49",
    }


def test_a_field_clears_that_list_also_where_fields_are_filled_one_by_one():
    graph = long_video(segment_length=["9", 0])
    made = filled(graph, prompt="NEW", length=33, segment_length=41)
    assert made.graph["7"]["inputs"] == graph["7"]["inputs"] | {"prompts": "", "lengths": ""}
    assert made.warnings == ["segment_length fills no node of this workflow, so it was ignored"]


@pytest.mark.parametrize("lengths", ["abc", "81, -5", "81, 300", "8.5"])
def test_lengths_of_long_video_that_cannot_be_read(lengths):
    with pytest.raises(JobError) as caught:
        filled(long_video(lengths=lengths))
    assert str(caught.value) == (
        "INVALID_VALUE: lengths of Long Video must be whole numbers from 0 to 257 with commas between, "
        f"got {lengths.split()[-1]}"
    )
    filled(long_video(lengths=lengths), length=33)


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph["6"]["inputs"].update(steps=["9", 0]),
        lambda graph: graph["5"]["inputs"].pop("fit"),
        lambda graph: graph.update({"9": copy.deepcopy(graph["8"])}),
        lambda graph: graph.pop("8"),
    ],
)
def test_graph_that_is_not_quite_like_ours_is_filled_one_by_one(change):
    graph = bundled()
    change(graph)
    assert not is_like_ours(graph)
    plan = filled(graph, prompt="p", seed=5, cfg=2, nag_scale=3, duration=2)
    assert plan.graph["3"]["inputs"]["prompt"] == "p"
    assert [plan.graph["6"]["inputs"][name] for name in ("seed", "high_noise_cfg", "low_noise_cfg")] == [5, 2, 2]
    assert plan.graph["4"]["inputs"]["vae_name"] == "my_vae.safetensors"
    assert plan.warnings == [
        f"{name} fills no node of this workflow, so it was ignored" for name in ("duration", "nag_scale")
    ]


def test_field_that_could_go_into_two_nodes_goes_into_none():
    graph = bundled()
    graph["9"] = copy.deepcopy(graph["3"])
    plan = filled(graph, prompt="p")
    assert plan.warnings == ["prompt fills no node of this workflow, so it was ignored"]
    with pytest.raises(JobError, match="UNKNOWN_FIELD: prompt fills no node of this workflow \\(prompt\\)"):
        filled(graph, prompt="p", strict=True)


def loaders(plan: Plan) -> dict[str, str]:
    return {key: node["inputs"]["image"] for key, node in plan.graph.items() if node["class_type"] == "LoadImage"}


def test_images_follow_the_link_whatever_the_title():
    graph = bundled()
    graph["1"]["_meta"]["title"] = "My picture"
    plan = filled(graph, {"start_image": "s.png", "end_image": "e.png"})
    assert loaders(plan) == {"1": "s.png", "wan_relay_end_image": "e.png"}
    assert plan.graph["5"]["inputs"]["start_image"] == ["1", 0]
    assert plan.graph["5"]["inputs"]["end_image"] == ["wan_relay_end_image", 0]


def test_image_in_place_of_what_another_node_makes():
    graph = bundled()
    graph["9"] = {"class_type": "ImageScale", "inputs": {"image": ["1", 0]}, "_meta": {"title": "Scale"}}
    graph["5"]["inputs"]["start_image"] = ["9", 0]
    plan = filled(graph, {"start_image": "s.png"})
    assert loaders(plan) == {"1": "example.png", "wan_relay_start_image": "s.png"}
    assert plan.graph["5"]["inputs"]["start_image"] == ["wan_relay_start_image", 0]


def test_images_of_a_foreign_graph():
    load = {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Load Image"}}
    end = load | {"_meta": {"title": "End image"}, "inputs": {"image": "y.png"}}
    both = {"start_image": "s.png", "end_image": "e.png"}
    one = filled({"1": load}, both)
    assert (loaders(one), one.warnings) == (
        {"1": "s.png"},
        ["end_image fills no node of this workflow, so it was ignored"],
    )
    two = filled({"1": load, "2": end}, both)
    assert loaders(two) == {"1": "x.png", "2": "e.png"}
    assert two.warnings == ["start_image fills no node of this workflow, so it was ignored"]


def test_size_over_the_workers_budget():
    settings = Settings.from_environment({"WAN_RELAY_MAX_PIXELS": "1000000"})
    foreign = {
        "1": {
            "class_type": "WanImageToVideo",
            "_meta": {"title": "I2V"},
            "inputs": {"width": 640, "height": 640, "length": 81},
        }
    }
    with pytest.raises(JobError) as caught:
        filled(foreign, settings=settings)
    assert str(caught.value) == (
        "OUT_OF_RANGE: 640 x 640 x 81 is more than the 1 million pixels that this worker takes (node I2V) (length)"
    )
    foreign["1"]["inputs"]["length"] = ["2", 0]
    filled(foreign, settings=settings)
    with pytest.raises(JobError, match="OUT_OF_RANGE"):
        filled(bundled(), settings=settings)
