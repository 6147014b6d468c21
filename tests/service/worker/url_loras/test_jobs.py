"""Jobs whose LoRAs have URLs, over a fake ComfyUI."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from wan_relay.service.worker import video_job
from wan_relay.service.worker.url_loras.cache import LoraCache
from wan_relay.service.worker.workflow import Plan
from wan_relay.tests.service.worker.url_loras.lora_server import LoraServer, lora, lora_server, sha256

A = lora(1)
NAME = f"{sha256(A)}.safetensors"


@pytest.fixture
def lora_bench(make_bench: Any) -> Any:
    """A bench that lets LoRAs of this machine in."""

    def make(**variables: Any) -> Any:
        hosts = {"WAN_RELAY_LORA_HOSTS": "127.0.0.1", "WAN_RELAY_TRUSTED_HOSTS": "127.0.0.1"}
        return make_bench(**{**hosts, **variables})

    return make


def play(bench: Any, work: Callable[[LoraServer], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with lora_server(a=A) as server:
            return await work(server)

    return bench.play(main())


def left(bench: Any) -> dict[str, int]:
    folder = bench.settings.lora_cache_folder
    return {name: len(list((folder / name).iterdir())) for name in ("files", "urls", "partial")}


def endless(arrived: asyncio.Event) -> Callable[[web.BaseRequest], Any]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(A[:1000])
        arrived.set()
        await asyncio.sleep(60)
        return response

    return answer


def test_comfyui_gets_a_name_in_a_folder_that_it_lists(lora_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, plans = lora_bench(), list[Plan]()
    make_plan = video_job.build_plan

    def kept(*arguments: Any) -> Plan:
        plans.append(make_plan(*arguments))
        LoraCache(bench.settings.lora_cache_folder, 1).make_room()  # as another worker might, just now
        return plans[-1]

    monkeypatch.setattr(video_job, "build_plan", kept)

    async def work(server: LoraServer) -> list[dict[str, Any]]:
        item = {"high": server.url("/a.safetensors"), "low": "own.safetensors", "high_strength": 0.5}
        answers = [await bench.worker.answer(bench.job(loras=[item], seed=1)) for _ in range(2)]
        assert server.sent == {"/a.safetensors": 1}
        return answers

    first, _ = play(bench, work)
    assert 0 < first["timings"]["loras_s"] <= first["timings"]["total_s"]
    for plan in plans:
        inputs = plan.graph[plan.node_id("WanRelay_ApplyLoraPair")]["inputs"]
        assert [inputs[f"{expert}_noise_lora"] for expert in ("high", "low")] == [NAME, "own.safetensors"]
        assert inputs["high_noise_strength"] == 0.5
    [high] = [model for model in first["models"] if model["role"] == "high_noise_lora"]
    assert (high["file"], high["sha256"]) == ("a.safetensors", NAME.removesuffix(".safetensors"))
    assert high["bytes"] == (bench.settings.lora_cache_folder / "files" / NAME).stat().st_size
    command = bench.worker.process.command()
    [config] = [word for word in command if word.endswith("model_paths.yaml")]
    assert command[command.index(config) - 1] == "--extra-model-paths-config"
    section = yaml.safe_load(Path(config).read_text())["wan_relay_url_loras"]
    assert section == {"loras": str(bench.settings.lora_cache_folder / "files")}
    assert left(bench) == {"files": 1, "urls": 1, "partial": 0}
    LoraCache(bench.settings.lora_cache_folder, 1).make_room()
    assert left(bench) == {"files": 0, "urls": 1, "partial": 0}, "no job holds it any more"


@pytest.mark.parametrize("hosts", ["", "example.com"])
def test_a_host_that_is_not_allowed_is_known_before_anything_else(make_bench: Any, tmp_path: Any, hosts: str) -> None:
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "main.py").write_text("import time\ntime.sleep(300)\n")
    bench = make_bench(COMFYUI_PATH=tmp_path / "mute", WAN_RELAY_LORA_HOSTS=hosts, WAN_RELAY_TRUSTED_HOSTS="127.0.0.1")

    async def work(server: LoraServer) -> dict[str, Any]:
        fields = {"image_base64": None, "image_url": server.url("/a.png"), "loras": [{"low": server.url("/a")}]}
        answer: dict[str, Any] = await bench.worker.answer(bench.job(**fields))
        assert server.asked == [], "neither for the LoRA nor for the image"
        return answer

    answer = play(bench, work)
    assert answer["error"].startswith("BLOCKED_URL: ")
    assert answer["error"].endswith("(loras)")
    assert ("WAN_RELAY_LORA_HOSTS is empty" in answer["error"]) == (not hosts)
    assert not bench.settings.lora_cache_folder.exists()


def test_a_cancelled_download_leaves_nothing(lora_bench: Any) -> None:
    bench = lora_bench()

    async def work(server: LoraServer) -> dict[str, Any]:
        arrived = asyncio.Event()
        server.answers["/slow"] = endless(arrived)
        task = asyncio.create_task(bench.worker.answer(bench.job(loras=[{"high": server.url("/slow")}])))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left(bench) == {"files": 0, "urls": 0, "partial": 0}
        answer: dict[str, Any] = await bench.worker.answer(bench.job(loras=[{"high": server.url("/a.safetensors")}]))
        return answer

    assert play(bench, work)["video"]
    assert bench.left_files() == []


@pytest.mark.parametrize(("limit", "code"), [("JOB", "TIMEOUT"), ("LORA", "DOWNLOAD_TIMEOUT")])
def test_deadlines_end_a_download(lora_bench: Any, limit: str, code: str) -> None:
    bench = lora_bench(**{f"WAN_RELAY_{limit}_TIMEOUT_S": 3})
    bench.boot()

    async def work(server: LoraServer) -> dict[str, Any]:
        server.answers["/slow"] = endless(asyncio.Event())
        answer: dict[str, Any] = await bench.worker.answer(bench.job(loras=[{"high": server.url("/slow")}]))
        return answer

    assert play(bench, work)["error"].startswith(f"{code}: ")
    assert left(bench) == {"files": 0, "urls": 0, "partial": 0}


def test_a_bad_lora_ends_the_job_before_comfyui_has_it(lora_bench: Any) -> None:
    bench = lora_bench()

    async def work(server: LoraServer) -> dict[str, Any]:
        server.files["/page"] = b"<html>please sign in</html>"
        answer: dict[str, Any] = await bench.worker.answer(bench.job(loras=[{"high": server.url("/page")}]))
        return answer

    assert play(bench, work) == {
        "error": "INVALID_LORA: high in loras item 1 is a web page, perhaps a login page, and must be a safetensors "
        "file (loras)"
    }
    bench.boot()
    assert bench.noted("prompt") == []


def test_comfyui_s_words_about_a_file_have_the_name_at_its_url(lora_bench: Any) -> None:
    bench = lora_bench()
    bench.configure(
        faults={"sampling": [f"error:FileRefused:high_noise_lora - none of the 5 keys of {NAME} fits it", 1]}
    )

    async def work(server: LoraServer) -> dict[str, Any]:
        job = bench.job(loras=[{"high": server.url("/a.safetensors?token=secret")}])
        answer: dict[str, Any] = await bench.worker.answer(job)
        return answer

    error = play(bench, work)["error"]
    assert error.startswith("MODEL_REFUSED: high_noise_lora - none of the 5 keys of a.safetensors fits it")
    assert "secret" not in error
