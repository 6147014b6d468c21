"""A long video in a workflow, how far it is, and what the answer says of its segments."""

from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.video_answer import SegmentLora, SegmentUse
from wan_relay.service.contract.video_request import LONG_LENGTH, LONG_SEGMENT_LENGTH, parse_request
from wan_relay.service.worker.long_video import NODE_ID, frames_made, segment_of
from wan_relay.service.worker.result import describe_video
from wan_relay.service.worker.saved_video import Video
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import PREPARE, SAMPLE, SAVE, Plan, build_plan

SEGMENTS = [{"prompt": "a"}, {"prompt": "b", "length": 49, "seed": 3}, {"prompt": "c"}]


def planned(settings: Settings | None = None, **fields: Any) -> Plan:
    request, _ = parse_request({"prompt": "x", "image_url": "https://example.com/a.png"} | fields)
    return build_plan(request, 7, "a.png", None, "prefix", settings or Settings())


def long_video(plan: Plan) -> dict[str, Any]:
    inputs: dict[str, Any] = plan.graph[NODE_ID]["inputs"]
    return inputs


def test_segments_stand_in_the_place_of_the_decoder() -> None:
    plan = planned(segments=SEGMENTS)
    inputs = long_video(plan)
    assert (inputs["prompts"], inputs["seeds"], inputs["lengths"]) == ("a\nb\nc", "7, 3, 4", "81, 49, 81")
    assert inputs["latent"] == [plan.node_id(SAMPLE), 0]
    assert inputs["vae"] == [plan.node_id("VAELoader"), 0]
    assert not [node for node in plan.graph.values() if node["class_type"] == "VAEDecode"]
    save = plan.graph[plan.node_id(SAVE)]["inputs"]
    assert (save["images"], save["report"]) == ([NODE_ID, 0], [NODE_ID, 1])
    assert frames_made(plan.graph, plan.value(PREPARE, "length")) == (81, 209)


def test_lengths_of_a_clients_own_graph_may_stand_as_the_node_takes_them() -> None:
    plan = planned(segments=SEGMENTS)
    long_video(plan)["lengths"] = "13; 17,\n9"
    assert frames_made(plan.graph, 81) == (17, 37)


def test_a_long_length_is_made_in_segments_where_that_is_asked_for() -> None:
    plan = planned(length=161, segment_length=81)
    assert (long_video(plan)["segment_length"], plan.value(PREPARE, "length")) == (81, 161)
    assert long_video(plan)["prompts"] == long_video(plan)["lengths"] == ""
    assert frames_made(plan.graph, 161) == (81, 161)
    assert NODE_ID not in planned(length=161).graph


def test_the_long_workflow_has_its_own_node_and_interpolation_comes_after_it() -> None:
    plan = planned(workflow="wan22_i2v_long", segments=SEGMENTS, interpolation="film")
    (key,) = [key for key, node in plan.graph.items() if node["class_type"] == "WanRelay_LongVideo"]
    assert plan.graph[key]["inputs"]["lengths"] == "81, 49, 81"
    assert plan.graph["wan_relay_interpolation"]["inputs"]["images"] == [key, 0]
    own = planned(workflow="wan22_i2v_long")
    assert (own.value(PREPARE, "length"), own.graph[key]["inputs"]["segment_length"]) == (
        LONG_LENGTH,
        LONG_SEGMENT_LENGTH,
    )


