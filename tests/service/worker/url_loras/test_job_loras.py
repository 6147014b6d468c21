"""The LoRAs of jobs from real servers: once each, whole or not at all, and one sentence for whatever goes wrong."""

import asyncio
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from aiohttp import web
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.lora_request import lora_requests
from wan_relay.service.contract.video_answer import SegmentLora, SegmentUse, Timings, VideoAnswer
from wan_relay.service.contract.video_request import parse_request
from wan_relay.service.worker.url_loras import download as download_module
from wan_relay.service.worker.url_loras.access import LoraAccess
from wan_relay.service.worker.url_loras.cache import LoraCache
from wan_relay.service.worker.url_loras.job_loras import JobLoras
from wan_relay.tests.service.worker.url_loras.lora_server import LoraServer, lora, lora_server, sha256

A, B = lora(1), lora(2)
ANSWER = VideoAnswer(
    seed=7, width=8, height=8, length=9, fps=16, duration=1, workflow="w", format="f", warnings=[], timings=Timings()
)
HIGH = "high in loras item 1"


def job(access: LoraAccess, folder: Path, *items: dict[str, Any], cap: int = 10**9, begun: Any = None) -> JobLoras:
    told = begun if begun is not None else []
    return JobLoras(lora_requests(list(items)), access, LoraCache(folder, cap), lambda: told.append(1))


async def outcome(loras: JobLoras) -> str:
    """The refusal, or nothing."""
    try:
        await loras.fetch()
        return ""
    except JobError as error:
        return str(error)
    finally:
        loras.release()


def left(folder: Path) -> dict[str, int]:
    return {name: len(list((folder / name).iterdir())) for name in ("files", "urls", "partial")}


