"""The editor's HTTP routes: what a node would do with the values on it, asked before anything runs.

    GET /wan_relay/schedule   the inputs of WanRelay_Sample       -> sigmas, the split, warnings
    GET /wan_relay/size       the inputs of WanRelay_PrepareLatent -> width, height, length, duration_s, warnings
    GET /wan_relay/experts    two expert files                     -> what their headers say, warnings
    GET /wan_relay/loras      two LoRA files                       -> what their headers say, warnings

A value that is missing, of the wrong type or out of the node's range is answered with 400, a file name that ComfyUI does
not list for that input with 404, each with {"error": sentence}. A combination that the node would refuse is a good
question with a bad answer: 200 with {"refused": sentence}. Only headers of listed files are ever read.
"""

import asyncio
import math
from collections.abc import Callable, Mapping

import folder_paths
from aiohttp import web
from comfy_api.latest import io

from .node_list import NODES
from .rules.errors import WanRelayError
from .rules.frame_count import NATIVE_FPS, plan_length
from .rules.frame_size import A14B_MULTIPLE, TI2V_5B_MULTIPLE, describe_placement, plan_size

Query = Mapping[str, str]
MAX_IMAGE_SIDE = 65536


class BadQuestion(ValueError):
    """The question cannot be answered: one sentence and the HTTP status that goes with it."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


def add_routes(routes: web.RouteTableDef) -> None:
    for name, answer in {"size": size}.items():
        routes.get(f"/wan_relay/{name}")(_handler(answer))


def _handler(answer: Callable[[Query], dict]) -> Callable:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(answer, request.query))
        except BadQuestion as error:
            return web.json_response({"error": str(error)}, status=error.status)
        except WanRelayError as error:
            return web.json_response({"refused": str(error)})

    return handle


def size(query: Query) -> dict:
    """What WanRelay_PrepareLatent makes of its inputs; `image_width` and `image_height` stand for the linked image."""
    asked = read_inputs(query, "WanRelay_PrepareLatent", ("sizing", "width", "height", "fit", "length"))
    fps = _number(query.get("fps", str(NATIVE_FPS)), "fps", float, 1, 120)
    image_size = None
    if "image_width" in query:
        sides = [
            _number(_required(query, name), name, int, 1, MAX_IMAGE_SIDE) for name in ("image_width", "image_height")
        ]
        image_size = sides[0], sides[1]
    frame = plan_size(asked["width"], asked["height"], asked["sizing"], image_size, A14B_MULTIPLE)
    length = plan_length(asked["length"], fps)
    placement = (
        describe_placement("image", image_size, frame["width"], frame["height"], asked["fit"]) if image_size else []
    )
    return {
        "image_width": image_size and image_size[0],
        "image_height": image_size and image_size[1],
        "width": frame["width"],
        "height": frame["height"],
        "fit": asked["fit"],
        "length": length["length"],
        "duration_s": length["duration_s"],
        "fps": fps,
        "warnings": [*frame["warnings"], *placement, *length["warnings"]],
    }


def read_inputs(query: Query, node_id: str, names: tuple[str, ...]) -> dict:
    """The named inputs of a node out of the query, held to the types, ranges and choices of the node's own schema."""
    node = next(node for node in NODES if node.define_schema().node_id == node_id)
    inputs = {declared.id: declared for declared in node.define_schema().inputs}
    return {name: _read(_required(query, name), inputs[name]) for name in names}


def _read(text: str, declared: io.Input) -> str | int | float:
    if isinstance(declared, io.Combo.Input):
        if text not in declared.options:
            raise BadQuestion(
                f"{declared.id} must be one of {', '.join(map(str, declared.options))}, got '{text[:80]}'."
            )
        return text
    kind = int if isinstance(declared, io.Int.Input) else float
    return _number(text, declared.id, kind, declared.min, declared.max)


def _number(text: str, name: str, kind: type, low: float, high: float):
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        wanted = "a whole number" if kind is int else "a number"
        raise BadQuestion(f"{name} must be {wanted} from {low} to {high}, got '{text[:80]}'.")
    return value


def _required(query: Query, name: str) -> str:
    if name not in query:
        raise BadQuestion(f"{name} is missing from the question.")
    return query[name]
