"""Fields about upscaling and interpolation beside a workflow that has nodes for it."""

import copy
from typing import Any

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.graph_request import GraphFields
from wan_relay.service.contract.video_request import VideoRequest, parse_fields, parse_request
from wan_relay.service.worker.graph_fields import fill_graph
from wan_relay.service.worker.interpolation import INTERPOLATE, InterpolationModel
from wan_relay.service.worker.own_steps import with_own_steps
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.upscaling import UPSCALE
from wan_relay.service.worker.workflow import SAVE, Plan, build_plan, bundled

SETTINGS = Settings.from_environment({})
SMOOTH = "wan22_i2v_smooth"
FILM = InterpolationModel("my_film.safetensors", "film")
FIELDS = ("upscale_factor", "upscale_model", "interpolation", "interpolation_factor", "slow_motion")


def requested(**fields: Any) -> VideoRequest:
    request, _ = parse_request({"prompt": "p", "image_url": "https://a.example/a.png"} | fields)
    return request


def smooth_request(**fields: Any) -> VideoRequest:
    return with_own_steps(requested(workflow=SMOOTH, **fields), bundled(SMOOTH, SETTINGS))


def made_of(request: VideoRequest) -> Plan:
    return build_plan(request, 7, "a.png", None, "x/video", SETTINGS, FILM)


def exported(**fields: Any) -> Plan:
    """The smooth workflow as a client's own, with fields beside it."""
    plan = Plan(bundled(SMOOTH, SETTINGS))
    assert fill_graph(plan, parse_fields(fields, GraphFields)[0], {}, SETTINGS, FILM)
    return plan


def steps(plan: Plan) -> list[tuple[str, Any]]:
    """(class, factor) of what the frames go through after VAE Decode, in order, and the rate of the file."""
    found: list[tuple[str, Any]] = []
    key = plan.value(SAVE, "images")[0]
    while plan.graph[key]["class_type"] != "VAEDecode":
        found.insert(0, (plan.graph[key]["class_type"], plan.graph[key]["inputs"]["factor"]))
        key = plan.graph[key]["inputs"]["images"][0]
    of_steps = [node["class_type"] for node in plan.graph.values() if node["class_type"] in (UPSCALE, INTERPOLATE)]
    assert sorted(of_steps) == sorted(name for name, _ in found)  # and none beside the way
    links = {v[0] for node in plan.graph.values() for v in node["inputs"].values() if isinstance(v, list)}
    assert {*links, plan.node_id(SAVE)} == set(plan.graph)  # no link to nothing, no loader that nobody needs
    return [*found, ("fps", plan.fps)]


def test_a_workflows_own_steps_are_the_fields_that_say_them() -> None:
    told = smooth_request(upscale_model="x4.pth", interpolation_factor=3)
    assert [getattr(told, name) for name in FIELDS] == [2, "x4.pth", "film", 3, False]
    plain = requested()
    assert with_own_steps(plain, bundled(plain.workflow, SETTINGS)) is plain


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [(UPSCALE, 2), (INTERPOLATE, 2), ("fps", 32)]),
        ({"fps": 12, "interpolation_factor": 4}, [(UPSCALE, 2), (INTERPOLATE, 4), ("fps", 48)]),
        ({"slow_motion": True, "upscale_factor": 3}, [(UPSCALE, 3), (INTERPOLATE, 2), ("fps", 16)]),
        ({"interpolation": "none"}, [(UPSCALE, 2), ("fps", 16)]),
        ({"upscale_factor": 1, "interpolation": "rife"}, [(INTERPOLATE, 2), ("fps", 32)]),
        ({"upscale_factor": 1, "interpolation_factor": 1, "fps": 24}, [("fps", 24)]),
    ],
)
def test_fields_set_the_steps_or_leave_them_out(fields: dict[str, Any], expected: list[tuple[str, Any]]) -> None:
    assert steps(made_of(smooth_request(**fields))) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [(UPSCALE, 2), (INTERPOLATE, 2), ("fps", 32)]),
        ({"fps": 12}, [(UPSCALE, 2), (INTERPOLATE, 2), ("fps", 24)]),
        (
            {"interpolation": "film", "interpolation_factor": 4, "fps": 10},
            [(UPSCALE, 2), (INTERPOLATE, 4), ("fps", 40)],
        ),
        ({"interpolation": "film", "slow_motion": True}, [(UPSCALE, 2), (INTERPOLATE, 2), ("fps", 16)]),
        ({"interpolation": "none"}, [(UPSCALE, 2), ("fps", 16)]),
        ({"upscale_factor": 1}, [(INTERPOLATE, 2), ("fps", 32)]),
        ({"upscale_factor": 1.5, "interpolation": "none"}, [(UPSCALE, 1.5), ("fps", 16)]),
    ],
)
def test_a_clients_own_workflow_does_no_step_twice(fields: dict[str, Any], expected: list[tuple[str, Any]]) -> None:
    assert steps(exported(**fields)) == expected


def test_frames_in_between_are_made_of_each_video_of_a_batch_alone() -> None:
    plan = Plan(bundled(SMOOTH, SETTINGS))
    plan.graph[plan.node_id(SAVE)]["inputs"]["videos"] = 2
    assert fill_graph(plan, parse_fields({"interpolation": "film"}, GraphFields)[0], {}, SETTINGS, FILM)
    assert plan.value(INTERPOLATE, "videos") == 2


