"""The tables of service/worker/README.md, made from the declarations: `python -m tools.readme_tables` rewrites them."""

from collections.abc import Sequence
from typing import Any

from ..service.contract.errors import CODES, RETRYABLE
from ..service.contract.request import VideoRequest, field_range
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
    rows = [(f"`{code}`", "yes" if code in RETRYABLE else "", meaning) for code, meaning in CODES.items()]
    return _table(("code", "retry", "meaning"), rows)


TABLES = {"request": request_table, "settings": settings_table, "errors": error_table}


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
    return {"string": "text", "boolean": "true or false"}.get(kind, kind)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
