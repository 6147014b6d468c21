"""What the page computes by itself is what the gateway, the worker and the nodes compute."""

from typing import Any

import pytest
from wan_relay.nodes.rules.frames.frame_count import plan_length
from wan_relay.nodes.rules.frames.frame_size import placement_changes, plan_size
from wan_relay.nodes.rules.relay.expert_boundary import count_high_steps
from wan_relay.nodes.rules.relay.official_schedules import official_unipc_sigmas, shift_sigma
from wan_relay.service.gateway.dialects import api
from wan_relay.service.worker.settings import PACKAGE, Settings
from wan_relay.service.worker.workflow import PREPARE, SAMPLE, Plan, build_plan
from wan_relay.tests.browser.gateway_page import GatewayPage

PICTURES = [(600, 400), (832, 480), (480, 832), (1024, 1024), (4000, 3000), (1170, 2532), (999, 1001), (321, 320)]
PICTURES += [(64, 512), (512, 64), (1920, 804), (37, 41), (5999, 3373), (16, 16), (20000, 100), (100, 20000)]
ASPECTS = ["auto", "16:9", "9:16", "4:3", "3:4", "1:1"]
DURATIONS = [0.5, 0.75, 1, 2.5, 3.1, 5, 5.05, 7.03125, 7.09375, 9.99, 10]


def orders() -> list[dict[str, Any]]:
    """Every model, resolution and aspect, with and without pictures."""
    pictures: list[dict[str, tuple[int, int]]] = [{}, *({"start": size} for size in PICTURES)]
    pictures += [{"end": (400, 600)}, {"start": (1024, 1024), "end": (400, 600)}]
    made: list[dict[str, Any]] = []
    for model in ("4step", "reference", "5b"):
        for resolution in ("480p", "720p"):
            for aspect in ASPECTS:
                for i, images in enumerate(pictures):
                    duration = DURATIONS[(len(made) + i) % len(DURATIONS)]
                    order = {"model": model, "resolution": resolution, "aspect_ratio": aspect, "duration": duration}
                    made.append({"order": order, "pictures": images})
    return made


def is_taken(model: str, pictures: dict[str, tuple[int, int]]) -> bool:
    """The page, as the gateway, refuses the base pair without a picture, and an end picture for 5B."""
    return bool(pictures) if model == "reference" else model != "5b" or "end" not in pictures


def as_the_nodes_do(order: dict[str, Any], pictures: dict[str, tuple[int, int]]) -> dict[str, Any] | None:
    """The same from the request on: dialect, worker's plan, node rules. None where the node refuses the picture."""
    images = {f"{'end_' if name == 'end' else ''}image_url": "https://example.com/a.png" for name in pictures}
    is_words = order["model"] != "reference" and not pictures
    request = api.parse({"prompt": "x", "task_type": "t2v" if is_words else "i2v", **order, **images}).request
    plan = build_plan(
        request, 0, "a" if "start" in pictures else None, "b" if "end" in pictures else None, "x", settings()
    )
    sizing, width, height, length, fit = (
        plan.value(PREPARE, name) for name in ("sizing", "width", "height", "length", "fit")
    )
    image_size = pictures.get("start") or pictures.get("end")
    multiple = 32 if order["model"] == "5b" else 16
    try:
        size = plan_size(width, height, sizing, image_size, multiple)
    except ValueError:
        return None
    frames = plan_length(length, request.fps)
    changes = [
        {"picture": name, "change": change, "percent": pytest.approx(percent, rel=1e-9)}
        for name, own in pictures.items()
        for change, percent in placement_changes(own, size["width"], size["height"], fit)
    ]
    return {
        "width": size["width"],
        "height": size["height"],
        "frames": frames["length"],
        "seconds": frames["duration_s"],
        "fps": request.fps,
        "changes": changes,
    }


def settings() -> Settings:
    return Settings.from_environment({"WAN_RELAY_WORKFLOWS": str(PACKAGE / "workflows" / "api")})


def test_sizes_frames_and_losses_are_those_of_the_nodes(page: GatewayPage) -> None:
    cases = [case for case in orders() if is_taken(case["order"]["model"], case["pictures"])]
    said = page.ask(
        "sizes.mjs", "return argument.map(({ order, pictures }) => its.planOf(order, pictures) ?? null);", cases
    )
    assert len(cases) > 600
    for case, plan in zip(cases, said, strict=True):
        assert plan == as_the_nodes_do(case["order"], case["pictures"]), case


def test_experts_of_the_steps_are_those_of_the_nodes(page: GatewayPage) -> None:
    cases = [
        {"model": model, "resolution": resolution, **more}
        for model in ("4step", "reference", "5b")
        for resolution in ("480p", "720p")
        for more in (
            {},
            {"steps": 1},
            {"steps": 5},
            {"steps": 27},
            {"steps": 50, "shift": 12.5},
            {"steps": 9, "shift": 1},
        )
    ]
    said = page.ask("relay_plan.mjs", "return argument.map((order) => its.stepsOf(order));", cases)
    for case, steps in zip(cases, said, strict=True):
        plan = build_plan(
            api.parse({"prompt": "x", "image_url": "https://example.com/a.png", **case}).request,
            0,
            "a",
            None,
            "x",
            settings(),
        )
        assert [step["sigma"] for step in steps] == pytest.approx(sigmas(plan)[:-1], abs=1e-12), case
        experts = [step.get("expert") for step in steps]
        if case["model"] == "5b":
            assert experts == [None] * len(steps)
        else:
            num_high = high_steps(plan)
            assert experts == ["high_noise"] * num_high + ["low_noise"] * (len(steps) - num_high), case


def sigmas(plan: Plan) -> list[float]:
    """`simple` is a straight line, too, but for the thousand timesteps that it is taken from."""
    steps, shift = plan.value(SAMPLE, "steps"), plan.value(SAMPLE, "shift")
    if plan.value(SAMPLE, "scheduler") == "official_unipc":
        return official_unipc_sigmas(steps, shift)
    return [shift_sigma(1 - step / steps, shift) for step in range(steps)] + [0.0]


def high_steps(plan: Plan) -> int:
    if plan.value(SAMPLE, "switch") == "step":
        return int(plan.value(SAMPLE, "switch_step"))
    return count_high_steps(sigmas(plan), plan.value(SAMPLE, "boundary"))


def test_the_presets_say_what_the_workflows_run_with(page: GatewayPage) -> None:
    presets = page.ask("relay_plan.mjs", "return [its.PRESETS, its.SHIFT];")
    assert presets[1] == api.SHIFT
    for model, preset in presets[0].items():
        request = api.parse({"prompt": "x", "image_url": "https://example.com/a.png", "model": model}).request
        plan = build_plan(request, 0, "a", None, "x", settings())
        steps, high, low = (plan.value(SAMPLE, name) for name in ("steps", "high_noise_cfg", "low_noise_cfg"))
        assert (preset["steps"], preset["cfg"], preset["cfg"]) == (steps, high, low)
