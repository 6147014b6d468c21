"""The name that a file is saved under: what its `%...%` stand for, and whether any file can have it.

The editor fills in `%date:FORMAT%` and `%node.widget%` for ComfyUI's own save nodes alone, and nobody for API clients.
"""

import ntpath
import os
import re
import unicodedata
from collections.abc import Callable
from datetime import datetime
from types import ModuleType

from ..errors import InvalidInput

MAX_FOLDER_BYTES = 255
MAX_NAME_BYTES = 200  # a number and a suffix are added

FIELD = re.compile(r"%date:([^%]+)%|%([^%.]+)\.([^%.]+)%")
# What the editor replaces in a widget's value, and what no name may hold.
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f-\x9f\ud800-\udfff]')
FILLED = "\0"  # marks a part of the name that came out of a field
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def fill_name(
    name: str, widget_value: Callable[[str, str], str | None], now: datetime | None = None
) -> tuple[str, list[str]]:
    """`name` with every `%date:FORMAT%` and `%node.widget%` filled in, and a sentence for each part that was cut.

    Dates as the editor does it: yyyy or yy, M, d, h, m and s, two letters for two digits. `widget_value` gives the text
    of a node's widget; where it has none, the field stays as it is. A value stays inside its folder or file name:
    characters that part or break names become `_`, as the editor does it, and what is too long is cut.
    Raises InvalidInput for control characters in `name`.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise InvalidInput(f"filename_prefix must not hold control characters; got {name[:80]!r}.")
    moment = now or datetime.now()

    def filled(field: re.Match[str]) -> str:
        date, node, widget = field.groups()
        if date:
            return format_date(date, moment)
        value = widget_value(node, widget)
        return FILLED + (field[0] if value is None else UNSAFE.sub("_", value))

    parts, warnings = [], []
    for part in FIELD.sub(filled, name).split("/"):
        if FILLED in part:
            part = part.replace(FILLED, "")
            whole = part if part.strip(".") else "_"
            part = whole.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
            if part != whole:
                warnings.append(f"filename_prefix was cut to {MAX_NAME_BYTES} bytes at {whole[:40]!r}.")
        parts.append(part)
    return "/".join(parts), warnings


def format_date(pattern: str, moment: datetime) -> str:
    values = {"M": moment.month, "d": moment.day, "h": moment.hour, "m": moment.minute, "s": moment.second}

    def shown(part: re.Match[str]) -> str:
        if part[0].startswith("y"):
            return str(moment.year)[-len(part[0]) :]
        return str(values[part[0][0]]).zfill(len(part[0]))

    return re.sub("yyyy|yy|MM?|dd?|hh?|mm?|ss?", shown, pattern)


def check_name(name: str, system: ModuleType = os.path) -> None:
    """Raise InvalidInput for a filled-in name that the system, posixpath or ntpath, could not save a file under."""
    folder, last = system.split(system.normpath(name))
    if last in ("", ".", "..") or len(last.encode()) > MAX_NAME_BYTES:
        raise InvalidInput(f"filename_prefix must end in a file name of 1 to 200 bytes; got {name[:80]!r}.")
    folders = system.splitdrive(folder)[1].split(system.sep)
    for part in folders:
        if len(part.encode()) > MAX_FOLDER_BYTES:
            raise InvalidInput(
                f"filename_prefix must have folder names of at most {MAX_FOLDER_BYTES} bytes; "
                f"got one of {len(part.encode())}, {part[:40]!r}."
            )
    if system is ntpath:
        for part in (*folders, f"{last}_"):
            if re.search(r'[<>:"|?*]', part) or part.split(".")[0].rstrip(" ").upper() in WINDOWS_DEVICES:
                raise InvalidInput(f"filename_prefix must not hold what Windows refuses in a name; got {part!r}.")
