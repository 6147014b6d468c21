"""The tables of the services' READMEs, made from the declarations: `dev.py run tools.readme_tables` rewrites them."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from ..service.contract.failure import CODES
from ..service.contract.progress import Progress
from ..service.contract.video_answer import ModelUse, SegmentUse, SeriesVideo, Timings, VideoAnswer
from ..service.contract.video_request import VideoRequest, field_range
from ..service.executors.runpod import RunpodSettings
from ..service.executors.settings import ExecutorSettings
from ..service.gateway.keys import KeyLimits
from ..service.gateway.settings import GatewaySettings
from ..service.tasks.shared_settings import SharedSettings
from ..service.worker.settings import PACKAGE, Settings

Tables = dict[str, Callable[[], str]]

WORKER_README = PACKAGE / "service" / "worker" / "README.md"
GATEWAY_README = PACKAGE / "service" / "gateway" / "README.md"
EXECUTORS_README = PACKAGE / "service" / "executors" / "README.md"


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


def settings_table(settings: type[BaseModel], without: type[BaseModel] | None = None) -> str:
    """Every variable of a declaration; `without` those of another one, that it is made of."""
    rows = []
    for name, info in settings.model_fields.items():
        if without is not None and name in without.model_fields:
            continue
        has_none = info.is_required() or info.default in (None, "", {}, ())
        default = "" if has_none else str(info.default).replace(f"{PACKAGE}/", "")
        rows.append((f"`{info.alias}`", f"`{default}`" if default else "", info.description or ""))
    return _table(("variable", "default", "meaning"), rows)


def status_table() -> str:
    """The codes that a gateway's clients see: every one."""
    rows = [
        (f"`{name}`", str(code.http_status), "yes" if code.is_retryable else "", code.meaning)
        for name, code in CODES.items()
    ]
    return _table(("code", "status", "retry", "meaning"), rows)


def error_table() -> str:
    codes = {name: code for name, code in CODES.items() if not code.is_the_gateways}
    rows = [(f"`{name}`", "yes" if code.is_retryable else "", code.meaning) for name, code in codes.items()]
    return _table(("code", "retry", "meaning"), rows)


def meaning_table(model: type[BaseModel], head: str) -> str:
    """The fields of an answer, which have no defaults that a reader could choose."""
    rows = [(f"`{name}`", info.description or "") for name, info in model.model_fields.items()]
    return _table((head, "meaning"), rows)


WORKER_TABLES: Tables = {
    "request": request_table,
    "answer": lambda: meaning_table(VideoAnswer, "key in `output`"),
    "models": lambda: meaning_table(ModelUse, "key in an item of `models`"),
    "segments": lambda: meaning_table(SegmentUse, "key in an item of `segments`"),
    "timings": lambda: meaning_table(Timings, "key in `timings`, seconds"),
    "series": lambda: meaning_table(SeriesVideo, "key in an item of `videos`"),
    "progress": lambda: meaning_table(Progress, "key"),
    "settings": lambda: settings_table(Settings),
    "errors": error_table,
}
GATEWAY_TABLES: Tables = {
    "shared": lambda: settings_table(SharedSettings),
    "settings": lambda: settings_table(GatewaySettings, without=SharedSettings),
    "executors": lambda: settings_table(ExecutorSettings, without=SharedSettings),
    "runpod": lambda: settings_table(RunpodSettings, without=ExecutorSettings),
    "limits": lambda: meaning_table(KeyLimits, "limit"),
    "errors": status_table,
}
EXECUTORS_TABLES: Tables = {
    "settings": lambda: settings_table(ExecutorSettings),
    "runpod": lambda: settings_table(RunpodSettings, without=ExecutorSettings),
}
PAGES = {WORKER_README: WORKER_TABLES, GATEWAY_README: GATEWAY_TABLES, EXECUTORS_README: EXECUTORS_TABLES}


def with_tables(text: str, tables: Tables = WORKER_TABLES) -> str:
    """The page with each table between its two marks made anew."""
    for name, make in tables.items():
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
    for page, tables in PAGES.items():
        page.write_text(with_tables(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
