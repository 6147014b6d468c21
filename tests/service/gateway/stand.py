"""A gateway and executors as processes of their own, on a database and a store in one folder."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from wan_relay.tests.service.worker.conftest import png

ROOT = Path(__file__).resolve().parents[3]
# Modules of the tests are part of `wan_relay`, whose own entry needs ComfyUI: dev.py registers it without.
RUN = "import sys, runpy; sys.path.insert(0, {root!r}); import dev; dev.register_package(); sys.argv[0] = {module!r}; "
RUN += "runpy.run_module('wan_relay.' + {module!r}, run_name='__main__', alter_sys=True)"
START_S = 200
PICTURE = "data:image/png;base64," + base64.b64encode(png((64, 48))).decode()


class Stand:
    """`settings` are environment variables for all its processes."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WAN_RELAY")},
            "WAN_RELAY_DATABASE": str(folder / "tasks.sqlite"),
            "WAN_RELAY_STORE": str(folder / "objects"),
            "WAN_RELAY_TRUSTED_HOSTS": "127.0.0.1",
            **settings,
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.gateway: subprocess.Popen[str]
        self.url = ""

    def start_gateway(self, *arguments: str, port: int = 0, **odd: str) -> "Stand":
        """The same port again after a kill, where one is given. `odd` are variables of odd_gateway.py."""
        module = "tests.service.gateway.odd_gateway" if odd else "service.gateway"
        self.gateway = self._start(module, "--port", str(port), *arguments, variables=odd)
        self.url = self._line(self.gateway, "ready ").removeprefix("ready ").strip()
        return self

    def start_executor(self, name: str = "fast-1") -> subprocess.Popen[str]:
        module = "tests.service.gateway.fast_executor"
        process = self._start(module, variables={"WAN_RELAY_EXECUTOR_ID": name})
        self._line(process, "ready")
        return process

    def kill_gateway(self) -> None:
        """As a machine does that loses its power."""
        self.gateway.kill()
        self.gateway.wait()

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self._command(module, arguments), env=self.variables, text=True, capture_output=True, timeout=START_S
        )

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str | None = None, prefix: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url + prefix, headers=headers, timeout=60, trust_env=False)

    def errors(self, of: str = "") -> str:
        """What the processes of a module, or all, wrote to standard error, but for what is as it should be."""
        lines = [line for path in sorted(self.folder.glob(f"*{of}.err")) for line in path.read_text().splitlines()]
        return "\n".join(line for line in lines if '"level": "info"' not in line and '"event": "no_key"' not in line)

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        """The gateways' lines, of one event or all."""
        paths = sorted(self.folder.glob("*gateway.err"))
        lines = [json.loads(line) for path in paths for line in path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event in ("", line["event"])]

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def _command(self, module: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-c", RUN.format(root=str(ROOT), module=module), *arguments]

    def _start(self, module: str, *arguments: str, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
        with (self.folder / f"{len(self.processes):02}-{module}.err").open("w") as errors:
            process = subprocess.Popen(
                self._command(module, arguments),
                env=self.variables | (variables or {}),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.processes.append(process)
        return process

    def _line(self, process: subprocess.Popen[str], start: str) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f"it ended with {process.wait()}:\n{self.errors()}")
