"""The script for folders of images: against the local platform's API, and a server that does batches as documented."""

import asyncio
import base64
import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from wan_relay.service.local_runpod.jobs import Job
from wan_relay.service.worker.examples import folder_to_videos as script
from wan_relay.tests.service.local_runpod.platform_calls import WIDE, Api, play
from wan_relay.tests.service.worker.conftest import make_mp4, png

VIDEO = make_mp4()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.JPG", "c.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "b.txt").write_text("pan right\n")
    (tmp_path / "notes.md").write_text("no image")
    return tmp_path


def answer_to(given: dict[str, Any]) -> dict[str, Any]:
    """As the worker answers: a video for each seed."""
    base = {"format": "video/mp4", "prompt": given["prompt"]}
    video = base64.b64encode(VIDEO).decode()
    if "seeds" in given:
        items = [{"seed": seed, "video": video} for seed in given["seeds"][:-1]]
        return base | {"videos": [*items, {"seed": given["seeds"][-1], "error": "TIMEOUT: too late"}]}
    return base | {"seed": given.get("seed", 7), "video": video}


def videos_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in script.VIDEOS or path.suffix == ".part")


class Platform:
    """What the local platform's worker does in a test: `refuses` names prompts that fail."""

    def __init__(self, *refuses: str) -> None:
        self.refuses = refuses
        self.given: list[dict[str, Any]] = []

    async def work(self, api: Api) -> None:
        while True:
            job: Job | None = await api.jobs.take("w", lambda: True)
            if job is None:
                continue
            self.given.append(job.input)
            if job.input["prompt"] in self.refuses:
                job.error = "OUT_OF_MEMORY: it does not fit the GPU"
                await api.jobs.end(job, "FAILED")
            else:
                job.output = answer_to(job.input)
                await api.jobs.end(job, "COMPLETED")

    def run(self, folder: Path, *arguments: str) -> int:
        """The script's exit code."""
        codes: list[int] = []

        async def scenario(api: Api) -> None:
            worker = asyncio.create_task(self.work(api))
            url = f"http://127.0.0.1:{api.port}/v2/local"
            codes.append(await asyncio.to_thread(script.main, [url, str(folder), "--pause", "0.02", *arguments]))
            worker.cancel()

        play(scenario, WIDE)
        return codes[0]


def test_each_image_gets_its_video_and_is_not_asked_for_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    platform = Platform("pan right")
    assert platform.run(folder, "--prompt", "pan left", "--set", "steps=2", "--set", "sizing=match image") == 1
    told = capfd.readouterr()
    assert sorted(told.out.splitlines()) == ["a.png: a.mp4", "c.png: c.mp4"]
    assert told.err == "b.JPG: OUT_OF_MEMORY: it does not fit the GPU\n"
    assert sorted(given["prompt"] for given in platform.given) == ["pan left", "pan left", "pan right"]
    assert {(given["steps"], given["sizing"]) for given in platform.given} == {(2, "match image")}
    assert base64.b64decode(platform.given[0]["image_base64"]) == png()
    assert videos_in(folder) == ["a.mp4", "c.mp4"]
    assert (folder / "a.mp4").read_bytes() == VIDEO

    again = Platform()
    assert again.run(folder, "--prompt", "pan left") == 0
    assert [given["prompt"] for given in again.given] == ["pan right"]
    assert capfd.readouterr().out == "b.JPG: b.mp4\n"


def test_several_seeds_are_several_files_and_a_missing_one_is_said(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Platform().run(folder, "--prompt", "x", "--set", "seeds=[4, 5, 6]") == 1
    assert videos_in(folder) == [f"{name}.{seed}.mp4" for name in "abc" for seed in (4, 5)]
    assert sorted(capfd.readouterr().err.splitlines()) == [
        f"{name}: TIMEOUT: too late" for name in ("a.png", "b.JPG", "c.png")
    ]


def test_an_image_without_words_and_a_file_too_large_are_one_sentence_each(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "c.txt").write_text("pan left")
    (folder / "c.png").write_bytes(bytes(8_000_000))
    assert Platform().run(folder) == 1
    assert capfd.readouterr().err.splitlines() == [
        "a.png: there is no a.txt beside it, and no --prompt",
        "c.png: the image has 10.7 MB as base64, and RunPod takes 10 MB: make it smaller",
    ]
    assert videos_in(folder) == ["b.mp4"]


def test_a_job_that_is_on_its_way_is_waited_for(folder: Path) -> None:
    """The script was ended after it had sent a.png; of what RunPod has forgotten it sends another."""
    platform = Platform()

    async def scenario(api: Api) -> None:
        _, sent = await api.call("POST", "/run", {"input": {"prompt": "sent before"}})
        lines = [{"image": "a.png", "job": sent["id"]}, {"image": "c.png", "job": "long-gone"}]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"image": "b.'
        (folder / script.JOURNAL).write_text(text + "\n")
        worker = asyncio.create_task(platform.work(api))
        arguments = [f"http://127.0.0.1:{api.port}/v2/local", str(folder), "--pause", "0.02", "--prompt", "x"]
        assert await asyncio.to_thread(script.main, arguments) == 0
        worker.cancel()

    play(scenario, WIDE)
    assert sorted(given["prompt"] for given in platform.given) == ["pan right", "sent before", "x"]
    assert videos_in(folder) == ["a.mp4", "b.mp4", "c.mp4"]
    assert script.Journal(folder / script.JOURNAL).jobs == {}


def test_an_endpoint_that_is_not_there_and_a_wrong_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "TRIES", 1)
    assert script.main(["http://127.0.0.1:9/v2/local", str(folder), "--prompt", "x"]) == 1
    assert capfd.readouterr().err.splitlines()[0] == "a.png: no answer came: [Errno 111] Connection refused"
    with batches(key="other") as server:
        assert script.main([server.url, str(folder), "--prompt", "x", "--batch"]) == 1
    assert capfd.readouterr().err == "stopped: HTTP 401: the key is not the endpoint's\n"


