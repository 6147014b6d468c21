"""Serves the worker's HTTP on RunPod's PORT and PORT_HEALTH, until it is told to end or the worker is lost."""

import signal
import socket
import sys
from typing import NoReturn

import uvicorn

from ..job import Worker
from .http_face import HttpFace


def serve(worker: Worker) -> NoReturn:
    """Ends the process: with exit code 1 where the worker is to be replaced. Prints `ready http://host:port`."""
    settings = worker.settings
    listeners = [_listener(settings.load_balancer_host, port) for port in dict.fromkeys(settings.load_balancer_ports)]
    face = HttpFace(worker, on_lost=lambda: setattr(server, "should_exit", True))
    config = uvicorn.Config(
        face.application(),
        log_config=None,
        access_log=False,
        server_header=False,
        # A request that runs is answered, as the SDK does it; the platform has its own limit.
        timeout_graceful_shutdown=round(settings.job_timeout_s) + 15,
    )
    server = _Server(config, f"ready http://{settings.load_balancer_host}:{listeners[0].getsockname()[1]}")
    for sign in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again when it has ended
        signal.signal(sign, lambda *_: sys.exit(0))
    server.run(listeners)
    sys.exit(1 if face.readiness.is_lost else 0)


class _Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, words: str) -> None:
        super().__init__(config)
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._words, flush=True)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        sys.exit(f"cannot listen on {host}, port {port}: {error.strerror}")
