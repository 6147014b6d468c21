"""ComfyUI as a child of the worker: started lean, watched, and started again after a crash."""

import asyncio
import collections
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp

from ...contract.errors import JobError
from ..settings import Settings

PACK = "ComfyUI-WanRelay"
POLL_S = 0.05
SILENCE_S = 30.0
LEAN_BOOT = Path(__file__).with_name("lean_boot.py")

# Runs before ComfyUI in the child: the kernel ends it when the worker dies, even by SIGKILL.
DIE_WITH_PARENT = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 9)
except AttributeError:
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ComfyGoneError(Exception):
    """The process is not there any more."""


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

    def command(self) -> list[str]:
        """Only what the bundled workflows need: this pack alone, no API nodes, no database file, no previews."""
        s = self._settings
        launcher = ["-P", str(LEAN_BOOT)] if self._is_lean else []
        command = [s.comfyui_python, "-u", *launcher, str(s.comfyui_path / "main.py"), "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", str(s.base_directory)]
        command += ["--input-directory", str(s.input_directory), "--output-directory", str(s.output_directory)]
        command += ["--temp-directory", str(s.run_directory), "--user-directory", str(s.run_directory / "user")]
        command += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--dont-print-server"]
        command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK, "--disable-api-nodes"]
        command += ["--disable-metadata", "--preview-method", "none"]
        # An image is uploaded as PNG: at most 3 bytes a pixel and a little.
        command += ["--max-upload-size", str(4 * s.max_image_megapixels)]
        if s.models_directory:
            command += ["--models-directory", str(s.models_directory)]
        if s.extra_model_paths and s.extra_model_paths.is_file():
            command += ["--extra-model-paths-config", str(s.extra_model_paths)]
        return command + shlex.split(s.comfyui_args)

    def start(self) -> None:
        """Returns at once; `wait_ready` says when it answers. Does nothing while it runs."""
        if self.is_running:
            return
        if self._process is not None and self._ready_s is None:
            self._is_lean = False  # perhaps this ComfyUI cannot
        for folder in (
            self._settings.input_directory,
            self._settings.output_directory,
            self._settings.run_directory / "user",
        ):
            folder.mkdir(parents=True, exist_ok=True)
        if self._settings.comfyui_port == 0:
            self.port = _free_port()
        self._lines.clear()
        self._ready_s, self._was_silent = None, False
        self._started = time.monotonic()
        self.starts += 1
        watched = [sys.executable, "-S", "-E", "-c", DIE_WITH_PARENT, str(os.getpid())]
        self._process = subprocess.Popen(
            watched + self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._settings.run_directory,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._drain, args=(self._process,), name="comfyui-log", daemon=True).start()

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                print(f"comfyui | {line}", end="", file=sys.stderr, flush=True)

    async def wait_ready(self) -> None:
        """Starts it if need be. Raises ComfyGoneError if it ends first, JobError if it takes too long.

        One that was ready once, and then says nothing between two jobs, hangs: it is killed, which is an end too.
        """
        self.start()
        deadline = self._started + self._settings.boot_timeout_s
        silent_until = time.monotonic() + SILENCE_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if await self._answers(session):
                    if self._ready_s is None:
                        self._ready_s = time.monotonic() - self._started
                    return
                if not self.is_running:
                    raise ComfyGoneError
                if self._ready_s is None and time.monotonic() > deadline:
                    self.kill()
                    sentence = f"ComfyUI did not answer within {self._settings.boot_timeout_s:g} s of its start"
                    raise JobError("COMFYUI_UNAVAILABLE", sentence, refresh_worker=True)
                if self._ready_s is not None and time.monotonic() > silent_until:
                    self._was_silent = True
                    self.kill()
                    raise ComfyGoneError
                await asyncio.sleep(POLL_S)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/prompt") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

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
        """Ends the whole process group and waits for it: politely for `grace_s`, then for good."""
        process = self._process
        if process is None:
            return
        for sign, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            if wait_s <= 0:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, sign)
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue


def _free_port() -> int:
    with socket.socket() as probe:
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