def test_requests_as_lines(folder: Path) -> None:
    assert script.main(["http://unused", str(folder), "--prompt", "x", "--jsonl", str(folder / "r.jsonl")]) == 0
    lines = [json.loads(line)["input"] for line in (folder / "r.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["x", "pan right", "x"]
    assert all(base64.b64decode(line["image_base64"]) == png() for line in lines)


class Batches(BaseHTTPRequestHandler):
    """RunPod's batch jobs as documentation has them: results in any order, and without the requests."""

    key = ""
    requests: list[dict[str, Any]]
    finalized: bool
    url: str
    looks: int

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: Any, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _is_let_in(self) -> bool:
        if self.key and self.headers["Authorization"] != f"Bearer {self.key}":
            self._answer({"error": "no"}, 401)
            return False
        return True

    def do_POST(self) -> None:
        own, path = type(self), urlsplit(self.path).path
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "null")
        if not self._is_let_in():
            return
        if path == "/batch":
            assert body == []
            self._answer({"id": "b1", "status": "DRAFT"})
        elif path == "/batch/b1/requests":
            own.requests.extend(body["requests"])
            self._answer({})
        else:
            assert path == "/batch/b1/finalize"
            own.finalized = True
            self._answer({"id": "b1", "status": "FINALIZED"})

    def do_GET(self) -> None:
        assert self.finalized
        own, parts = type(self), urlsplit(self.path)
        if parts.path == "/batch/b1":
            own.looks += 1
            ended = 0 if own.looks == 1 else len(own.requests)
            self._answer(
                {
                    "status": "FINALIZED",
                    "requestTotal": len(own.requests),
                    "requestCompleted": ended,
                    "requestFailed": 0,
                }
            )
            return
        query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
        results = [self._result(request["input"]) for request in reversed(own.requests)]
        page = results[query["offset"] : query["offset"] + query["limit"]]
        self._answer({"requests": page, "hasMore": query["offset"] + len(page) < len(results)})

    def _result(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["prompt"] == "pan right":
            return {"id": "r", "status": "FAILED", "error": "OUT_OF_MEMORY: it does not fit the GPU"}
        return {"id": "r", "status": "COMPLETED", "output": answer_to(given)}


@contextlib.contextmanager
def batches(key: str = "") -> Iterator[type[Batches]]:
    handler: Any = type("Handler", (Batches,), {"key": key, "requests": [], "finalized": False, "looks": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


def test_a_batch_gives_each_image_its_own_video(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "PAGE", 2)
    monkeypatch.setattr(script, "MAX_CALL", 2500)  # two calls
    with batches() as server:
        assert script.main([server.url, str(folder), "--prompt", "x", "--batch", "--pause", "0.01"]) == 1
        seeds = [request["input"]["seed"] for request in server.requests]
        assert len(set(seeds)) == 3
    told = capfd.readouterr()
    assert told.out.splitlines() == [
        "0 of 3 requests of batch b1 have ended",
        "c.png: c.mp4",
        "a request ended as FAILED: OUT_OF_MEMORY: it does not fit the GPU",
        "a.png: a.mp4",
    ]
    assert told.err == "b.JPG: no video came of the batch; run this again to send it once more\n"
    assert script.Journal(folder / script.JOURNAL).batch == {}


def test_a_batch_that_is_on_its_way_is_not_sent_again(folder: Path) -> None:
    with batches() as server:
        shutil.copy(folder / "a.png", folder / "d.png")
        server.requests.extend({"input": {"prompt": "x", "seed": seed}} for seed in (1, 2))
        server.finalized = True
        entry = {"batch": "b1", "seeds": {"a.png": 1, "c.png": 2}}
        (folder / script.JOURNAL).write_text(json.dumps(entry) + "\n")
        assert script.main([server.url, str(folder), "--prompt", "x", "--batch", "--pause", "0.01"]) == 0
        assert len(server.requests) == 2
    assert videos_in(folder) == ["a.mp4", "c.mp4"]


def test_a_batch_needs_the_seed_for_itself(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert script.main(["http://unused", str(folder), "--prompt", "x", "--batch", "--set", "seed=1"]) == 1
    assert capfd.readouterr().err.startswith("stopped: --batch chooses the seed of each image itself")
