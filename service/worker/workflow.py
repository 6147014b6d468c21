"""From a request to an API-format workflow: the bundled JSON with the request's values put in.

A node is found by its class, and by its title where two share one; never by number.
"""

import copy
import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..contract.errors import JobError
from ..contract.sizes import offered_size
from ..contract.video_request import VideoRequest, field_range
from .graph_nodes import Graph, nodes_of
from .interpolation import INTERPOLATE, InterpolationModel, add_interpolation
from .last_frame import add_last_frame
from .long_video import add_long_video, clear_lists, frames_made, without_effect
from .lora_rows import LORAS, add_loras
from .own_steps import take_out_steps
from .settings import Settings
from .upscaling import UPSCALE, add_upscaling

ENCODE, PREPARE, LOAD, NAG, OPENING, SAMPLE, SAVE = (
    "WanRelay_EncodePrompts",
    "WanRelay_PrepareLatent",
    "WanRelay_LoadExperts",
    "WanRelay_ApplyNag",
    "WanRelay_OpeningLeg",
    "WanRelay_Sample",
    "WanRelay_SaveVideo",
)

# request field -> the node input that it sets
FIELD_INPUTS: dict[str, tuple[str, str]] = {
    **{name: (ENCODE, name) for name in ("prompt", "negative_prompt")},
    **{name: (PREPARE, name) for name in ("width", "height", "length", "sizing", "fit")},
    **{name: (SAMPLE, name) for name in ("steps", "sampler", "scheduler", "shift", "high_noise_cfg", "low_noise_cfg")},
    "opening_steps": (OPENING, "steps"),
    "opening_cfg": (OPENING, "cfg"),
    "nag_scale": (NAG, "scale"),
    **{name: (SAMPLE, name) for name in ("switch", "boundary", "switch_step", "seed")},
    **{name: (SAVE, name) for name in ("fps", "format", "crf", "encoder_preset", "frame_order")},
    "loop": (SAVE, "drop_last_frame"),
}
INPUT_FIELDS = {target: name for name, target in FIELD_INPUTS.items()}

# (class, input) of every model file, in the order in which a run reads them, with the folders it may lie in
MODEL_INPUTS: dict[tuple[str, str], tuple[str, ...]] = {
    (ENCODE, "text_encoder"): ("text_encoders", "clip"),
    ("VAELoader", "vae_name"): ("vae",),
    (LOAD, "high_noise"): ("diffusion_models", "unet", "checkpoints"),
    (LORAS, "high_noise_lora"): ("loras",),
    (LORAS, "low_noise_lora"): ("loras",),
    (LOAD, "low_noise"): ("diffusion_models", "unet", "checkpoints"),
}


MAX_FACTOR = 64  # more than any of our nodes takes


@dataclass(frozen=True)
class ModelFile:
    name: str
    folders: tuple[str, ...]


@dataclass
class Plan:
    """A workflow that is ready to queue."""

    graph: Graph
    warnings: list[str] = field(default_factory=list)

    def node_id(self, class_type: str, title: str | None = None) -> str:
        return find_node(self.graph, class_type, title)

    def value(self, class_type: str, name: str) -> Any:
        return self.graph[self.node_id(class_type)]["inputs"][name]

    @property
    def fps(self) -> float:
        """Frames a second of the file."""
        is_linked = isinstance(self.value(SAVE, "fps"), list)
        return float(self.generated["fps"] * (self.generated["factor"] if is_linked else 1))

    @property
    def generated(self) -> dict[str, Any]:
        """The inputs among which is `fps` of the generated frames: Interpolate Frames' where Save Video has its."""
        saved = self.graph[self.node_id(SAVE)]["inputs"]
        return self.graph[saved["fps"][0]]["inputs"] if isinstance(saved["fps"], list) else saved

    @property
    def opening_steps(self) -> int:
        """Steps of the opening leg; 0 where the workflow has none."""
        return sum(self.graph[key]["inputs"]["steps"] for key in nodes_of(self.graph, OPENING))


def build_plan(
    request: VideoRequest,
    seed: int,
    start_name: str | None,
    end_name: str | None,
    prefix: str,
    settings: Settings,
    interpolation_model: InterpolationModel | None = None,
) -> Plan:
    """Puts the request into its workflow; the images are names in ComfyUI's input folder.

    `prefix` must be new for each job: a save node whose inputs did not change would be answered from
    ComfyUI's cache with a file that an earlier job has removed. Raises JobError for a size over the budget.
    """
    plan = Plan(bundled(request.workflow, settings))
    _set_images(plan.graph, start_name, end_name)
    fill_plan(plan, request, seed, prefix, settings, interpolation_model)
    return plan


