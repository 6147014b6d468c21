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

from ....service.gateway import upkeep
from ....service.gateway.__main__ import main
from ....service.gateway.app import Gateway
from ....service.gateway.dialects import api
from ....service.gateway.engine import Engine


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def dies_at(place: str) -> None:
    submit = Engine.submit

    async def submit_and_die(*arguments: Any, **options: Any) -> None:
        await submit(*arguments, **options)
        die()

    async def just_die(*_: Any, **__: Any) -> None:
        die()

    if place == "before_enqueue":
        Engine.submit = just_die
    elif place == "after_enqueue":
        Engine.submit = submit_and_die
    elif place == "before_webhook":
        Gateway._ended = just_die
    else:
        sys.exit(f"there is no place {place!r}")


def takes_its_clock_from(path: Path) -> None:
    right = time.time
    time.time = lambda: right() + float(path.read_text() or 0)


if __name__ == "__main__":
    if place := os.environ.get("DIE_AT"):
        dies_at(place)
    if path := os.environ.get("CLOCK_FILE"):
        takes_its_clock_from(Path(path))
    if pause := os.environ.get("PAUSES_S"):
        api.WEBHOOK_PAUSES_S = (float(pause),) * 200
        upkeep.CLEAN_S = float(pause)
    main()
