"""What the editor asks: the values of a query, held to what the nodes and ComfyUI's lists take."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..engine.files.model_files import maps_files
from ..node_list import NODES
from ..rules.errors import FileRefused, InvalidInput
from ..rules.files.expert_files import check_expert

Query = Mapping[str, str]


class BadQuestionError(ValueError):
    """A question without an answer: one sentence, and the HTTP status that goes with it."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


def read_inputs(query: Query, node_id: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The named inputs of a node out of the query, held to the types, ranges and choices of the node's own schema."""
    schema = next(schema for schema in (node.define_schema() for node in NODES) if schema.node_id == node_id)
    declared = {input_.id: input_ for input_ in schema.inputs}
    return {name: _read(required(query, name), declared[name]) for name in names}


def _read(text: str, declared: Any) -> str | int | float:
    if isinstance(declared, io.Combo.Input):
        if text not in declared.options:
            choices = ", ".join(map(str, declared.options))
            raise BadQuestionError(f"{declared.id} must be one of {choices}, got {text[:80]!r}.")
        return text
    kind = int if isinstance(declared, io.Int.Input) else float
    return number(text, declared.id, kind, declared.min, declared.max)


def number(text: str, name: str, kind: Callable[[str], Any], low: float, high: float) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        wanted = "a whole number" if kind is int else "a number"
        raise BadQuestionError(f"{name} must be {wanted} from {low} to {high}, got {text[:80]!r}.")
    return value


def required(query: Query, name: str) -> str:
    if name not in query:
        raise BadQuestionError(f"{name} is missing from the question.")
    return query[name]


def listed(find: Callable[[str, str], Path], name: str, file: str) -> Path:
    """The path behind a name of ComfyUI's own list; the list itself is not told to whoever guesses."""
    try:
        return find(name, file)
    except InvalidInput:
        raise BadQuestionError(f"{name}: there is no file {file[:200]!r} in the list of this input.", 404) from None


def kind_of(expert: Path) -> str | None:
    """What an expert is by its header; None for a file that LoadExperts refuses, and says so itself."""
    try:
        return check_expert(expert, maps_files()).kind
    except FileRefused:
        return None
