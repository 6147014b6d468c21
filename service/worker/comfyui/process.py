"""ComfyUI as a child of the worker: started lean, watched, and started again after a crash."""

import asyncio
import collections
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import aiohttp
import psutil

from ...child_process import end_child, start_child
from ...contract.errors import JobError
from ..model_files.hub_cache import find_cached_models, link_cached_models
from ..model_files.places import model_places, paths_config
from ..settings import Settings
from .environment import child_environment

PACK = "ComfyUI-WanRelay"
POLL_S = 0.05
# Its HTTP server answers while a step runs in another thread, unless that thread keeps the interpreter to itself. The
# longest that may last is one expert of 14.5 GB read from a network volume in one call: 97 s at 150 MB/s.
SILENCE_S = 120.0
LEAN_BOOT = Path(__file__).with_name("lean_boot.py")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ComfyGoneError(Exception):
    """The process is not there any more."""


class ComfySilentError(ComfyGoneError):
    """The process lived, answered nothing for SILENCE_S, and was ended for it."""


class ComfyProcess:
    """Start it from the main thread: the kernel binds the child's life to the thread that made it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._started = 0.0
        self._ready_s: float | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=60)
        self.port = settings.comfyui_port
        self.starts = 0
        self._is_lean = settings.lean_boot
        self._is_whole = not settings.lean_boot
        self._was_silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def boot_s(self) -> float | None:
        """Seconds from the start to the first answer, once known."""
        return self._ready_s

    @property
    def is_whole(self) -> bool:
        """Whether it has, or is getting, core's extra nodes and every installed pack."""
        return self._is_whole

    def start_whole(self) -> None:
        """A new start with all that is installed, for good; what was loaded is lost. Returns at once."""
        self.kill()
        self._is_lean, self._is_whole = False, True
        self.start()

    def command(self) -> list[str]:
        """Only what the bundled workflows need: this pack alone, no API nodes, no database file, no previews.

        Once it is whole, every pack.
        """
        s = self._settings
        launcher = ["-P", str(LEAN_BOOT)] if self._is_lean else []
        command = [s.comfyui_python, "-u", *launcher, str(s.comfyui_path / "main.py"), "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", str(s.base_directory)]
        command += ["--input-directory", str(s.input_directory), "--output-directory", str(s.output_directory)]
        command += ["--temp-directory", str(s.run_directory), "--user-directory", str(s.run_directory / "user")]
        command += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--dont-print-server"]
        if not self._is_whole:
            command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK]
        command += ["--disable-api-nodes", "--disable-metadata", "--preview-method", "none"]
        # An image is uploaded as PNG: at most 3 bytes a pixel and a little.
        command += ["--max-upload-size", str(4 * s.max_image_megapixels)]
        if s.models_directory:
            command += ["--models-directory", str(s.models_directory)]
        command += ["--extra-model-paths-config", str(s.model_paths_config)]
        return command + shlex.split(s.comfyui_args)

    def start(self) -> None:
        """Returns at once; `wait_ready` says when it answers. Does nothing while it runs."""
        if self.is_running:
            return
        if self._process is not None and self._ready_s is None:
            self._is_lean = False  # it ended before it was ready: perhaps this ComfyUI cannot start lean
        self.kill()  # what a dead one left of its group
        for folder in (
            self._settings.input_directory,
            self._settings.output_directory,
            self._settings.run_directory / "user",
        ):
            folder.mkdir(parents=True, exist_ok=True)
        show_models(self._settings)
        self.port = _free_port(self._settings.comfyui_port)
        self._lines.clear()
        self._ready_s, self._was_silent = None, False
        self._started = time.monotonic()
        self.starts += 1
        self._process = start_child(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._settings.run_directory,
            env=child_environment(os.environ),
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._drain, args=(self._process,), name="comfyui-log", daemon=True).start()

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.append(_COLOUR.sub("", line).rstrip())
                print(f"comfyui | {line}", end="", file=sys.stderr, flush=True)

    async def wait_ready(self) -> None:
        """Starts it if need be, and waits for its answer: see `wait_answer`."""
        self.start()
        await self.wait_answer()

    async def wait_answer(self) -> None:
        """Returns as soon as it answers a question that costs it nothing.

        Raises ComfyGoneError once it is dead; ComfySilentError after SILENCE_S without an answer; JobError if it takes
        too long to start. The last two end it.
        """
        if self._ready_s is None:
            give_up = self._started + self._settings.boot_timeout_s
        else:
            give_up = time.monotonic() + SILENCE_S
        async with http_session() as session:
            while not await self._answers(session, give_up - time.monotonic()):
                if not self.is_running:
                    raise ComfyGoneError
                if time.monotonic() > give_up:
                    self._give_up()
                await asyncio.sleep(POLL_S)
        if self._ready_s is None:
            self._ready_s = time.monotonic() - self._started

    def _give_up(self) -> NoReturn:
        self.kill()
        if self._ready_s is not None:
            self._was_silent = True
            raise ComfySilentError
        sentence = f"ComfyUI did not answer within {self._settings.boot_timeout_s:g} s of its start"
        raise JobError("COMFYUI_UNAVAILABLE", sentence, refresh_worker=True)

    async def answers_within(self, limit_s: float) -> bool:
        async with http_session() as session:
            return await self._answers(session, limit_s)

    async def _answers(self, session: aiohttp.ClientSession, limit_s: float) -> bool:
        if not self._listens():
            return False
        try:
            async with asyncio.timeout(limit_s), session.get(f"{self.url}/prompt") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            return False

    def _listens(self) -> bool:
        """Whether the port is this process's own: another ComfyUI there would take the jobs."""
        if self._process is None:
            return False
        try:
            connections = psutil.Process(self._process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in connections)

    def last_words(self) -> str:
        """How it ended: the exit code or signal, and its last line of log."""
        code = self._process.poll() if self._process else None
        if self._was_silent:
            return f"ComfyUI did not answer for {SILENCE_S:g} s and was ended"
        if code is None:
            how = "stopped answering"
        elif code < 0:
            how = f"was ended by {_signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        line = next((line for line in reversed(self._lines) if line.strip()), "")
        return f"ComfyUI {how}" + (
            f"; its last line was: {line.strip()[:200]}" if line and code not in (None, -9) else ""
        )

    def kill(self, grace_s: float = 0.0) -> None:
        """Ends the whole process group, also where its leader is dead: politely for `grace_s`, then for good."""
        if self._process is not None:
            end_child(self._process, grace_s)


def show_models(settings: Settings) -> None:
    """Writes down for ComfyUI where models lie, and makes the links to those of Hugging Face caches."""
    link_cached_models(find_cached_models(settings.hubs), settings.cached_models)
    sections = model_places(settings).sections
    settings.model_paths_config.write_text(paths_config(sections), encoding="utf-8")


@contextlib.asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """To ComfyUI alone, without time limits. New for each job: after a worker was frozen, an old connection is stale.

    aiohttp's own choice of resolver would cost each session a thread and four file descriptors, which it closes
    some time later; the address is a number.
    """
    connector = aiohttp.TCPConnector(limit=0, resolver=aiohttp.ThreadedResolver())
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


def _free_port(wanted: int) -> int:
    """The wanted one, unless it is 0 or somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ComfyUI's own: old connections do not matter
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def pack_folder(base_directory: Path) -> Path:
    """Where ComfyUI must find this pack."""
    return base_directory / "custom_nodes" / PACK
