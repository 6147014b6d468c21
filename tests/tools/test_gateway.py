"""What `dev.py gateway` does with its parts."""

import contextlib
import ssl
import sys
import urllib.request
from pathlib import Path

import pytest
from wan_relay.tools import gateway
from wan_relay.tools.comfyui_server import free_port
from wan_relay.tools.processes import DevError


def part(code: str) -> gateway.Part:
    return gateway.Part("part", [sys.executable, "-c", code], {})


def test_the_gateway_speaks_https_where_it_is_asked_to(tmp_path: Path) -> None:
    variables = {"WAN_RELAY_DATABASE": str(tmp_path / "tasks.sqlite"), "WAN_RELAY_STORE": str(tmp_path / "objects")}
    with contextlib.ExitStack() as stack:
        running = gateway.Running(gateway.gateway_part(Path(sys.executable), free_port(), variables, True), stack)
        running.wait_until_ready()
        trusted = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.crt")
        with urllib.request.urlopen(f"{running.word}/healthz", context=trusted) as answer:
            assert (running.word[:8], answer.status) == ("https://", 200)


def test_a_part_that_does_not_start_is_one_sentence() -> None:
    with contextlib.ExitStack() as stack:
        running = gateway.Running(part("raise SystemExit(3)"), stack)
        with pytest.raises(DevError, match=r"^The part did not start \(exit code 3\)\.$"):
            running.wait_until_ready()


def test_a_part_that_dies_at_once_again_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is started again; where that does not help, all ends."""
    with contextlib.ExitStack() as stack:
        running = gateway.Running(part("print('ready x', flush=True)"), stack)
        running.wait_until_ready()
        assert running.word == "x"
        running.process.wait()
        running.started_at -= gateway.SHORT_LIFE_S
        first = running.process
        running.watch()
        assert running.process is not first
        running.process.wait()
        with pytest.raises(DevError, match=r"^The part stopped by itself \(exit code 0\), and all ends with it\.$"):
            running.watch()