def fill_plan(
    plan: Plan,
    request: VideoRequest,
    seed: int,
    prefix: str,
    settings: Settings,
    interpolation_model: InterpolationModel | None = None,
) -> None:
    """`build_plan` but for the images. The graph has one node each of ENCODE, PREPARE, LOAD, SAMPLE and SAVE."""
    graph = plan.graph
    take_out_steps(graph, request)
    _set_opening_leg(graph, request)
    _set_nag(graph, request)
    values = _values(request, plan)
    for name, value in values.items():
        class_type, input_name = FIELD_INPUTS[name]
        inputs = plan.generated if name == "fps" else graph[find_node(graph, class_type)]["inputs"]
        inputs[input_name] = value
    graph[find_node(graph, SAMPLE)]["inputs"]["seed"] = seed
    graph[find_node(graph, SAVE)]["inputs"]["filename_prefix"] = prefix
    use_model_files(graph, settings)
    _check_opening(plan)
    plan.warnings += _negative_warnings(request, plan)
    add_loras(graph, find_node(graph, SAMPLE), request.loras or ())
    clear_lists(graph, request.model_fields_set)
    plan.warnings += without_effect(request)
    add_long_video(graph, request, seed, *(find_node(graph, kind) for kind in (PREPARE, SAMPLE, SAVE)))
    add_upscaling(graph, find_node(graph, SAVE), request)
    add_last_frame(graph, find_node(graph, SAVE), request, prefix)
    plan.warnings += add_interpolation(graph, find_node(graph, SAVE), request, interpolation_model)
    _check_budget(plan, request, settings)


def _values(request: VideoRequest, plan: Plan) -> dict[str, Any]:
    """What the request says about node inputs: only fields that were sent."""
    sent = request.model_fields_set
    values = {
        name: getattr(request, name)
        for name, (class_type, _) in FIELD_INPUTS.items()
        if name in sent and name != "seed" and nodes_of(plan.graph, class_type)
    }
    if "cfg" in sent:
        values = {"high_noise_cfg": request.cfg, "low_noise_cfg": request.cfg} | values
    if request.resolution is not None:
        aspect_ratio = request.aspect_ratio or "auto"
        width, height = offered_size(request.workflow, request.resolution, aspect_ratio)
        follow = aspect_ratio == "auto" and (request.start_image or request.end_image)
        values |= {"width": width, "height": height, "sizing": "match image" if follow else "fixed"}
    if request.duration is not None:
        values["length"] = round(request.duration * values.get("fps", plan.generated["fps"])) + 1
        low, high = field_range("length")
        if not low <= values["length"] <= high:
            sentence = f"duration asks for {values['length']} frames, from {low} to {high} are possible"
            raise JobError("OUT_OF_RANGE", sentence, "duration")
    return values | _switch(request, plan)


