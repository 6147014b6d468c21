"""The editor's HTTP routes: what a node would do with the values on it, asked before anything runs.

    GET /wan_relay/schedule   inputs of WanRelay_Sample          -> sigmas, n_opening, n_high, n_low, warnings
    GET /wan_relay/size       inputs of WanRelay_PrepareLatent, and of WanRelay_LongVideo
                              -> width, height, length, duration_s, timeline, segments, changes
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
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from ..engine.files.model_files import expert_file, expert_files, lora_file, lora_files, maps_files
from ..engine.relay.sigma_schedule import SchedulePlan, plan_schedule
from ..rules.errors import FileRefused, WanRelayError
from ..rules.files.expert_files import NO_FILE, check_pair
from ..rules.files.lora_files import check_lora_rows
from ..rules.files.lora_rows import read_rows
from ..rules.files.partner_file import offered_expert, offered_partners
from ..rules.relay.mistakes import Mistake, Sampling, sampling_mistakes
from ..rules.relay.presets import ALSO_GOOD, PRESETS, Settings, distilled_file, recognise_pair
from .questions import BadQuestionError, Query, kind_of, listed, number, read_inputs, required
from .size_answer import size

HELP_PAGES = Path(__file__).resolve().parents[2] / "js" / "docs"
MAX_OPENING_LEGS = 200  # of one step each: no schedule has more steps


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
    num_experts = number(query.get("experts", "2"), "experts", int, 1, 2)
    opening = query.get("opening", "").split(",")[:MAX_OPENING_LEGS] if query.get("opening") else []
    opening_steps = [number(steps, "opening", int, 1, 200) for steps in opening]
    asked = read_inputs(query, "WanRelay_Sample", names)
    return plan_schedule(**asked, opening_steps=opening_steps, num_experts=num_experts)


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
        required(query, name)
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
    kind = kind_of(high)
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
        opening_cfgs=tuple(number(cfg, "opening_cfgs", float, 0, 100) for cfg in opening),
        has_negative="has_negative" in query,
        has_nag="has_nag" in query,
        **asked,
    )
    return sampling_mistakes(plan)


def _expert_paths(query: Query) -> tuple[Path | None, Path | None]:
    high = listed(expert_file, "high_noise", required(query, "high_noise"))
    low = required(query, "low_noise")
    return high, None if low == NO_FILE else listed(expert_file, "low_noise", low)


def _listed_lora(name: str, file: str) -> Path:
    return listed(lora_file, name, file)
