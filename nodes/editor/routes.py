"""The editor's HTTP routes: what a node would do with the values on it, asked before anything runs.

    GET /wan_relay/schedule   inputs of WanRelay_Sample          -> sigmas, n_opening, n_high, n_low, warnings
    GET /wan_relay/size       inputs of WanRelay_PrepareLatent   -> width, height, length, duration_s, timeline, changes
    GET /wan_relay/experts    the files of WanRelay_LoadExperts  -> what their headers say, warnings
    GET /wan_relay/loras      the rows of WanRelay_ApplyLoraPair, and the files of the experts below
                              -> what will fit, trigger words, partners to choose, warnings
    GET /wan_relay/presets    nothing                        -> the settings for each family of files, by a name
    GET /wan_relay/advice     the files of WanRelay_LoadExperts, the LoRAs on them, inputs of WanRelay_Sample
                              -> what their authors recommend for WanRelay_Sample, and mistakes

A value that is missing, of the wrong type or out of the node's range is answered with 400, a file name that ComfyUI
does not list for that input with 404, each with {"error": sentence}. Values that the node would refuse are a good
question with a bad answer: 200 with {"refused": sentence}. Nothing but headers of listed files is ever read.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from comfy_api.latest import io

from ..engine.files.model_files import expert_file, expert_files, lora_file, lora_files, maps_files
from ..engine.relay.sigma_schedule import SchedulePlan, plan_schedule
from ..node_list import NODES
from ..rules.errors import FileRefused, InvalidInput, WanRelayError
from ..rules.files.expert_files import NO_FILE, check_expert, check_pair
from ..rules.files.lora_files import check_lora_rows
from ..rules.files.lora_rows import read_rows
from ..rules.files.partner_file import offered_expert, offered_partners
from ..rules.files.safetensors_header import read_header
from ..rules.files.vae_file import is_ti2v_5b_vae
from ..rules.frames.frame_count import NATIVE_FPS, plan_length
from ..rules.frames.frame_size import (
    A14B_MULTIPLE,
    BUDGETS,
    TI2V_5B_BUDGETS,
    TI2V_5B_MULTIPLE,
    place_image,
    placement_changes,
    plan_size,
)
from ..rules.frames.timeline import Given, plan_frames
from ..rules.relay.mistakes import Mistake, Sampling, latent_mistakes, sampling_mistakes
from ..rules.relay.presets import ALSO_GOOD, PRESETS, Settings, distilled_file, recognise_pair

Query = Mapping[str, str]
MAX_IMAGE_SIDE = 65536
MAX_KEYFRAMES = 1025
FIRST_FRAMES = ("start_image", "previous", "previous_latent", "anchor", "keyframes")
HELP_PAGES = Path(__file__).resolve().parents[2] / "js" / "docs"
MAX_OPENING_LEGS = 200  # of one step each: no schedule has more steps


class BadQuestionError(ValueError):
    """A question without an answer: one sentence, and the HTTP status that goes with it."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


def add_routes(routes: web.RouteTableDef) -> None:
    """Register the routes of this page on ComfyUI's server."""
    for answer in (schedule, size, experts, loras, presets, advice):
        routes.get(f"/wan_relay/{answer.__name__}")(_handler(answer))
    routes.get("/extensions/{pack}/docs/{node_id:WanRelay_[A-Za-z]+}/en.md")(english_help)


async def english_help(request: web.Request) -> web.FileResponse:
    """The English help page under the name that the editor asks for first; its own file answers for every language."""
    page = HELP_PAGES / f"{request.match_info['node_id']}.md"
    if not page.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(page, headers={"Content-Type": "text/markdown; charset=utf-8"})


