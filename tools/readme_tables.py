"""The tables of the worker's README, made from the declarations: `dev.py run tools.readme_tables` rewrites them."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ..service.contract.failure import CODES
from ..service.contract.progress import Progress
from ..service.contract.video_answer import Timings, VideoAnswer
from ..service.contract.video_request import VideoRequest, field_range
from ..service.worker.settings import PACKAGE, Settings

README = PACKAGE / "service" / "worker" / "README.md"


def request_table() -> str:
    """Every field, its default and range, in the order of the declaration."""
    rows = []
    for name, info in VideoRequest.model_fields.items():
        low, high = field_range(name)
        schema = VideoRequest.model_json_schema()["properties"][name]
        allowed = _choices(schema) or (f"{low} to {high}" if low is not None else _type(schema))
        default = "needed" if info.is_required() else "" if info.default is None else f"`{info.default}`".lower()
        rows.append((f"`{name}`", default, allowed, info.description or ""))
    return _table(("field", "default", "takes", "meaning"), rows)


def settings_table() -> str:
    rows = []
    for info in Settings.model_fields.values():
        default = "" if info.default in (None, "", {}) else str(info.default).replace(f"{PACKAGE}/", "")
        rows.append((f"`{info.alias}`", f"`{default}`" if default else "", info.description or ""))
    return _table(("variable", "default", "meaning"), rows)


def error_table() -> str:
    rows = [(f"`{name}`", "yes" if code.is_retryable else "", code.meaning) for name, code in CODES.items()]
    return _table(("code", "retry", "meaning"), rows)


def meaning_table(model: type[BaseModel], head: str) -> str:
    """The fields of an answer, which have no defaults that a reader could choose."""
    rows = [(f"`{name}`", info.description or "") for name, info in model.model_fields.items()]
    return _table((head, "meaning"), rows)


TABLES = {
    "request": request_table,
    "answer": lambda: meaning_table(VideoAnswer, "key in `output`"),
    "timings": lambda: meaning_table(Timings, "key in `timings`, seconds"),
    "progress": lambda: meaning_table(Progress, "key"),
    "settings": settings_table,
    "errors": error_table,
}


def with_tables(text: str) -> str:
    """The page with each table between its two marks made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, _, rest = text.partition(start)
        _, mark, tail = rest.partition(end)
        if not mark:
            raise ValueError(f"README.md has no place for the {name} table")
        text = f"{head}{start}\n{make()}\n{mark}{tail}"
    return text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _choices(schema: dict[str, Any]) -> str:
    for option in (schema, *schema.get("anyOf", ())):
        if "enum" in option:
            return ", ".join(f"`{value}`" for value in option["enum"])
    return ""


def _type(schema: dict[str, Any]) -> str:
    kinds = [option.get("type") for option in (schema, *schema.get("anyOf", ()))]
    kind = next(kind for kind in kinds if kind and kind != "null")
    return {"string": "text", "boolean": "true or false", "array": "list"}.get(kind, kind)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
