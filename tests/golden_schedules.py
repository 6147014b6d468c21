"""Sigma schedules as the Wan2.2 reference, Wan2.2-Lightning, diffusers and ComfyUI 0.30.0 make them."""

import json
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).resolve().parent / "data" / "schedules.json"


class Case(NamedTuple):
    scheduler: str
    steps: int
    shift: float
    first_low_900: int
    first_low_875: int
    sigmas: list[float]


CASES = [Case(*row) for row in json.loads(DATA.read_text())]
