"""RunPod's entry, of both types of endpoint: `python -m service.worker.handler`. Wiring only; job.py answers."""

import os
import sys
from typing import Any

from pydantic import ValidationError

from .job import PlatformJob, Worker
from .settings import Settings


def send_progress(job: PlatformJob, update: dict[str, Any]) -> None:
    import runpod

    runpod.serverless.progress_update(job, update)


def main() -> None:
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    try:
        settings = Settings.from_environment()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        sys.exit(f"{fault['loc'][0]}: {fault['msg']}")
    is_balanced = settings.endpoint_type == "LB"
    worker = Worker(settings.for_load_balancer() if is_balanced else settings, send_progress)
    worker.start()
    try:
        # Imported while ComfyUI boots: each takes more than a second.
        if is_balanced:
            from .load_balancer.server import serve

            serve(worker)
        else:
            import runpod

            runpod.serverless.start({"handler": worker.answer})
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
