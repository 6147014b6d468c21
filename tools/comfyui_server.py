"""A ComfyUI of our own: started in a throwaway folder with this pack, asked over HTTP, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import requests

from .environment import Environment
from .processes import DevError, child, output_of, say


class Server:
    """A running ComfyUI: `url`, its throwaway base directory `base`, its process, and its log file (None: stderr)."""

    def __init__(self, url: str, base: Path, process: subprocess.Popen[bytes], log: Path | None) -> None:
        self.url, self.base, self.process, self.log = url, base, process, log
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy is not for this machine's own address

    def request(self, path: str, body: bytes | None = None, **options: Any) -> bytes:
        """GET, or POST where there is a body or files. Raises DevError with ComfyUI's own words when it refuses."""
        method = "GET" if body is None and not options else "POST"
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            answer = self._http.request(method, self.url + path, data=body, headers=headers, timeout=60, **options)
        except requests.RequestException as error:
            self.check_alive()
            raise DevError(f"ComfyUI does not answer at {self.url}: {type(error).__name__}.") from None
        if not answer.ok:
            raise DevError(refusal(answer.content))
        return answer.content

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
        with image.open("rb") as file:
            answer = self.request("/upload/image", files={"image": (name + image.suffix, file)})
        return str(json.loads(answer)["name"])

    def run(
        self,
        workflow: dict[str, Any],
        on_message: Callable[[dict[str, Any]], None] = lambda _: None,
        timeout_s: float = 3600,
    ) -> dict[str, Any]:
        """Queue an API workflow, wait for its end, and give its history entry. Raises DevError when it fails."""
        try:
            entry = asyncio.run(asyncio.wait_for(self._run(workflow, on_message), timeout_s))
        except TimeoutError:
            raise DevError(f"The workflow did not end within {timeout_s:.0f} seconds.") from None
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                raise DevError(f"{data['exception_message'].strip()} ({data['node_type']})")
        return entry

    async def _run(self, workflow: dict[str, Any], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        client = uuid.uuid4().hex
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{self.url}/ws?clientId={client}") as socket:
            body = json.dumps({"prompt": workflow, "client_id": client}).encode()
            prompt_id = json.loads(self.request("/prompt", body))["prompt_id"]
            while True:
                self.check_alive()
                event: dict[str, Any] = {}
                with contextlib.suppress(TimeoutError):
                    message = await socket.receive(timeout=0.5)
                    if message.type == aiohttp.WSMsgType.TEXT:
                        event = json.loads(message.data)
                        on_message(event)
                is_end = event.get("type") == "executing" and event["data"]["node"] is None
                # Not while a message may still be on its way: the history is there before the last of them.
                if (is_end or not event) and prompt_id in (history := self.get(f"/history/{prompt_id}")):
                    return dict(history[prompt_id])


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
def comfyui_server(
    env: Environment,
    port: int = 0,
    log: bool = True,
    models: dict[str, Path] | None = None,
    front_end: Path | None = None,
) -> Iterator[Server]:
    """ComfyUI with this pack in a throwaway base directory, headless, on a free port unless one is named.

    `models` maps a path below models/ to a file; without it the toy family is there. Nothing is written to either.
    `front_end` is a folder with another version of the graph editor.
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
        command += ["--front-end-root", front_end] if front_end else []
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


def has_gpu(python: Path) -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if not shutil.which("nvidia-smi"):
        return False
    ask = [python, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"]
    return output_of(ask, timeout_s=120)[0] == 0
