"""A worker of a Load Balancer endpoint, as the balancer reaches it: `local_runpod --load-balancer`."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from pathlib import Path

from .worker_process import WorkerProcess, worker_environment

UNUSED = "http://127.0.0.1:9"


async def serve_load_balancer(host: str, port: int) -> None:
    """Runs until SIGTERM or SIGINT, and leaves no process and no file. A worker that ends is started again.

    The worker prints `ready http://host:port`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    folder = Path(tempfile.mkdtemp(prefix="wan_relay_platform_"))
    own = {"WAN_RELAY_ENDPOINT_TYPE": "LB", "WAN_RELAY_LB_HOST": host, "PORT": str(port), "PORT_HEALTH": ""}
    worker = WorkerProcess(worker_environment(UNUSED, folder) | own)
    try:
        while not stop.is_set():
            if not worker.is_running:
                worker.start()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
    finally:
        await asyncio.to_thread(worker.stop)
        shutil.rmtree(folder, ignore_errors=True)
