"""Arguments of the command line that answer a mistake with one sentence."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any, NoReturn

from .processes import DevError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DevError(f"{message[0].upper()}{message[1:]}.")


def number(low: float, high: float, kind: type = int) -> Callable[[str], Any]:
    """An argparse type: a number in a range, both ends included."""

    def convert(text: str) -> Any:
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        name = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {name} from {low} to {high}, got {text!r}")

    return convert