def test_colours_are_brought_to_the_first_frame_where_that_is_asked_for() -> None:
    whole = planned(length=161, colour_reference="First Frame")
    told = [long_video(whole)[name] for name in ("colour_reference", "match_colour", "segment_length", "lengths")]
    assert told == ["first frame", True, 257, ""]
    assert frames_made(whole.graph, 161) == (161, 161)
    assert long_video(planned(segments=SEGMENTS))["colour_reference"] == "clip before"
    assert long_video(planned(segments=SEGMENTS, colour_reference="first frame"))["lengths"] == "81, 49, 81"
    long = planned(workflow="wan22_i2v_long", colour_reference="first frame").graph
    (node,) = [node["inputs"] for node in long.values() if node["class_type"] == "WanRelay_LongVideo"]
    assert (node["colour_reference"], node["segment_length"]) == ("first frame", 81)
    assert NODE_ID not in planned(colour_reference="clip before").graph


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"colour_reference": "first frame", "end_image_url": "https://example.com/b.png"},
            "colour_reference first frame and end_image_url exclude each other: the video ends with the colours of its "
            "end image",
        ),
        (
            {"colour_reference": "first frame", "workflow": "wan22_t2v_4step", "image_url": None},
            "colour_reference first frame needs a workflow that takes a start image, and wan22_t2v_4step takes none",
        ),
        ({"colour_reference": "start"}, "colour_reference"),
        ({"return_last_frame": "perhaps"}, "return_last_frame"),
    ],
)
def test_colours_that_have_no_reference_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(JobError) as refused:
        planned(**fields)
    assert sentence in refused.value.sentence


def test_the_limit_of_a_run_holds_for_a_pass_and_that_of_a_file_for_all() -> None:
    pixels = 528 * 768

    def with_limits(of_a_pass: int, of_a_file: int) -> Plan:
        limits = {"WAN_RELAY_MAX_PIXELS": of_a_pass, "WAN_RELAY_MAX_SAVED_PIXELS": of_a_file}
        return planned(Settings.model_validate(limits), segments=SEGMENTS)

    with_limits(81 * pixels, 209 * pixels)
    with pytest.raises(JobError, match="528 x 768 x 81 is"):
        with_limits(81 * pixels - 1, 209 * pixels)
    with pytest.raises(JobError, match="528 x 768 x 209 is"):
        with_limits(81 * pixels, 209 * pixels - 1)


SIZE_720P = {"width": 1280, "height": 720}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"segments": [{"prompt": "a"}] * 11},
            "1280 x 720 x 881 is 812 million pixels; this worker takes at most 742 million, so lower the size or the "
            "frames of segments (segments)",
        ),
        (
            {"segments": [{"prompt": "a", "length": 257}] * 2},
            "1280 x 720 x 257 is 237 million pixels; this worker takes at most 148 million, so lower the size or the "
            "frames of segments (segments)",
        ),
        (
            {"segments": [{"prompt": "a"}] * 11, "interpolation": "film"},
            "1280 x 720 x 1761 is 1623 million pixels; this worker takes at most 742 million, so lower the size or "
            "interpolation_factor (interpolation_factor)",
        ),
    ],
)
def test_what_is_too_much_is_blamed_on_what_asks_for_it(fields: dict[str, Any], refusal: str) -> None:
    with pytest.raises(JobError) as caught:
        planned(**SIZE_720P | fields)
    assert str(caught.value) == f"OUT_OF_RANGE: {refusal}"


def test_frames_that_a_graph_itself_asks_for_are_blamed_on_the_length() -> None:
    settings = Settings.model_validate({"WAN_RELAY_MAX_SAVED_PIXELS": 100 * 528 * 768})
    with pytest.raises(JobError) as caught:
        planned(settings, workflow="wan22_i2v_long")
    assert caught.value.sentence.endswith("so lower the size or the length")
    assert caught.value.field == "length"


@pytest.mark.parametrize(
    ("node_id", "segment"),
    [("7.0.0.1.6", 1), ("7.0.0.12.6", 12), ("6", None), ("7.0.0.1.16", None), ("9.0.0.1.6", None), ("7.0.0.x.6", None)],
)
def test_a_copy_is_known_by_its_name(node_id: str, segment: int | None) -> None:
    assert segment_of(node_id, "7", "6") == segment


