"""A local RunPod: the real SDK loop in a worker process, and the real HTTP API in front of it.

    python -m service.local_runpod [--host 127.0.0.1] [--port 8000] [--api-key KEY] [--load-balancer]

prints `ready http://127.0.0.1:8000/v2/local`; with --load-balancer it is the worker alone, with its own HTTP there.
The worker is configured by its usual environment variables;
COMFYUI_PATH is needed, and WAN_RELAY_MODELS (else WAN_RELAY_TOY_MODELS) names the models folder. Webhooks go to the
public internet and to the hosts in WAN_RELAY_TRUSTED_HOSTS (host[:port], comma-separated) only. Limits,
retention and odd corners are those that were measured on the platform: a result over the limit leaves a
COMPLETED job without output, and an error that is not a string counts as success.
"""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from ..media.addresses import TrustedHosts
from .callers import is_loopback
from .endpoint import Endpoint
from .jobs import Limits
from .load_balancer import serve_load_balancer
from .worker_process import WorkerProcess, own_url, worker_environment


async def serve(host: str, port: int, api_key: str, trusted_hosts: TrustedHosts) -> None:
    """Runs until SIGTERM or SIGINT; leaves no process and no file."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    folder = Path(tempfile.mkdtemp(prefix="wan_relay_platform_"))
    endpoint = Endpoint(Limits(), api_key=api_key, trusted_hosts=trusted_hosts)
    runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=1.0)
    worker: WorkerProcess | None = None
    tasks: list[asyncio.Task[None]] = []
    try:
        await runner.setup()
        await listen(runner, host, port)
        base = own_url(*runner.addresses[0][:2])
        worker = WorkerProcess(worker_environment(base + endpoint.sdk_path, folder))
        tasks = [asyncio.create_task(endpoint.jobs.keep_time()), asyncio.create_task(worker.supervise(endpoint.jobs))]
        print(f"ready {base}/v2/{endpoint.id}", flush=True)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await endpoint.jobs.close()
        if worker is not None:
            await asyncio.to_thread(worker.stop)
        await runner.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0  # a name that leads nowhere has none, or one below zero
        sys.exit(f"cannot listen on {host}, port {port}: {os.strerror(code) if code > 0 else 'no such address'}")


def port_number(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError("expected a whole number from 0 to 65535")


def is_own_fault(record: logging.LogRecord) -> bool:
    """Of what aiohttp logs with a traceback: HTTP that a client broke is none, and has had its answer."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (BadHttpMessage, web.RequestPayloadError))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="service.local_runpod", description="A local RunPod endpoint.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, and needs a key")
    parser.add_argument("--port", type=port_number, default=8000, help="0 takes a free port")
    parser.add_argument("--api-key", default="", help="the bearer key that clients must send")
    parser.add_argument("--load-balancer", action="store_true", help="the worker of a Load Balancer endpoint")
    options = parser.parse_args(arguments)
    api_key = options.api_key.strip()
    if not api_key and not is_loopback(options.host):
        host = options.host or repr("")
        parser.exit(2, f"--host {host} lets other machines in: give --api-key KEY, which they must send\n")
    if "COMFYUI_PATH" not in os.environ:
        parser.exit(2, "COMFYUI_PATH must name ComfyUI's folder\n")
    if options.load_balancer:
        if api_key or not is_loopback(options.host):
            parser.exit(
                2, "--load-balancer asks for no key, as on RunPod the balancer does, and serves this machine alone\n"
            )
        return asyncio.run(serve_load_balancer(options.host, options.port))
    logging.getLogger("aiohttp.server").addFilter(is_own_fault)
    try:
        trusted_hosts = TrustedHosts.parse(os.environ.get("WAN_RELAY_TRUSTED_HOSTS", ""))
    except ValueError as error:
        parser.exit(2, f"WAN_RELAY_TRUSTED_HOSTS {error}\n")
    asyncio.run(serve(options.host, options.port, api_key, trusted_hosts))


if __name__ == "__main__":
    main()
