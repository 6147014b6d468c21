"""ComfyUI as a child: its port, its environment, its process group."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from wan_relay.service.worker.comfyui import process
from wan_relay.service.worker.comfyui.environment import child_environment
from wan_relay.tests.waiting import wait_until


@dataclass
class Foreign:
    """A ComfyUI that somebody else started."""

    port: int
    folder: Path

    def was_asked(self) -> bool:
        return (self.folder / "calls.jsonl").exists()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    folder = tmp_path / "foreign"
    (folder / "output").mkdir(parents=True)
    (folder / "fake.json").write_text("{}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, Path(__file__).resolve().parents[1] / "fake_comfyui" / "main.py", "--port", str(port)]
    command += ["--input-directory", folder / "output", "--output-directory", folder / "output"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        connections = psutil.Process(server.pid).net_connections
        wait_until(lambda: any(one.status == psutil.CONN_LISTEN for one in connections()))
        yield Foreign(port, folder)
    finally:
        server.kill()
        server.wait(30)


def test_port_that_is_taken_is_left_to_its_owner(make_bench, foreign):
    bench = make_bench(COMFYUI_PORT=foreign.port)
    assert bench.answer(bench.job())[0]["video"]
    assert bench.worker.process.port != foreign.port
    assert not foreign.was_asked()


def test_port_that_is_free_is_kept_from_start_to_start(make_bench):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bench = make_bench(COMFYUI_PORT=port)
    bench.configure(faults={"sampling": ["kill", 1]})
    assert bench.answer(bench.job())[0]["video"]
    assert (bench.worker.process.starts, bench.worker.process.port) == (2, port)


def test_foreign_comfyui_that_takes_the_port_just_before_ours_gets_no_job(bench, foreign, monkeypatch):
    monkeypatch.setattr(process, "_free_port", lambda _: foreign.port)
    job, ping = bench.answer(bench.job(), {"id": "2", "input": {"action": "ping"}})
    last_line = f"[ERROR] Port {foreign.port} is already in use on address 127.0.0.1."
    words = f"ComfyUI ended with exit code 1; its last line was: {last_line}"
    assert job == {"error": f"COMFYUI_CRASHED: {words}", "refresh_worker": True}
    assert ping == {"error": f"COMFYUI_UNAVAILABLE: {words}", "refresh_worker": True}
    assert not foreign.was_asked()


SECRETS = (
    "BUCKET_ENDPOINT_URL BUCKET_ACCESS_KEY_ID BUCKET_SECRET_ACCESS_KEY bucket_name RUNPOD_API_KEY RUNPOD_AI_API_KEY "
    "RUNPOD_WEBHOOK_GET_JOB WAN_RELAY_EXPANDER_KEY WAN_RELAY_EXPANDER_API_KEYS OPENAI_APIKEY GITHUB_TOKEN "
    "AWS_ACCESS_KEY_ID AWS_SESSION_TOKEN DB_PASSWORD GOOGLE_APPLICATION_CREDENTIALS SECRET"
).split()
NEEDED = (
    "PATH HOME CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES LD_PRELOAD PYTORCH_ALLOC_CONF TOKENIZERS_PARALLELISM "
    "HF_HOME HF_TOKEN HUGGING_FACE_HUB_TOKEN WAN_RELAY_PROMPT_CACHE WAN_RELAY_VOLUME KEYBOARD MONKEY_SEE TMPDIR"
).split()


def test_child_environment_is_all_but_the_secrets():
    assert set(child_environment(dict.fromkeys([*SECRETS, *NEEDED], "x"))) == set(NEEDED)


def test_comfyui_does_not_inherit_the_secrets(bench, monkeypatch):
    for name in [*SECRETS, "WAN_RELAY_PROMPT_CACHE"]:
        monkeypatch.setenv(name, "hush")
    assert bench.answer(bench.job())[0]["video"]
    inherited = psutil.Process(bench.worker.process.pid).environ()
    assert [name for name, value in inherited.items() if value == "hush"] == ["WAN_RELAY_PROMPT_CACHE"]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> None:
    wait_until(lambda: is_gone(pid))


@pytest.mark.parametrize("grace_s", [0, 1])
def test_children_of_comfyui_end_with_it(bench, grace_s):
    bench.configure(faults={"boot": ["child", 1]})
    assert bench.answer(bench.job())[0]["video"]
    [[_, child]] = bench.noted("child")
    assert not is_gone(child)
    bench.worker.process.kill(grace_s)
    wait_until_gone(child)


def test_children_of_a_crashed_comfyui_end_before_the_next_one_starts(bench):
    bench.configure(faults={"boot": ["child", 1], "sampling": ["kill", 1]})
    assert bench.answer(bench.job())[0]["video"]
    assert bench.worker.process.starts == 2
    [[_, child]] = bench.noted("child")
    wait_until_gone(child)