def test_the_answer_has_seed_and_seconds_of_each_segment() -> None:
    request, _ = parse_request({"image_url": "https://example.com/a.png", "segments": SEGMENTS[:2]})
    plan = build_plan(request, 7, "a.png", None, "prefix", Settings())
    sample, prepare = plan.node_id(SAMPLE), plan.node_id(PREPARE)
    pan = {"name": "pan", "high_noise_strength": 0.5, "low_noise_strength": 0.0}
    made = [{"length": 81, "seed": 7, "prompt": "a"}, {"length": 49, "seed": 3, "prompt": "b", "loras": [pan]}]
    outputs = {
        NODE_ID: {"wan_relay": [{"segments": made, "warnings": ["overlap was snapped."]}]},
        f"{NODE_ID}.0.0.1.{sample}": {"wan_relay": [{"seed": 7, "steps": 4, "warnings": ["slow"]}]},
        f"{NODE_ID}.0.0.1.{prepare}": {"wan_relay": [{"width": 512, "height": 768, "warnings": []}]},
        f"{NODE_ID}.0.0.2.{sample}": {"wan_relay": [{"seed": 3, "steps": 4, "warnings": ["slow"]}]},
    } | {
        f"{NODE_ID}.0.0.{number}.segment": {"wan_relay": [{"seconds": {"high_noise": 1.5, "low_noise": number}}]}
        for number in (1, 2)
    }
    video = Video(b"", ".mp4", {"frame_count": 129, "fps": 16, "width": 512, "height": 768})
    answer = describe_video(video, outputs, plan, request)
    assert answer.segments == [
        SegmentUse(prompt="a", length=81, seed=7, high_noise_s=1.5, low_noise_s=1),
        SegmentUse(prompt="b", length=49, seed=3, loras=[SegmentLora(**pan)], high_noise_s=1.5, low_noise_s=2),
    ]
    assert (answer.seed, answer.length, answer.steps) == (7, 129, 4)
    assert (answer.timings.high_noise_s, answer.timings.low_noise_s) == (3.0, 3.0)
    assert answer.warnings == ["slow", "overlap was snapped."]
    assert answer.to_wire()["segments"][1]["seed"] == 3


@pytest.mark.parametrize(
    ("fields", "warnings"),
    [
        ({"prompt": "zzz"}, ["prompt has no effect beside segments, which all have their own"]),
        ({"prompt": "a"}, []),
        ({"prompt": None, "segments": [{"prompt": "<lora:pan:0.5> a"}]}, []),
        ({"prompt": "zzz", "segments": [{"prompt": "a"}, {"prompt": "<lora:pan:0.5>"}]}, []),
        ({"prompt": "a", "seed": 5}, []),
        ({"prompt": None, "seed": 5, "segments": [{"prompt": "a", "seed": 5}]}, []),
        ({"prompt": None, "seed": -1, "segments": [{"prompt": "a", "seed": 7}]}, []),
        (
            {"prompt": None, "seed": 5, "segments": [{"prompt": "a", "seed": 7}]},
            ["seed has no effect, because the first of segments has its own"],
        ),
        (
            {"prompt": None, "seeds": [5], "segments": [{"prompt": "a", "seed": 7}]},
            ["seeds has no effect, because the first of segments has its own"],
        ),
        ({"prompt": None, "num_videos": 1, "segments": [{"prompt": "a", "seed": 7}]}, []),
    ],
)
def test_what_has_no_effect_beside_segments_is_said(fields: dict[str, Any], warnings: list[str]) -> None:
    assert planned(**{"segments": SEGMENTS} | fields).warnings == warnings


def test_the_prompt_of_the_answer_is_that_of_the_first_segment() -> None:
    request, _ = parse_request({"image_url": "https://example.com/a.png", "prompt": "zzz", "segments": SEGMENTS})
    plan = build_plan(request, 7, "a.png", None, "prefix", Settings())

    def answered(*segments: dict[str, Any]) -> str | None:
        outputs = {NODE_ID: {"wan_relay": [{"segments": list(segments)}]}}
        return describe_video(Video(b"", ".mp4"), outputs, plan, request).prompt

    assert answered({"length": 81, "seed": 7, "prompt": "a"}, {"length": 81, "seed": 8, "prompt": "b"}) == "a"
    assert answered({"length": 81, "seed": 7, "prompt": None}, {"length": 81, "seed": 8, "prompt": "b"}) == "zzz"