def _handler(answer: Callable[[Query], Mapping[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(answer, request.query))
        except BadQuestionError as error:
            return web.json_response({"error": str(error)}, status=error.status)
        except WanRelayError as error:
            return web.json_response({"refused": str(error)})

    return handle


def schedule(query: Query) -> SchedulePlan:
    """The sigmas that WanRelay_Sample would run and who takes which step; `experts` is 1 for TI2V-5B, else 2.

    `opening` has the steps of each opening leg, with commas between them.
    """
    names = ("steps", "scheduler", "sampler", "shift", "denoise", "switch", "boundary", "switch_step")
    num_experts = _number(query.get("experts", "2"), "experts", int, 1, 2)
    opening = query.get("opening", "").split(",")[:MAX_OPENING_LEGS] if query.get("opening") else []
    opening_steps = [_number(steps, "opening", int, 1, 200) for steps in opening]
    asked = read_inputs(query, "WanRelay_Sample", names)
    return plan_schedule(**asked, opening_steps=opening_steps, num_experts=num_experts)


def size(query: Query) -> dict[str, Any]:
    """What WanRelay_PrepareLatent would render; image_width and image_height are those of the linked image.

    `changes` says what its report says in English sentences, for the panel to say in the user's language; `mistakes`
    what goes ill with the expert in `high_noise`, the VAE file in `vae`, the linked inputs, whose names the query has,
    and the number of files that `videos` says are made. `keyframes` are frame numbers with commas between them;
    `drop_last_frame` is Save Video's. `crop` is the part of the image that stays where `fit` cuts some off: left, top,
    width and height in percent of the image.
    """
    names = ("sizing", "width", "height", "fit", "length", "batch_size", "crop_position")
    asked = read_inputs({"crop_position": "center", **query}, "WanRelay_PrepareLatent", names)
    videos = _number(query.get("videos", "1"), "videos", int, 1, 16)
    fps = _number(query.get("fps", str(NATIVE_FPS)), "fps", float, 1, 120)
    image_size = None
    if "image_width" in query or "image_height" in query:
        of_image = ("image_width", "image_height")
        sides = [_number(_required(query, name), name, int, 1, MAX_IMAGE_SIDE) for name in of_image]
        image_size = sides[0], sides[1]
    is_5b_vae = _is_5b_vae(query["vae"]) if "vae" in query else None
    multiple = TI2V_5B_MULTIPLE if is_5b_vae else A14B_MULTIPLE
    frame = plan_size(asked["width"], asked["height"], asked["sizing"], image_size, multiple)
    count = plan_length(asked["length"], fps)
    used = {"width": frame["width"], "height": frame["height"], "length": count["length"]}
    snapped = ("length",) if asked["sizing"] == "match image" and image_size else ("width", "height", "length")
    changes: list[dict[str, Any]] = [
        {"change": name, "asked": asked[name], "used": used[name], "multiple": multiple}
        for name in snapped
        if asked[name] != used[name]
    ]
    frames = plan_frames(_given(query), count["length"], bool(is_5b_vae) and "end_image" not in query)
    changes += frames.changes
    crop = None
    if image_size:
        placed = place_image(*image_size, used["width"], used["height"], asked["fit"], asked["crop_position"])
        crop = placed.crop_percent(used["width"], used["height"])
        for change, percent in placement_changes(image_size, used["width"], used["height"], asked["fit"]):
            changes.append({"change": change, "percent": round(percent, 1)})
    return {
        "image_width": image_size and image_size[0],
        "image_height": image_size and image_size[1],
        **used,
        "fit": asked["fit"],
        "batch_size": asked["batch_size"],
        "duration_s": count["duration_s"],
        "fps": fps,
        "timeline": frames.spans,
        "budgets": TI2V_5B_BUDGETS if is_5b_vae else BUDGETS,
        "crop": crop,
        "changes": changes,
        "mistakes": latent_mistakes(
            _kind(_listed(expert_file, "high_noise", query["high_noise"])) if "high_noise" in query else None,
            is_5b_vae,
            any(name in query for name in FIRST_FRAMES),
            "end_image" in query,
            int(asked["batch_size"]),
            query.get("loop") == "true" and query.get("drop_last_frame") == "false",
            videos,
        ),
    }


def _given(query: Query) -> Given:
    """What Prepare Latent is given, as far as the editor can tell: one image a link, and all that overlap takes."""
    counts: dict[str, Any] = {name: 1 for name in ("start_image", "end_image", "anchor") if name in query}
    counts |= {name: MAX_IMAGE_SIDE for name in ("previous", "previous_latent") if name in query}
    asked = query["keyframes"].split(",")[:MAX_KEYFRAMES] if query.get("keyframes") else []
    keyframes = tuple(int(_number(frame, "keyframes", int, -MAX_IMAGE_SIDE, MAX_IMAGE_SIDE)) for frame in asked)
    names = tuple(name for name in ("overlap", "padding") if name in query)
    settings = read_inputs(query, "WanRelay_PrepareLatent", names)
    return Given(keyframes=keyframes, loop=query.get("loop") == "true", **counts, **settings)


def experts(query: Query) -> dict[str, Any]:
    """Whether two files are a pair, from their headers, and the file that goes with one of them by its name."""
    high, low = _expert_paths(query)
    assert high is not None
    offers = offered_expert(query["high_noise"], query["low_noise"], list(expert_files()))
    try:
        return {**check_pair(high, low, maps_files()), "offers": offers}
    except FileRefused as problem:
        return {"refused": str(problem), "offers": offers}


def loras(query: Query) -> dict[str, Any]:
    """What the LoRA files would do, to the experts below them where those are known, and which files go with them.

    A row whose `is_on` is "false" is off.
    """
    for name in ("high_noise_lora", "low_noise_lora"):
        _required(query, name)
    rows = read_rows({name: value != "false" if name.startswith("is_on") else value for name, value in query.items()})
    high_expert, low_expert = _expert_paths(query) if "high_noise" in query else (None, None)
    report = check_lora_rows(rows, _listed_lora, high_expert, low_expert, maps_files())
    return {**report, "offers": offered_partners(rows, lora_files())}


def presets(query: Query) -> dict[str, Settings]:
    """The settings that authors recommend for each family of files."""
    return PRESETS


def advice(query: Query) -> dict[str, Any]:
    """The settings for two expert files with LoRAs, and the file that told; nothing of a pair that is not known.

    `high_noise_loras` and `low_noise_loras` are names, one a line; they are only read as names. `mistakes` needs the
    inputs of Sample too: steps and both cfg.
    """
    high, low = _expert_paths(query)
    assert high is not None
    kind = _kind(high)
    loras = [query.get(f"{slot}_loras", "").splitlines() for slot in ("high_noise", "low_noise")]
    found = recognise_pair(kind, query["high_noise"], query["low_noise"] if low else None, *loras) if kind else None
    mistakes = _sampling_mistakes(query, kind, loras) if kind and "steps" in query else []
    if not found:
        return {"mistakes": mistakes}
    also_good = ALSO_GOOD.get(found.preset, {})
    settings = PRESETS[found.preset]
    return {
        "preset": found.preset,
        "file": found.file,
        "settings": settings,
        "also_good": also_good,
        "mistakes": mistakes,
    }


def _sampling_mistakes(query: Query, kind: str, loras: list[list[str]]) -> list[Mistake]:
    asked = read_inputs(query, "WanRelay_Sample", ("steps", "high_noise_cfg", "low_noise_cfg"))
    opening = query["opening_cfgs"].split(",")[:MAX_OPENING_LEGS] if query.get("opening_cfgs") else []
    is_distilled = [
        distilled_file(query[slot], names) is not None
        for slot, names in zip(("high_noise", "low_noise"), loras, strict=True)
    ]
    plan = Sampling(
        kind=kind,
        is_distilled=(is_distilled[0], is_distilled[1]),
        has_low_noise="has_low_noise" in query,
        opening_cfgs=tuple(_number(cfg, "opening_cfgs", float, 0, 100) for cfg in opening),
        has_negative="has_negative" in query,
        has_nag="has_nag" in query,
        **asked,
    )
    return sampling_mistakes(plan)


def _kind(expert: Path) -> str | None:
    """What an expert is by its header; None for a file that LoadExperts refuses, and says so itself."""
    try:
        return check_expert(expert, maps_files()).kind
    except FileRefused:
        return None


def read_inputs(query: Query, node_id: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The named inputs of a node out of the query, held to the types, ranges and choices of the node's own schema."""
    schema = next(schema for schema in (node.define_schema() for node in NODES) if schema.node_id == node_id)
    declared = {input_.id: input_ for input_ in schema.inputs}
    return {name: _read(_required(query, name), declared[name]) for name in names}


def _read(text: str, declared: Any) -> str | int | float:
    if isinstance(declared, io.Combo.Input):
        if text not in declared.options:
            choices = ", ".join(map(str, declared.options))
            raise BadQuestionError(f"{declared.id} must be one of {choices}, got {text[:80]!r}.")
        return text
    kind = int if isinstance(declared, io.Int.Input) else float
    return _number(text, declared.id, kind, declared.min, declared.max)


def _number(text: str, name: str, kind: Callable[[str], Any], low: float, high: float) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        wanted = "a whole number" if kind is int else "a number"
        raise BadQuestionError(f"{name} must be {wanted} from {low} to {high}, got {text[:80]!r}.")
    return value


def _required(query: Query, name: str) -> str:
    if name not in query:
        raise BadQuestionError(f"{name} is missing from the question.")
    return query[name]


def _expert_paths(query: Query) -> tuple[Path | None, Path | None]:
    high = _listed(expert_file, "high_noise", _required(query, "high_noise"))
    low = _required(query, "low_noise")
    return high, None if low == NO_FILE else _listed(expert_file, "low_noise", low)


def _listed_lora(name: str, file: str) -> Path:
    return _listed(lora_file, name, file)


def _listed(find: Callable[[str, str], Path], name: str, file: str) -> Path:
    """The path behind a name of ComfyUI's own list; the list itself is not told to whoever guesses."""
    try:
        return find(name, file)
    except InvalidInput:
        raise BadQuestionError(f"{name}: there is no file {file[:200]!r} in the list of this input.", 404) from None


def _is_5b_vae(file: str) -> bool | None:
    """Whether the VAE file is TI2V-5B's; None where nothing tells: the VAELoader also offers names of no files."""
    if file not in folder_paths.get_filename_list("vae"):
        return None
    try:
        return is_ti2v_5b_vae(read_header(folder_paths.get_full_path_or_raise("vae", file), maps_files()))
    except FileRefused:
        return None