def test_the_model_is_the_workers_where_the_request_speaks_of_it() -> None:
    def names(plan: Plan) -> set[str]:
        loaders = [node["inputs"] for node in plan.graph.values() if "model_name" in node["inputs"]]
        return {inputs["model_name"] for inputs in loaders}

    assert names(exported()) == {"film_net_fp16.safetensors", "RealESRGAN_x4plus.safetensors"}
    assert names(exported(interpolation="film")) == {FILM.name, "RealESRGAN_x4plus.safetensors"}
    assert names(made_of(smooth_request(upscale_model="x4.pth"))) == {FILM.name, "x4.pth"}


def test_segments_and_seconds_count_the_generated_frames() -> None:
    plan = made_of(smooth_request(segments=[{"prompt": "a"}, {"prompt": "b"}]))
    upscaled = plan.graph[plan.node_id(UPSCALE)]["inputs"]["images"][0]
    assert plan.graph[upscaled]["class_type"] == "WanRelay_LongVideo"
    for made in (made_of(smooth_request(duration=3, fps=20)), exported(duration=3, fps=20)):
        assert (made.value("WanRelay_PrepareLatent", "length"), made.fps) == (61, 40)


def test_the_budget_counts_the_workflows_own_steps() -> None:
    small = Settings.from_environment({"WAN_RELAY_MAX_SAVED_PIXELS": str(4 * 528 * 768 * 161 - 1)})
    for request in (smooth_request(), requested(workflow=SMOOTH)):
        with pytest.raises(JobError, match="OUT_OF_RANGE: 1056 x 1536 x 161 is 261 million pixels; this worker"):
            build_plan(request, 7, "a.png", None, "x/video", small)


def test_a_workflow_that_interpolates_twice_takes_no_field_for_it() -> None:
    graph = bundled(SMOOTH, SETTINGS)
    graph["20"] = copy.deepcopy(graph["11"])
    graph["11"]["inputs"]["images"] = ["20", 0]
    fields = parse_fields({"interpolation": "film"}, GraphFields)[0]
    with pytest.raises(JobError) as refused:
        fill_graph(Plan(graph), fields, {}, SETTINGS, FILM)
    assert str(refused.value) == (
        "CONFLICT: interpolation needs a workflow with at most one node WanRelay_InterpolateFrames, and this one has 2 "
        "(interpolation)"
    )


@pytest.mark.parametrize("fps", [[], ["11"], [["11"], 1], [11, 1], ["99", 1], ["7", 1], ["11", 0], None, "16"])
def test_a_frame_rate_that_comes_from_elsewhere_is_no_number_of_ours(fps: Any) -> None:
    graph = bundled(SMOOTH, SETTINGS)
    graph["12"]["inputs"] |= {"fps": fps, "odd": [["7"], 0], "none": []}
    plan = Plan(graph)
    assert not fill_graph(plan, parse_fields({"interpolation": "none", "fps": 12}, GraphFields)[0], {}, SETTINGS, FILM)
    assert plan.warnings == ["interpolation fills no node of this workflow, so it was ignored"]
    assert (graph["11"]["inputs"]["fps"], graph["12"]["inputs"]["fps"]) == (16, 12)


def test_a_workflow_that_is_not_like_ours_has_its_frame_rate_where_it_says_it() -> None:
    graph = bundled(SMOOTH, SETTINGS)
    graph["6"]["inputs"]["steps"] = ["5", 5]
    fill_graph(Plan(graph), parse_fields({"fps": 12}, GraphFields)[0], {}, SETTINGS, FILM)
    assert (graph["11"]["inputs"]["fps"], graph["12"]["inputs"]["fps"]) == (12, ["11", 1])


def test_an_odd_list_among_the_values_is_no_link() -> None:
    graph = bundled(SMOOTH, SETTINGS)
    graph["12"]["inputs"] |= {"odd": [["7"], 0], "none": []}
    plan = Plan(graph)
    assert fill_graph(plan, parse_fields({"interpolation": "none"}, GraphFields)[0], {}, SETTINGS, FILM)
    assert (plan.value(SAVE, "images"), plan.value(SAVE, "fps"), "11" in graph) == (["9", 0], 16, False)


def test_a_step_whose_size_is_used_cannot_be_taken_out() -> None:
    graph = bundled(SMOOTH, SETTINGS)
    graph["20"] = {"class_type": "PreviewAny", "inputs": {"source": ["9", 1]}, "_meta": {"title": "Width"}}
    with pytest.raises(JobError, match="CONFLICT: the fields do not fit this workflow"):
        fill_graph(Plan(graph), parse_fields({"upscale_factor": 1}, GraphFields)[0], {}, SETTINGS, FILM)


def test_other_workflows_want_interpolation_beside_what_belongs_to_it() -> None:
    for fields in ({"interpolation_factor": 4}, {"slow_motion": True}, {"upscale_model": "x4.pth"}):
        requested(workflow=SMOOTH, **fields)
        with pytest.raises(JobError, match=r"CONFLICT: .* beside it"):
            requested(**fields)
