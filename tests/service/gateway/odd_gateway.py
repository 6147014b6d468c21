"""The gateway with its clock and its pauses in a test's hands, and with a place to die at.

DIE_AT=before_enqueue | after_enqueue | before_webhook      kill -9 of itself, there
CLOCK_FILE=path     seconds that `time.time()` is wrong by, read anew at each call
PAUSES_S=0.5        between all tries of webhooks, and between two clean-ups
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

SUBMIT, SUBMIT_AGAIN, ENDED = "submit", "enqueue_in_transaction", "_ended"  # methods that a test replaces


def take_clock_from(path: Path) -> None:
    right = time.time
    time.time = lambda: right() + float(path.read_text() or 0)


def take_pauses(pause_s: float) -> None:
    from ....service.gateway import upkeep
    from ....service.gateway.dialects import api

    vars(api)["WEBHOOK_PAUSES_S"] = (pause_s,) * 200
    vars(upkeep)["CLEAN_S"] = pause_s


def die_at(place: str) -> None:
    from dbos import DBOSClient

    from ....service.gateway.app import Gateway
    from ....service.gateway.engine import Engine

    submit = Engine.submit

    async def submit_and_die(*arguments: Any, **options: Any) -> None:
        await submit(*arguments, **options)
        die()

    async def just_die(*_: Any, **__: Any) -> None:
        die()

    if place == "before_enqueue":
        setattr(Engine, SUBMIT, just_die)
        setattr(DBOSClient, SUBMIT_AGAIN, lambda *_, **__: die())
    elif place == "after_enqueue":
        setattr(Engine, SUBMIT, submit_and_die)
    elif place == "before_webhook":
        setattr(Gateway, ENDED, just_die)
    else:
        sys.exit(f"there is no place {place!r}")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def main() -> None:
    """The clock first: whoever imports it by name must get the odd one."""
    if path := os.environ.get("CLOCK_FILE"):
        take_clock_from(Path(path))
    if pause := os.environ.get("PAUSES_S"):
        take_pauses(float(pause))
    if place := os.environ.get("DIE_AT"):
        die_at(place)
    from ....service.gateway.__main__ import main as serve

    serve()


if __name__ == "__main__":
    main()