def _switch(request: VideoRequest, plan: Plan) -> dict[str, Any]:
    """The hand-over: sending boundary or switch_step alone chooses that way of switching.

    A new step count without a switch_step is halved, and an odd step goes to the high-noise expert.
    """
    sent = request.model_fields_set
    switch = plan.value(SAMPLE, "switch")
    if "switch" in sent:
        switch = request.switch
    elif "switch_step" in sent:
        switch = "step"
    elif "boundary" in sent:
        switch = "boundary"
    ignored = "boundary" if switch == "step" else "switch_step"
    if ignored in sent:
        plan.warnings.append(f"{ignored} was ignored because switch is {switch}")
    if switch == "step" and "steps" in sent and "switch_step" not in sent:
        return {"switch": switch, "switch_step": (request.steps + 1) // 2}
    return {"switch": switch}


def _set_images(graph: Graph, start_name: str | None, end_name: str | None) -> None:
    prepare = graph[find_node(graph, PREPARE)]["inputs"]
    for title, input_name, name in (("Start image", "start_image", start_name), ("End image", "end_image", end_name)):
        loader = next((key for key in nodes_of(graph, "LoadImage", title)), None)
        if name is None:
            prepare.pop(input_name, None)
            if loader:
                del graph[loader]
            continue
        if loader is None:
            loader = f"wan_relay_{input_name}"
            graph[loader] = {"class_type": "LoadImage", "_meta": {"title": title}, "inputs": {}}
        graph[loader]["inputs"]["image"] = name
        prepare[input_name] = [loader, 0]


def _set_opening_leg(graph: Graph, request: VideoRequest) -> None:
    """Adds the opening leg where the request asks for one and the workflow has none; takes it away for 0 steps."""
    sample = graph[find_node(graph, SAMPLE)]["inputs"]
    found = nodes_of(graph, OPENING)
    if request.opening_steps == 0:
        for key in found:
            del graph[key]
        sample.pop("opening", None)
    elif not found and (request.opening_steps or request.opening_cfg is not None):
        graph["wan_relay_opening"] = {
            "class_type": OPENING,
            "_meta": {"title": "Opening Leg"},
            "inputs": {"model": [find_node(graph, LOAD), 0], "steps": 1, "cfg": 3.5},
        }
        sample["opening"] = ["wan_relay_opening", 0]


def _set_nag(graph: Graph, request: VideoRequest) -> None:
    """Adds Apply NAG in front of the sampler where the request asks for it and the workflow has none."""
    if not request.nag_scale or nodes_of(graph, NAG):
        return
    sample = graph[find_node(graph, SAMPLE)]["inputs"]
    models = {name: sample[name] for name in ("high_noise", "low_noise") if name in sample}
    graph["wan_relay_nag"] = {
        "class_type": NAG,
        "_meta": {"title": "Apply NAG"},
        "inputs": {**models, "negative": sample["negative"], "alpha": 0.25, "tau": 2.37, "end_sigma": 0.0},
    }
    sample |= {name: ["wan_relay_nag", slot] for slot, name in enumerate(models)}


def _check_opening(plan: Plan) -> None:
    steps = plan.value(SAMPLE, "steps")
    if plan.opening_steps > steps:
        raise JobError("OUT_OF_RANGE", f"opening_steps must be at most steps, which is {steps}", "opening_steps")


def _negative_warnings(request: VideoRequest, plan: Plan) -> list[str]:
    """A sentence for a negative prompt that nothing looks at."""
    cfgs = [plan.value(SAMPLE, f"{expert}_cfg") for expert in ("high_noise", "low_noise")]
    cfgs += [plan.graph[key]["inputs"]["cfg"] for key in nodes_of(plan.graph, OPENING)]
    scales = [plan.graph[key]["inputs"]["scale"] for key in nodes_of(plan.graph, NAG)]
    if not (request.negative_prompt or "").strip() or any(cfg != 1 for cfg in cfgs) or any(s > 1 for s in scales):
        return []
    return ["negative_prompt has no effect at cfg 1; nag_scale makes it work there"]


def _check_budget(plan: Plan, request: VideoRequest, settings: Settings) -> None:
    width, height, length = (plan.value(PREPARE, name) for name in ("width", "height", "length"))
    larger, factor = _factor(plan.graph, UPSCALE), _factor(plan.graph, INTERPOLATE)
    longest_pass, length = frames_made(plan.graph, length)
    frames = ("the length", "length") if request.segments is None else ("the frames of segments", "segments")
    _check_pixels(width, height, longest_pass, settings.max_video_pixels, *frames)
    saved = (round(width * larger), round(height * larger), int(factor) * (length - 1) + 1)
    factors = {"upscale_factor": larger, "interpolation_factor": factor}
    grown = next((name for name, value in factors.items() if value > 1), None)
    _check_pixels(*saved, settings.max_saved_pixels, *((grown, grown) if grown else frames))


def _factor(graph: Graph, class_type: str) -> float:
    """Of all nodes of that class together. One that comes by a link is not known, and ComfyUI refuses a larger one."""
    factors = (graph[key]["inputs"].get("factor") for key in nodes_of(graph, class_type))
    known = (factor for factor in factors if isinstance(factor, int | float) and 1 <= factor <= MAX_FACTOR)
    return min(math.prod(known), MAX_FACTOR**2)


def _check_pixels(width: int, height: int, frames: int, most: int, other: str, field: str) -> None:
    if width * height * frames > most:
        sentence = (
            f"{width} x {height} x {frames} is {width * height * frames / 1e6:.0f} million pixels; "
            f"this worker takes at most {most / 1e6:.0f} million, so lower the size or {other}"
        )
        raise JobError("OUT_OF_RANGE", sentence, field)


def bundled(name: str, settings: Settings) -> Graph:
    """A copy of a bundled workflow."""
    return copy.deepcopy(_load(settings.workflows, name))


def use_model_files(graph: Graph, settings: Settings) -> None:
    """Replaces the bundled file names by the operator's."""
    names = file_names(settings)
    for class_type, input_name in MODEL_INPUTS:
        for key in nodes_of(graph, class_type):
            inputs = graph[key]["inputs"]
            if isinstance(inputs.get(input_name), str):
                inputs[input_name] = names.get(inputs[input_name], inputs[input_name])


def file_names(settings: Settings) -> dict[str, str]:
    """Bundled name -> the operator's. The role variables stand for the files of the default workflow."""
    names = dict(settings.model_files)
    default = _load(settings.workflows, "wan22_i2v_4step")
    roles = {
        (LOAD, "high_noise"): settings.high_noise,
        (LOAD, "low_noise"): settings.low_noise,
        (ENCODE, "text_encoder"): settings.text_encoder,
        ("VAELoader", "vae_name"): settings.vae,
    }
    for (class_type, input_name), mine in roles.items():
        if mine:
            names[default[find_node(default, class_type)]["inputs"][input_name]] = mine
    return names


def model_files(workflow: str, settings: Settings) -> list[ModelFile]:
    """The files that a bundled workflow reads, in order."""
    graph = bundled(workflow, settings)
    use_model_files(graph, settings)
    return [
        ModelFile(graph[key]["inputs"][input_name], folders)
        for (class_type, input_name), folders in MODEL_INPUTS.items()
        for key in nodes_of(graph, class_type)
        if graph[key]["inputs"][input_name] != "none"
    ]


def find_node(graph: Graph, class_type: str, title: str | None = None) -> str:
    """The key of the only such node. Raises LookupError, since the workflows are ours."""
    found = nodes_of(graph, class_type, title)
    if len(found) != 1:
        raise LookupError(f"expected one {class_type} node titled {title or 'anything'}, found {len(found)}")
    return found[0]


@lru_cache
def _load(folder: Path, name: str) -> Graph:
    graph: Graph = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return graph