def play(work: Callable[[LoraServer], Any], **files: bytes) -> None:
    async def main() -> None:
        async with lora_server(**files) as server:
            await work(server)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_each_url_becomes_a_name_that_comfyui_lists(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        a, b, begun = server.url("/a.safetensors"), server.url("/b.safetensors"), list[int]()
        items = [{"high": a, "low": "own.safetensors", "high_strength": 0.5}, {"high": b, "low": a}]
        loras = job(server.access(), tmp_path, *items, begun=begun)
        await loras.fetch()
        names = {content: f"{sha256(content)}.safetensors" for content in (A, B)}
        assert [lora.model_dump() for lora in loras.named] == [
            {"high": names[A], "low": "own.safetensors", "high_strength": 0.5, "low_strength": 1.0},
            {"high": names[B], "low": names[A], "high_strength": 1.0, "low_strength": 1.0},
        ]
        assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == {
            name: content for content, name in names.items()
        }
        assert server.sent == {"/a.safetensors": 1, "/b.safetensors": 1}, "one that two experts want comes once"
        assert len(begun) == 2
        assert loras.in_words(f"2 keys of {names[B]} match nothing") == "2 keys of b.safetensors match nothing"
        loras.release()
        assert left(tmp_path) == {"files": 2, "urls": 2, "partial": 0}

    play(work, a=A, b=B)


def test_tags_in_prompts_of_segments_name_a_file_by_its_name_at_the_url(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        high, low, nameless = (server.url(path) for path in ("/Pan_high.safetensors", "/Pan_low.safetensors", "/c"))
        server.files["/c"] = lora(3)
        loras = job(
            server.access(), tmp_path, {"high": high, "low": low}, {"high": "f/zoom_v2.safetensors", "low": nameless}
        )
        a, b = (f"{sha256(content)}.safetensors" for content in (A, B))
        tags = {
            "she <lora:pan_high:0.8> turns": f"she <lora:{a}:0.8> turns",
            "<LoRA: PAN_LOW.safetensors :0.8:0.5>": f"<LoRA:{b}:0.8:0.5>",
            "<lora:pan>, <lora:an_l>": f"<lora:{a}>, <lora:{b}>",
            "<lora:zoom_v2>": "<lora:zoom_v2>",
            "<lora:_:1>": "<lora:_:1>",
            "<lora:>": "<lora:>",
            "<lora:other> pan <lora:f/zoom_v2:0>": "<lora:other> pan <lora:f/zoom_v2:0>",
        }
        segments = [{"prompt": prompt} for prompt in tags]
        await loras.fetch()
        named = loras.with_file_names(parse_request({"prompt": "p", "image_url": high, "segments": segments})[0])
        assert [segment.prompt for segment in named.segments or ()] == list(tags.values())
        assert named.loras == loras.named
        names = [SegmentLora(name=name, high_noise_strength=1, low_noise_strength=0) for name in (a, "zoom_v2")]
        used = [SegmentUse(length=81, seed=7, loras=names), SegmentUse(length=81, seed=8)]
        answer = loras.answer_in_words(ANSWER.model_copy(update={"segments": used, "warnings": [f"{b} is large"]}))
        assert [[lora.name for lora in segment.loras or ()] for segment in answer.segments or ()] == [
            ["Pan_high.safetensors", "zoom_v2"],
            [],
        ]
        assert answer.warnings == ["Pan_low.safetensors is large"]
        assert loras.with_file_names(parse_request({"prompt": "p", "image_url": high})[0]).segments is None
        loras.release()

    play(work, Pan_high=A, Pan_low=B)


def test_a_second_job_asks_and_downloads_nothing(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        item, begun = {"high": server.url("/a.safetensors")}, list[int]()
        for _ in range(3):
            assert await outcome(job(server.access(), tmp_path, item, begun=begun)) == ""
        assert len(server.asked) == 3
        assert server.sent == {"/a.safetensors": 1}
        assert len(begun) == 1
        server.files["/a.safetensors"] = B
        changed = job(server.access(), tmp_path, item)
        await changed.fetch()
        assert changed.named[0].high == f"{sha256(B)}.safetensors", "another ETag, another file"
        changed.release()

    play(work, a=A)


def test_a_server_that_ignores_the_condition_is_not_read_again(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        finished: list[int] = []

        async def whole(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"ETag": '"v1"', "Content-Length": str(len(big))})
            await response.prepare(request)
            for start in range(0, len(big), 500_000):
                await response.write(big[start : start + 500_000])
            finished.append(1)
            return response

        big = lora(1, 30_000_000)
        server.answers["/a"] = whole
        for _ in range(2):
            assert await outcome(job(server.access(), tmp_path, {"high": server.url("/a")})) == ""
        assert len(server.asked) == 2
        assert finished == [1]

    play(work)


def test_a_date_marks_a_version_where_there_is_no_etag(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        date, conditions = "Sun, 29 Nov 2026 10:00:00 GMT", list[str | None]()

        def dated(request: web.BaseRequest) -> web.Response:
            conditions.append(request.headers.get("If-Modified-Since"))
            headers = {"Last-Modified": date}
            return web.Response(status=304) if conditions[-1] else web.Response(body=A, headers=headers)

        server.answers["/a"] = dated
        for _ in range(2):
            assert await outcome(job(server.access(), tmp_path, {"high": server.url("/a")})) == ""
        assert conditions == [None, date]

    play(work)


def test_without_a_mark_of_its_version_a_file_comes_again(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        server.has_etags = False
        for _ in range(2):
            assert await outcome(job(server.access(), tmp_path, {"high": server.url("/a.safetensors")})) == ""
        assert server.sent == {"/a.safetensors": 2}
        assert left(tmp_path) == {"files": 1, "urls": 1, "partial": 0}

    play(work, a=A)


@pytest.mark.parametrize("how", ["away", "busy"])
def test_a_server_that_is_away_gives_what_it_gave_before(tmp_path: Path, how: str) -> None:
    async def work(server: LoraServer) -> None:
        access, item = server.access(), {"high": server.url("/a.safetensors")}
        assert await outcome(job(access, tmp_path, item)) == ""
        server.answers["/a.safetensors"] = lambda request: (
            web.Response(status=503) if how == "busy" else request.transport.abort()
        )
        loras = job(access, tmp_path, item)
        await loras.fetch()
        assert loras.named[0].high == f"{sha256(A)}.safetensors"
        loras.release()
        what = (
            f"the server of {HIGH} answered HTTP 503" if how == "busy" else f"the server of {HIGH} could not be reached"
        )
        assert loras.warnings == [f"{what}; the file that it led to before was used"]
        server.answers["/a.safetensors"] = lambda request: web.Response(status=404)
        assert await outcome(job(access, tmp_path, item)) == (
            f"DOWNLOAD_FAILED: the server of {HIGH} answered HTTP 404 (loras)"
        )

    play(work, a=A)


def page(body: bytes, **headers: str) -> Callable[[web.BaseRequest], web.Response]:
    return lambda request: web.Response(body=body, headers=headers)


def redirect(to: str) -> Callable[[web.BaseRequest], web.Response]:
    return lambda request: web.Response(status=302, headers={"Location": to})


def cut(request: web.BaseRequest) -> Any:
    async def answer() -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(A))})
        await response.prepare(request)
        await response.write(A[:2000])
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer()


def endless(request: web.BaseRequest) -> Any:
    """Its header asks for little and its bytes never end, or its header asks for more than the cap."""

    async def answer() -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(lora(1, 50_000_000)[:200] if request.path == "/honest" else A)
        while True:
            await response.write(bytes(100_000))

    return answer()


NOT_SAFETENSORS = "and must be a safetensors file (loras)"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            page(b"PK\x03\x04" + bytes(5000)),
            f"INVALID_LORA: {HIGH} is a zip archive or a PyTorch pickle, {NOT_SAFETENSORS}",
        ),
        (page(b"<html>sign in</html>"), f"INVALID_LORA: {HIGH} is a web page, perhaps a login page, {NOT_SAFETENSORS}"),
        (page(struct.pack("<Q", 2**62) + bytes(99)), f"INVALID_LORA: {HIGH} must be a safetensors file (loras)"),
        (page(A[:-1]), f"INVALID_LORA: {HIGH} is cut short (loras)"),
        (page(A + b"x"), f"INVALID_LORA: {HIGH} has bytes after its last tensor (loras)"),
        (page(b""), f"INVALID_LORA: {HIGH} is cut short (loras)"),
        (page(lora(1, 3_000_000)), f"INVALID_LORA: {HIGH} is larger than 2 MB (loras)"),
        (endless, f"INVALID_LORA: {HIGH} has bytes after its last tensor (loras)"),
        (cut, f"DOWNLOAD_FAILED: the download of {HIGH} was cut off (loras)"),
        (
            lambda request: request.transport.abort(),
            f"DOWNLOAD_FAILED: the server of {HIGH} could not be reached (loras)",
        ),
        (lambda request: web.Response(status=401), f"DOWNLOAD_FAILED: the server of {HIGH} answered HTTP 401 (loras)"),
        (lambda request: web.Response(status=304), f"DOWNLOAD_FAILED: the server of {HIGH} answered HTTP 304 (loras)"),
        (
            page(A, **{"Content-Encoding": "gzip"}),
            f"DOWNLOAD_FAILED: the server of {HIGH} sent a compressed body (loras)",
        ),
        (redirect("/a"), f"DOWNLOAD_FAILED: {HIGH} redirects more than 5 times (loras)"),
        (redirect("http://10.0.0.1/a"), f"INVALID_URL: the redirect of {HIGH} must be an https URL (loras)"),
        (redirect("https://10.0.0.1/a"), f"BLOCKED_URL: the host of {HIGH} is not allowed (loras)"),
        (redirect("https://169.254.169.254/latest/"), f"BLOCKED_URL: the host of {HIGH} is not allowed (loras)"),
        (redirect("https://[::1]:8188/"), f"BLOCKED_URL: the host of {HIGH} is not allowed (loras)"),
        (redirect("file:///etc/passwd"), f"INVALID_URL: the redirect of {HIGH} must be an http or https URL (loras)"),
        (
            redirect("https://me:secret@example.com/"),
            f"BLOCKED_URL: the redirect of {HIGH} must not carry a user name or password (loras)",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(tmp_path: Path, answer: Any, sentence: str) -> None:
    async def work(server: LoraServer) -> None:
        server.answers["/a"] = answer
        loras = job(server.access(max_bytes=2_000_000), tmp_path, {"high": server.url("/a")})
        assert await outcome(loras) == sentence
        assert left(tmp_path) == {"files": 0, "urls": 0, "partial": 0}

    play(work)


def test_a_header_that_asks_for_more_than_the_cap_ends_the_download(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        server.answers["/honest"] = endless
        loras = job(server.access(max_bytes=2_000_000), tmp_path, {"high": server.url("/honest")})
        assert await outcome(loras) == f"INVALID_LORA: {HIGH} is larger than 2 MB (loras)"

    play(work)


@pytest.mark.parametrize("ends_by", ["time", "silence", "cancel"])
def test_a_download_that_does_not_end_is_ended(tmp_path: Path, ends_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(server: LoraServer) -> None:
        arrived = asyncio.Event()

        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"ETag": "v"})
            await response.prepare(request)
            await response.write(A[:1000])
            arrived.set()
            for byte in A[1000:]:
                await asyncio.sleep(30 if ends_by == "silence" else 0.02)
                await response.write(bytes([byte]))
            return response

        if ends_by == "silence":
            monkeypatch.setattr(download_module, "SILENCE_S", 0.3)
        server.answers["/a"] = slow
        access = server.access(timeout_s=2 if ends_by == "time" else 50)
        task = asyncio.create_task(outcome(job(access, tmp_path, {"high": server.url("/a")})))
        await arrived.wait()
        if ends_by == "cancel":
            while left(tmp_path)["partial"] == 0:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            what = f"{HIGH} was not downloaded within 2 s" if ends_by == "time" else f"the server of {HIGH} fell silent"
            assert await task == f"DOWNLOAD_TIMEOUT: {what} (loras)"
        assert left(tmp_path) == {"files": 0, "urls": 0, "partial": 0}

    play(work)


def test_two_jobs_that_want_one_url_download_it_once(tmp_path: Path) -> None:
    """As two workers on one volume would."""

    async def work(server: LoraServer) -> None:
        jobs = [job(server.access(), tmp_path, {"high": server.url("/a.safetensors")}) for _ in range(3)]
        await asyncio.gather(*(loras.fetch() for loras in jobs))
        assert {loras.named[0].high for loras in jobs} == {f"{sha256(A)}.safetensors"}
        assert server.sent == {"/a.safetensors": 1}
        for loras in jobs:
            loras.release()

    play(work, a=A)


def test_the_cache_makes_room_for_what_comes_and_not_of_what_is_used(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        def wants(*names: str) -> JobLoras:
            items = [{"high": server.url(f"/{name}.safetensors")} for name in names]
            return job(server.access(), tmp_path, *items, cap=2 * len(A))

        def kept() -> set[int]:
            return {path.read_bytes()[-1] for path in (tmp_path / "files").iterdir()}

        for name in "ab":
            assert await outcome(wants(name)) == ""
            await asyncio.sleep(0.02)
        assert kept() == {1, 2}
        running = wants("a")
        await running.fetch()
        await asyncio.sleep(0.02)
        assert await outcome(wants("c")) == ""
        assert kept() == {1, 3}, "b was used longest ago"
        assert await outcome(wants("b", "c")) == ""
        assert kept() == {1, 2} or kept() == {1, 3}, "one job held three, and room was made at its end"
        running.release()

    play(work, a=A, b=B, c=lora(3))


def test_a_token_does_not_follow_a_redirect(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        own, other = (f"127.0.0.1:{port}" for port in server.ports)
        server.answers["/moved"] = redirect("/a")
        server.answers["/a"] = redirect(f"http://{other}/b")
        server.answers["/b"] = redirect(f"http://{own}/c.safetensors")
        access = server.access(tokens={own: "secret", other: "not this one"})
        assert await outcome(job(access, tmp_path, {"high": server.url("/moved")})) == ""
        first, second = server.ports
        assert server.asked == [
            ("/moved", first, "Bearer secret"),
            ("/a", first, "Bearer secret"),
            ("/b", second, None),
            ("/c.safetensors", first, None),
        ]

    play(work, c=A)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    async def work(server: LoraServer) -> None:
        (tmp_path / "file").write_text("")
        loras = job(server.access(), tmp_path / "file" / "loras", {"high": server.url("/a.safetensors")})
        assert await outcome(loras) == ("DISK_FULL: the folder of downloaded LoRAs cannot be written: Not a directory")
        assert server.asked == []

    play(work, a=A)


def test_a_disk_that_is_too_small_is_known_with_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(A) - 1))

    async def work(server: LoraServer) -> None:
        assert await outcome(job(server.access(), tmp_path, {"high": server.url("/a.safetensors")})) == (
            "DISK_FULL: the folder of downloaded LoRAs cannot be written: No space left on device"
        )
        assert left(tmp_path) == {"files": 0, "urls": 0, "partial": 0}

    play(work, a=A)


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def on_a_full_disk(cache: LoraCache) -> Iterator[BinaryIO]:
        with open("/dev/full", "wb", buffering=0) as file:
            yield file

    monkeypatch.setattr(LoraCache, "partial", on_a_full_disk)

    async def work(server: LoraServer) -> None:
        assert await outcome(job(server.access(), tmp_path, {"high": server.url("/a.safetensors")})) == (
            "DISK_FULL: the folder of downloaded LoRAs cannot be written: No space left on device"
        )

    play(work, a=A)
