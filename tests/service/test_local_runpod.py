"""The local platform: its HTTP API alone, then with the real SDK loop and the guide's client in front of it."""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from wan_relay.service.local_runpod.jobs import Limits
from wan_relay.service.local_runpod.worker_process import own_url, worker_environment
from wan_relay.tests.service.local_runpod.platform_calls import Api, play
from wan_relay.tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
FAKE_COMFYUI = Path(__file__).parent / "worker" / "fake_comfyui"


def test_the_workers_own_api_is_closed_to_others():
    async def scenario(api: Api) -> None:
        await api.call("POST", "/run", {"input": 1})
        for path in ("/sdk/job-take/w1", "/sdk/guess/job-take/w1"):
            async with api.client.get(path) as response:
                assert response.status == 404
        assert (await api.take())["input"] == 1

    play(scenario)


@pytest.mark.parametrize(
    ("bound", "url"),
    [
        (("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        (("0.0.0.0", 8000), "http://127.0.0.1:8000"),
        (("192.168.1.5", 1), "http://192.168.1.5:1"),
        (("::", 1), "http://[::1]:1"),
        (("fd00::5", 1), "http://[fd00::5]:1"),
    ],
)
def test_the_worker_reaches_the_address_that_was_bound(bound: tuple[str, int], url: str) -> None:
    assert own_url(*bound) == url


def test_comfyui_has_the_gpu_but_for_the_toy_family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COMFYUI_ARGS", raising=False)
    monkeypatch.delenv("WAN_RELAY_TOY_MODELS", raising=False)
    assert "COMFYUI_ARGS" not in worker_environment("http://x/sdk/k", tmp_path / "real")
    monkeypatch.setenv("WAN_RELAY_TOY_MODELS", "/toy")
    assert worker_environment("http://x/sdk/k", tmp_path / "toy")["COMFYUI_ARGS"] == "--cpu"


def test_job_from_queue_to_result():
    async def scenario(api: Api) -> None:
        status, queued = await api.call("POST", "/run", {"input": {"a": 1}, "s3Config": {"accessId": "x"}})
        assert (status, queued["status"], set(queued)) == (200, "IN_QUEUE", {"id", "status"})
        assert await api.call("GET", f"/status/{queued['id']}") == (200, queued)
        job = await api.take()
        assert job == {"id": queued["id"], "input": {"a": 1}, "s3Config": {"accessId": "x"}}
        await api.done(job["id"], {"status": "IN_PROGRESS", "output": {"progress": 0.5}})
        _, running = await api.call("GET", f"/status/{job['id']}")
        assert (running["status"], running["output"]) == ("IN_PROGRESS", {"progress": 0.5})
        await api.done(job["id"], {"output": {"video": "AA"}})
        _, finished = await api.call("GET", f"/status/{job['id']}")
        assert set(finished) == {"id", "status", "output", "delayTime", "executionTime", "workerId"}
        assert (finished["status"], finished["output"]) == ("COMPLETED", {"video": "AA"})
        assert await api.take() is None
        _, health = await api.call("GET", "/health")
        assert health["jobs"] == {"completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0}
        assert (await api.call("POST", f"/retry/{job['id']}"))[0] == 400

    play(scenario)


@pytest.mark.parametrize(
    ("posted", "status", "output", "error"),
    [
        ({"error": "CODE: no"}, "FAILED", None, "CODE: no"),
        ({"output": {"details": 1}, "error": "no"}, "FAILED", {"details": 1}, "no"),
        ({"error": {"code": 1}}, "COMPLETED", None, None),
        ({}, "COMPLETED", None, None),
        ({"output": None}, "COMPLETED", None, None),
        ({"output": {"x": "y" * 5000}}, "COMPLETED", None, None),
    ],
)
def test_what_the_platform_makes_of_a_result(posted, status, output, error):
    async def scenario(api: Api) -> None:
        await api.call("POST", "/run", {"input": {}})
        job = await api.take()
        assert await api.done(job["id"], posted) == (400 if "y" * 9 in json.dumps(posted) else 200)
        _, body = await api.call("GET", f"/status/{job['id']}")
        assert (body["status"], body.get("output"), body.get("error")) == (status, output, error)

    play(scenario)


def test_sync_call_waits_as_long_as_it_was_told():
    async def scenario(api: Api) -> None:
        async def work() -> None:
            job = await api.take()
            assert job["id"].startswith("sync-")
            await api.done(job["id"], {"output": 7})

        working = asyncio.create_task(work())
        status, body = await api.call("POST", "/runsync", {"input": None})
        await working
        assert (status, body["status"], body["output"]) == (200, "COMPLETED", 7)
        status, body = await api.call("POST", "/runsync?wait=50", {"input": {}})
        assert (status, set(body), body["status"]) == (200, {"id", "status"}, "IN_QUEUE")
        for wait in ("0", "-1", "300001", "abc", "1.5"):
            assert (await api.call("POST", f"/runsync?wait={wait}", {"input": {}}))[0] == 400

    play(scenario)


def test_bad_requests():
    async def scenario(api: Api) -> None:
        good = {"Authorization": "Bearer key"}
        bodies: tuple[Any, ...] = (b"{", b"[]", b'"x"', {"inputs": {}}, {"input": "x" * 3000})
        for body in bodies:
            assert (await api.call("POST", "/run", body, **good))[0] == 400
        assert (await api.call("POST", "/runsync?wait=1", {"input": "x" * 3000}, **good))[0] == 200
        for policy in ({"ttl": "x"}, {"executionTimeout": 0}, {"ttl": 10**12}, "fast", {"ttl": True}):
            assert (await api.call("POST", "/run", {"input": 1, "policy": policy}, **good))[0] == 400
        for path in ("/status/nothing", "/stream/nothing"):
            assert (await api.call("GET", path, **good)) == (404, {"error": "job not found"})
        assert (await api.call("POST", "/cancel/nothing", **good))[0] == 404
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "key2"}):
            assert (await api.call("GET", "/health", **headers)) == (401, {"error": "unauthorized"})
        async with api.client.get("/v2/other/health", headers=good) as response:
            assert response.status == 404

    play(scenario, api_key="key")


def test_cancel_and_timeouts_reach_the_worker():
    async def scenario(api: Api) -> None:
        _, queued = await api.call("POST", "/run", {"input": 1})
        assert await api.call("POST", f"/cancel/{queued['id']}") == (200, {"id": queued["id"], "status": "CANCELLED"})
        assert await api.take() is None
        _, running = await api.call("POST", "/run", {"input": 2})
        await api.take()
        _, cancelled = await api.call("POST", f"/cancel/{running['id']}")
        assert cancelled["status"] == "CANCELLED"
        async with api.client.get(f"{api.sdk_path}/job-stop/w1?gpu=x") as response:
            assert await response.json() == {"jobsToStop": [running["id"]]}
        await api.done(running["id"], {"output": "late"})
        _, body = await api.call("GET", f"/status/{running['id']}")
        assert (body["status"], "output" in body) == ("CANCELLED", False)
        _, slow = await api.call("POST", "/run", {"input": 3, "policy": {"executionTimeout": 100}})
        await api.take()
        async with api.client.get(f"{api.sdk_path}/job-stop/w1?gpu=x") as response:
            assert await response.json() == {"jobsToStop": [slow["id"]]}
        _, body = await api.call("GET", f"/status/{slow['id']}")
        assert body["status"] == "TIMED_OUT"
        _, again = await api.call("POST", f"/retry/{slow['id']}")
        assert again["status"] == "IN_QUEUE"
        assert (await api.take())["id"] == slow["id"]

    play(scenario, Limits(min_execution_timeout_ms=1, long_poll_s=1))


def test_jobs_are_forgotten():
    async def scenario(api: Api) -> None:
        _, brief = await api.call("POST", "/run", {"input": 1, "policy": {"ttl": 50}})
        _, kept = await api.call("POST", "/run", {"input": 2})
        for _ in range(100):
            status, _ = await api.call("GET", f"/status/{brief['id']}")
            if status == 404:
                break
            await asyncio.sleep(0.05)
        assert status == 404
        await api.take()
        await api.done(kept["id"], {"output": 1})
        for _ in range(100):
            status, _ = await api.call("GET", f"/status/{kept['id']}")
            if status == 404:
                break
            await asyncio.sleep(0.05)
        assert status == 404

    play(scenario, Limits(min_ttl_ms=1, run_retention_s=0.2, long_poll_s=0.3))


def test_stream_purge_and_rate():
    async def scenario(api: Api) -> None:
        _, first = await api.call("POST", "/run", {"input": 1})
        await api.take()
        for chunk, status in (("a", 200), ("b", 200), ("x" * 500, 400)):
            path = f"{api.sdk_path}/job-stream/w1/{first['id']}?gpu=x&isStream=true"
            async with api.client.post(path, data=json.dumps({"output": chunk})) as response:
                assert response.status == status
        expected = {"status": "IN_PROGRESS", "stream": [{"output": "a"}, {"output": "b"}]}
        assert await api.call("GET", f"/stream/{first['id']}") == (200, expected)
        assert (await api.call("GET", f"/stream/{first['id']}"))[1]["stream"] == []
        await api.call("POST", "/run", {"input": 2})
        assert await api.call("POST", "/purge-queue") == (200, {"removed": 1, "status": "completed"})
        await api.call("POST", "/run", {"input": 3})
        assert (await api.call("POST", "/run", {"input": 4}))[0] == 429

    play(scenario, Limits(stream_chunk=200, rates=(3, 3), long_poll_s=0.3))


# --- with the real SDK loop ---


@dataclass
class Served:
    """A platform process over the fake ComfyUI."""

    process: subprocess.Popen[bytes]
    base_url: str
    folder: Path
    log: Path

    def configure(self, **config: Any) -> None:
        path = self.folder / "run" / "fake.json"
        path.write_text(json.dumps({"video": str(self.folder / "video.mp4")} | config))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "run" / "output").mkdir(parents=True)
    (folder / "video.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(1000))
    variables = {
        "COMFYUI_PATH": str(FAKE_COMFYUI),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_MIN_FREE_DISK_MB": "1",
        "WAN_RELAY_JOB_TIMEOUT_S": "60",
        "WAN_RELAY_TRUSTED_HOSTS": "example.com:1, 127.0.0.1",
        "TMPDIR": str(folder),
    }
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.local_runpod", "--port", "0", "--api-key", "my-key"],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        served = Served(process, "", folder, log)
        served.configure()
        deadline = time.monotonic() + 60
        while not served.base_url and time.monotonic() < deadline and process.poll() is None:
            ready = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ready http")]
            served.base_url = ready[0].split()[1] if ready else ""
            time.sleep(0.1)
        assert served.base_url.endswith("/v2/local"), log.read_text(errors="replace")
        yield served
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            for pid in descendants(process.pid, folder):
                os.kill(pid, signal.SIGKILL)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


def descendants(_: int, folder: Path) -> list[int]:
    """Processes that carry this platform's run folder in their environment or command."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder).encode() in text and state not in ("Z", "X"):
            found.append(int(entry.name))
    return found


IMAGE = base64.b64encode((ROOT / "tests" / "data" / "coffee.jpg").read_bytes()).decode()
FIELDS = {"prompt": "a", "image_base64": IMAGE}
HEADERS = {"Authorization": "Bearer my-key"}


class GuideClient:
    """What the integration guide tells its readers to write, with the base URL as a parameter."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.api_key = api_key

    def generate_video(self, image: str, prompt: str, **fields: Any) -> dict[str, Any]:
        sent = {"width": 528, "height": 768, "length": 81, "steps": 4, "cfg": 1.0, "seed": -1, "fps": 16} | fields
        response = requests.post(
            f"{self.base_url}/runsync",
            headers={"Authorization": f"Bearer {self.api_key}"},
            json={"input": {"prompt": prompt, "image_base64": image, **sent}},
            timeout=600,
        )
        return response.json()

    def poll(self, fields: dict[str, Any], pause_s: float = 0.2) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        response = requests.post(f"{self.base_url}/run", headers=headers, json={"input": fields}, timeout=60)
        job_id = response.json()["id"]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = requests.get(f"{self.base_url}/status/{job_id}", headers=headers, timeout=60).json()
            if status["status"] in ("COMPLETED", "FAILED"):
                return status
            time.sleep(pause_s)
        raise TimeoutError("the job never ended")


@pytest.mark.timeout(180)
def test_guide_client_gets_its_video_both_ways(served):
    served.configure()
    client = GuideClient(served.base_url, "my-key")
    result = client.generate_video(IMAGE, "woman walking in the park")
    assert base64.b64decode(result["output"]["video"]) == (served.folder / "video.mp4").read_bytes()
    assert "error" not in result
    polled = client.poll({"prompt": "a cat", "image_base64": IMAGE})
    assert base64.b64decode(polled["output"]["video"])[4:8] == b"ftyp"


@pytest.mark.timeout(180)
def test_error_is_a_plain_sentence_and_the_worker_lives_on(served):
    served.configure()
    client = GuideClient(served.base_url, "my-key")
    result = client.generate_video(IMAGE, "", width=3)
    assert (result["status"], result["error"]) == ("FAILED", "MISSING_FIELD: prompt is needed (prompt)")
    assert client.poll(FIELDS)["status"] == "COMPLETED"


@pytest.mark.timeout(180)
def test_result_over_the_budget_is_an_error_and_not_a_silent_loss(served):
    served.configure(video=str(served.folder / "large.mp4"))
    (served.folder / "large.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(9_000_000))
    client = GuideClient(served.base_url, "my-key")
    polled = client.poll(FIELDS)
    assert polled["status"] == "FAILED"
    assert polled["error"].startswith("RESULT_TOO_LARGE: the answer would be 12.0 MB and this call carries 10.0 MB")
    result = client.generate_video(IMAGE, "the same fits a sync call")
    assert len(base64.b64decode(result["output"]["video"])) == 9_000_012


@pytest.mark.timeout(180)
def test_two_clients_cancel(served):
    served.configure(faults={"sampling": ["hang", 1]})
    body = {"input": FIELDS}
    ids = [
        requests.post(f"{served.base_url}/run", headers=HEADERS, json=body, timeout=60).json()["id"] for _ in range(2)
    ]
    wait_until_it_hangs(served)
    for job_id in ids:
        body = requests.post(f"{served.base_url}/cancel/{job_id}", headers=HEADERS, timeout=60).json()
        assert body == {"id": job_id, "status": "CANCELLED"}
    client = GuideClient(served.base_url, "my-key")
    assert client.poll(FIELDS)["status"] == "COMPLETED"
    assert [entry[0] for entry in json.loads((served.folder / "run" / "log.json").read_text())] == [
        "delete",
        "interrupt",
    ]


@pytest.mark.timeout(180)
def test_worker_that_asks_for_it_is_replaced(served):
    served.configure(faults={"sampling": ["kill", 2]})
    client = GuideClient(served.base_url, "my-key")
    crashed = client.poll(FIELDS)
    assert (crashed["status"], crashed["error"]) == ("FAILED", "COMFYUI_CRASHED: ComfyUI was ended by SIGKILL")
    assert client.poll(FIELDS)["status"] == "COMPLETED"


@pytest.mark.timeout(180)
def test_job_of_a_worker_that_dies_is_done_by_the_next_one(served):
    served.configure(faults={"sampling": ["hang", 1]})
    first = requests.post(f"{served.base_url}/run", headers=HEADERS, json={"input": FIELDS}, timeout=60).json()["id"]
    wait_until_it_hangs(served)
    served.configure()
    os.kill(worker_pid(served), signal.SIGKILL)
    deadline, body = time.monotonic() + 120, {"status": "IN_PROGRESS"}
    while body["status"] != "COMPLETED" and time.monotonic() < deadline:
        body = requests.get(f"{served.base_url}/status/{first}", headers=HEADERS, timeout=60).json()
        time.sleep(0.2)
    assert base64.b64decode(body["output"]["video"]) == (served.folder / "video.mp4").read_bytes()


def wait_until_it_hangs(served: Served) -> None:
    """Until ComfyUI has met the one fault that was configured."""
    wait_until(lambda: '["hang", 0]' in (served.folder / "run" / "fake.json").read_text())


def worker_pid(served: Served) -> int:
    """The handler: the platform's own child."""
    for pid in descendants(served.process.pid, served.folder):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if (
            int(stat[1]) == served.process.pid
            and b"service.worker.handler" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ):
            return pid
    raise LookupError("no worker runs")


@pytest.mark.timeout(60)
def test_webhook_of_a_host_that_the_operator_trusts(served):
    heard = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Hook) as receiver:
        receiver.timeout = 60
        body = {"input": {"action": "none such"}, "webhook": f"http://127.0.0.1:{receiver.server_port}/"}
        job = requests.post(f"{served.base_url}/run", headers=HEADERS, json=body, timeout=60).json()
        receiver.handle_request()
    assert [(told["id"], told["status"]) for told in heard] == [(job["id"], "FAILED")]


@pytest.mark.timeout(60)
def test_broken_http_leaves_no_traceback_in_the_log(served):
    """Broken in the head, in a body that comes with it, in one that nobody reads, and in one that stays away."""
    url = urlsplit(served.base_url)
    head = f"POST {url.path}/cancel/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer my-key\r\n"
    calls = {
        "BREW / HTTP/1.1\r\n\r\n": 400,
        f"{head}Content-Length: -1\r\n\r\n": 400,
        f"{head}Transfer-Encoding: chunked\r\n\r\nnone\r\n": 400,
        f"{head}Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\nno gzip !": 404,
    }
    for call, status in calls.items():
        with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
            connection.sendall(call.encode())
            assert int(connection.recv(1000).split()[1]) == status, call
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(f"{head.replace('/cancel/x', '/run')}Content-Length: 9\r\n\r\n{{".encode())
        time.sleep(0.3)  # it reads by now
    client = GuideClient(served.base_url, "my-key")
    assert client.poll(FIELDS)["status"] == "COMPLETED"
    assert "Traceback" not in served.log.read_text(errors="replace")


def test_no_job_left_a_file(served):
    served.configure()
    GuideClient(served.base_url, "my-key").poll(FIELDS)
    assert [path for name in ("input", "output") for path in (served.folder / "run" / name).rglob("*")] == []


@pytest.mark.timeout(180)
def test_platform_ends_its_clients_calls_and_leaves_nothing_behind(served):
    """Last in the module: it ends the platform, while a client waits."""
    served.configure(faults={"sampling": ["hang", 1]})
    url = f"{served.base_url}/runsync"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.post, url, headers=HEADERS, json={"input": FIELDS}, timeout=60)
        wait_until_it_hangs(served)
        assert len(descendants(served.process.pid, served.folder)) >= 3
        served.process.terminate()
        answer = waiting.result()
    assert (answer.status_code, answer.json()) == (503, {"error": "the platform is shutting down"})
    assert served.process.wait(30) == 0
    wait_until(lambda: descendants(served.process.pid, served.folder) == [])
    assert list(served.folder.glob("wan_relay_platform_*")) == []
