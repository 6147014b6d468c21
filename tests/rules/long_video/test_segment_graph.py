"""The copies of a graph, one for each segment: against the bundled workflows, link by link."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.long_video.segment_graph import find_clip, segment_graph
from wan_relay.nodes.rules.long_video.segment_plan import plan_long_video

API = Path(__file__).resolve().parents[3] / "workflows" / "api"
JOINING = {"join": "drop", "match_colour": True}


def bundled(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = json.loads((API / f"{name}.json").read_text())
    return workflow


def node(workflow: dict[str, Any], class_type: str) -> str:
    (found,) = [key for key, value in workflow.items() if value["class_type"] == class_type]
    return found


def expanded(workflow: dict[str, Any], **more: Any) -> dict[str, Any]:
    before = copy.deepcopy(workflow)
    clip = find_clip([node(workflow, "WanRelay_Sample"), 0], workflow.__getitem__)
    plan = plan_long_video(161, 81, 1, 7, **more)
    graph, added = segment_graph(clip, plan, ["4", 0], "9.0.0.", JOINING)
    assert added == [f"9.0.0.{number}.segment" for number in range(1, len(plan.segments) + 1)]
    assert workflow == before, "the graph that was given is left alone"
    return graph


def test_two_segments_share_the_models_and_hand_on_their_last_frame() -> None:
    workflow = bundled("wan22_i2v_long")
    graph = expanded(workflow)
    of_sample, of_prepare = workflow["6"]["inputs"], workflow["5"]["inputs"]
    first, second = ({**of_prepare, "length": 81} for _ in range(2))
    del second["start_image"]
    second |= {"sizing": "fixed", "previous": ["9.0.0.1.segment", 1], "overlap": 1}
    second |= {"width": ["9.0.0.1.5", 3], "height": ["9.0.0.1.5", 4]}
    expected = {}
    for number, prepare in ((1, first), (2, second)):
        name = f"9.0.0.{number}."
        from_prepare = {key: [f"{name}5", slot] for key, slot in (("positive", 0), ("negative", 1), ("latent", 2))}
        expected[f"{name}5"] = {"class_type": "WanRelay_PrepareLatent", "inputs": prepare, "override_display_id": "5"}
        expected[f"{name}6"] = {
            "class_type": "WanRelay_Sample",
            "inputs": {**of_sample, **from_prepare, "seed": 6 + number},
            "override_display_id": "6",
        }
        adding = {**JOINING, "latent": [f"{name}6", 0], "vae": ["4", 0], "overlap": 1, "report": [f"{name}6", 1]}
        adding |= {"finish": number == 2} | ({"previous": ["9.0.0.1.segment", 0]} if number == 2 else {})
        expected[f"{name}segment"] = {"class_type": "WanRelay_AddSegment", "inputs": adding}
    assert graph == expected


def test_prompts_copy_their_encoder_and_what_hangs_on_it() -> None:
    workflow = bundled("wan22_i2v_4step")
    nag = {"high_noise": ["2", 0], "low_noise": ["2", 1], "negative": ["3", 1], "scale": 11.0}
    workflow["nag"] = {"class_type": "WanRelay_ApplyNag", "inputs": nag}
    workflow["6"]["inputs"] |= {"high_noise": ["nag", 0], "low_noise": ["nag", 1]}
    graph = expanded(workflow, prompts=["a", "b"])
    assert [graph[f"9.0.0.{number}.3"]["inputs"]["prompt"] for number in (1, 2)] == ["a", "b"]
    assert graph["9.0.0.2.nag"]["inputs"] == {**nag, "negative": ["9.0.0.2.3", 1]}
    assert graph["9.0.0.2.6"]["inputs"]["high_noise"] == ["9.0.0.2.nag", 0]
    assert graph["9.0.0.2.5"]["inputs"]["positive"] == ["9.0.0.2.3", 0]
    assert not any(".2.2" in name or ".2.4" in name for name in graph), "neither experts nor VAE are copied"


def test_strengths_in_a_prompt_copy_the_loras_and_what_hangs_on_them() -> None:
    workflow = bundled("wan22_i2v_4step_lora")
    loras = node(workflow, "WanRelay_ApplyLoraPair")
    sample = node(workflow, "WanRelay_Sample")
    encode = node(workflow, "WanRelay_EncodePrompts")
    graph = expanded(workflow, prompts=["<lora:4steps_lora_v1_high:0.5:0>", "a"])
    own = workflow[loras]["inputs"]
    assert graph[f"9.0.0.1.{loras}"]["inputs"] == {**own, "high_noise_strength": 0.5, "low_noise_strength": 0.0}
    assert graph[f"9.0.0.2.{loras}"]["inputs"] == own
    for number in (1, 2):
        of_sample = graph[f"9.0.0.{number}.{sample}"]["inputs"]
        assert [of_sample["high_noise"], of_sample["low_noise"]] == [
            [f"9.0.0.{number}.{loras}", slot] for slot in (0, 1)
        ]
    own_prompt = workflow[encode]["inputs"]["prompt"]
    assert [graph[f"9.0.0.{number}.{encode}"]["inputs"]["prompt"] for number in (1, 2)] == [own_prompt, "a"]


def test_only_the_last_segment_has_the_end_image() -> None:
    workflow = bundled("wan22_flf2v_4step")
    graph, prepare = expanded(workflow), node(workflow, "WanRelay_PrepareLatent")
    link = workflow[prepare]["inputs"]["end_image"]
    assert [graph[f"9.0.0.{number}.{prepare}"]["inputs"].get("end_image") for number in (1, 2)] == [None, link]


def prepared(**given: Any) -> list[dict[str, Any]]:
    """What Prepare Latent of each of three segments is told of known frames, where the one of all is told `given`."""
    workflow = bundled("wan22_i2v_long")
    told = {"start_image", "end_image", "previous", "previous_latent", "anchor", "padding", "loop"}
    others = {key: value for key, value in workflow["5"]["inputs"].items() if key not in told}
    workflow["5"]["inputs"] = others | given
    graph = expanded(workflow, prompts=["a", "b", "c"])
    return [
        {key: value for key, value in graph[f"9.0.0.{number}.5"]["inputs"].items() if key in told}
        for number in (1, 2, 3)
    ]


TAILS = [["9.0.0.1.segment", 1], ["9.0.0.2.segment", 1]]


def test_a_loop_ends_with_its_first_frame_and_no_segment_before() -> None:
    assert prepared(start_image=["1", 0], loop=True) == [
        {"start_image": ["1", 0], "loop": False},
        {"previous": TAILS[0], "loop": False},
        {"previous": TAILS[1], "loop": True, "end_image": ["1", 0]},  # so it says what to do with its last frame
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"previous": ["2", 0], "loop": True}, "loop needs a start_image and no end_image"),
        ({"start_image": ["1", 0], "end_image": ["2", 0], "loop": True}, "loop needs a start_image and no end_image"),
        ({"start_image": ["1", 0], "loop": ["2", 0]}, "loop of Prepare Latent must be switched and not linked"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{sentence}"):
        prepared(**given)


def test_an_anchor_and_the_padding_stay() -> None:
    assert prepared(anchor=["1", 0], previous=["2", 0], padding="zero") == [
        {"anchor": ["1", 0], "previous": tail, "padding": "zero"} for tail in (["2", 0], *TAILS)
    ]
    assert prepared(start_image=["1", 0], padding="reference") == [
        {"start_image": ["1", 0], "padding": "reference"},
        *({"anchor": ["1", 0], "previous": tail, "padding": "reference"} for tail in TAILS),
    ]


def test_another_last_prompt_changes_no_segment_before_it() -> None:
    workflow = bundled("wan22_i2v_long")
    one, other, longer = (expanded(workflow, prompts=prompts) for prompts in (["a", "b"], ["a", "c"], ["a", "c", "d"]))
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"9.0.0.2.3"}
    of_first = {name: value for name, value in one.items() if name.startswith("9.0.0.1.") and name != "9.0.0.1.5"}
    assert {name: longer[name] for name in of_first} == of_first, "nor does one segment more, but for its length"


def test_a_graph_of_cores_sampler_is_understood() -> None:
    workflow = bundled("wan22_i2v_4step")
    sample = workflow.pop("6")["inputs"]
    workflow["noise"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    workflow["guider"] = {"class_type": "WanRelay_Guider", "inputs": {"positive": sample["positive"]}}
    inputs = {"noise": ["noise", 0], "guider": ["guider", 0], "latent_image": sample["latent"]}
    workflow["custom"] = {"class_type": "SamplerCustomAdvanced", "inputs": inputs}
    clip = find_clip(["custom", 0], workflow.__getitem__)
    graph, _ = segment_graph(clip, plan_long_video(161, 81, 1, 7), ["4", 0], "", JOINING)
    assert [graph[f"{number}.noise"]["inputs"]["noise_seed"] for number in (1, 2)] == [7, 8]
    assert graph["2.segment"]["inputs"]["latent"] == ["2.custom", 0]
    assert "report" not in graph["2.segment"]["inputs"]


def without(name: str) -> dict[str, Any]:
    workflow = bundled("wan22_i2v_4step")
    workflow[node(workflow, name)]["class_type"] = "Another"
    return workflow


def test_what_is_not_understood_is_refused() -> None:
    sentences = {
        "WanRelay_PrepareLatent": "latent must come from a graph with one Wan Relay: Prepare Latent; this one has 0.",
        "WanRelay_Sample": "latent must come from a graph with one Wan Relay: Sample, or one Random Noise; this one "
        "has 0.",
    }
    for class_type, sentence in sentences.items():
        with pytest.raises(InvalidInput) as refused:
            find_clip(["6", 0], without(class_type).__getitem__)
        assert str(refused.value) == sentence
    batch = bundled("wan22_i2v_4step")
    batch["5"]["inputs"]["batch_size"] = 2
    with pytest.raises(InvalidInput, match="batch_size of Prepare Latent must be 1 for a long video"):
        find_clip(["6", 0], batch.__getitem__)
    keyed = bundled("wan22_i2v_4step")
    keyed["5"]["inputs"]["keyframes"] = ["1", 0]
    with pytest.raises(InvalidInput, match="keyframes of Prepare Latent must stay empty for a long video"):
        find_clip(["6", 0], keyed.__getitem__)
    with pytest.raises(InvalidInput, match="prompts needs one Wan Relay: Encode Prompts, or one CLIP Text Encode"):
        expanded(without("WanRelay_EncodePrompts"), prompts=["a"])
    expanded(without("WanRelay_EncodePrompts"))
