"""Who may call the platform: without a key this machine alone, else those who send the key."""

import hmac
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from wan_relay.service.local_runpod.__main__ import main
from wan_relay.service.local_runpod.callers import is_loopback
from wan_relay.tests.service.local_runpod.platform_calls import Api, play

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
@pytest.mark.parametrize("key", [[], ["--api-key", ""], ["--api-key", "  "]])
def test_other_machines_are_let_in_with_a_key_only(
    host: str, key: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["--host", host, "--port", "0", *key])
    sentence = f"--host {host or repr('')} lets other machines in: give --api-key KEY, which they must send\n"
    assert (ended.value.code, capsys.readouterr()) == (2, ("", sentence))


@pytest.mark.parametrize("arguments", [["--host", "0.0.0.0", "--api-key", "k"], ["--host", "127.0.0.1"], []])
def test_a_key_or_loopback_is_enough(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code, capsys.readouterr()) == (2, ("", "COMFYUI_PATH must name ComfyUI's folder\n"))


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("fe80::1%1", False),
        ("no such name", False),
        ("x" * 300, False),
    ],
)
def test_what_counts_as_loopback(host: str, is_own: bool) -> None:
    assert is_loopback(host) == is_own


@pytest.mark.parametrize("port", ["-1", "65536", "1e3", "9" * 5000])
def test_a_port_that_is_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--port", port])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("argument --port: expected a whole number from 0 to 65535\n")


def test_a_place_where_it_cannot_listen_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert (
            refusal_to_listen("127.0.0.1", port) == f"cannot listen on 127.0.0.1, port {port}: Address already in use\n"
        )
    assert refusal_to_listen("no such name", 1) == "cannot listen on no such name, port 1: no such address\n"
    long = "x" * 300
    assert refusal_to_listen(long, 1) == f"cannot listen on {long}, port 1: no such address\n"


def refusal_to_listen(host: str, port: int) -> str:
    command = [sys.executable, "-m", "service.local_runpod", "--host", host, "--port", str(port), "--api-key", "key"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "")
    return process.stderr


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Bearer schl\xc3\xbcssel", 200),  # as UTF-8
        (b"Bearer schl\xfcssel", 200),  # as Latin-1, which Python's clients write
        (b"schl\xc3\xbcssel", 200),
        (b"Bearer schl\xc3\xbcsse", 401),
        (b"Bearer schlussel", 401),
        (b"Bearer schl\xff\xfe\x80ssel", 401),
        (b"Bearer ", 401),
        (b"Bearer", 401),
        (None, 401),
    ],
)
def test_a_key_may_have_any_letter(sent: bytes | None, status: int) -> None:
    async def scenario(api: Api) -> None:
        assert await health_status(api, sent) == status

    play(scenario, api_key="schlüssel")


def test_a_key_that_latin_1_cannot_write() -> None:
    async def scenario(api: Api) -> None:
        keys = ("ключ", "", "????", "к")
        assert [await health_status(api, f"Bearer {key}".encode()) for key in keys] == [200, 401, 401, 401]

    play(scenario, api_key="ключ")


FOREIGN = "without --api-key only calls to and from this machine's own names are answered"


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (b"127.0.0.1:8000", None, 200),
        (b"localhost", None, 200),
        (b"LOCALHOST:8000", None, 200),
        (b"app.localhost:1", None, 200),
        (b"[::1]:8000", None, 200),
        (b"127.0.0.1:8000", b"http://localhost:3000", 200),
        (b"127.0.0.1:8000", b"https://127.0.0.1", 200),
        (b"127.0.0.1:8000", b"http://evil.example", 403),  # a page in this machine's browser
        (b"127.0.0.1:8000", b"null", 403),
        (b"127.0.0.1:8000", b"", 403),
        (b"127.0.0.1:8000", b"http://127.0.0.1.evil.example", 403),
        (b"evil.example:8000", b"http://evil.example:8000", 403),  # a name that was bent to loopback
        (b"evil.example:8000", None, 403),
        (b"127.0.0.1.evil.example", None, 403),
        (b"localhost.evil.example", None, 403),
        (b"192.168.1.5:8000", None, 403),
        (b"[", None, 403),
        (b"a@b:c", None, 403),
        (b"", None, 403),
    ],
)
def test_web_pages_need_a_key(host: bytes, origin: bytes | None, status: int) -> None:
    async def scenario(api: Api) -> None:
        body = b'{"input": 1}'
        answer = await api.by_hand("POST", "/v2/local/run", body, Host=host, Origin=origin)
        assert answer.status == status
        if status == 403:
            assert json.loads(answer.content) == {"error": FOREIGN}
        assert len(api.jobs.queue) == (status == 200)

    play(scenario)


def test_with_a_key_any_page_may_call() -> None:
    async def scenario(api: Api) -> None:
        headers = {"Host": b"gpu.example", "Origin": b"http://page.example", "Authorization": b"Bearer my-key"}
        assert (await api.by_hand("GET", "/v2/local/health", **headers)).status == 200

    play(scenario, api_key="my-key")


async def health_status(api: Api, authorization: bytes | None) -> int:
    """Sent by hand: a client library would choose the encoding itself."""
    answer = await api.by_hand("GET", "/v2/local/health", Authorization=authorization)
    return answer.status


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.extend((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)

    async def scenario(api: Api) -> None:
        assert await health_status(api, b"Bearer guess") == 401
        assert {b"guess", b"my-key"} <= set(compared)
        assert (await api.by_hand("GET", "/sdk/guess2/ping/w1")).status == 404
        assert {b"guess2", api.sdk_path.removeprefix("/sdk/").encode()} <= set(compared)

    play(scenario, api_key="my-key")
