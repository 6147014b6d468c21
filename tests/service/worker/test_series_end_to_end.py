"""Two seeds over the real ComfyUI with the toy family, asked for by a Load Balancer endpoint's HTTP."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.local_runpod.worker_process import worker_environment
from wan_relay.service.worker.comfyui.client import Run
from wan_relay.service.worker.job import Worker
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.worker.conftest import Bench
from wan_relay.tests.service.worker.load_balancer.test_http_face import Caller, events_in, play
from wan_relay.tools.toy_workflows import TOY_FILES

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


def test_the_second_seed_costs_its_steps_alone(
    tmp_path: Path, toy_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN_RELAY_TOY_MODELS", str(toy_models))
    monkeypatch.setenv("WAN_RELAY_MODEL_FILES", json.dumps(TOY_FILES))
    variables = worker_environment("http://127.0.0.1:9", tmp_path) | {"WAN_RELAY_BOOT_TIMEOUT_S": "400"}
    settings = Settings.from_environment(variables)
    cached: list[set[str]] = []
    checked = Run._checked

    def noted(run: Run, entry: dict[str, Any]) -> dict[str, Any]:
        nodes = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
        cached.append({run._graph[node]["class_type"] for node in nodes})
        return checked(run, entry)

    monkeypatch.setattr(Run, "_checked", noted)
    bench = Bench(tmp_path, settings, Worker(settings, lambda *_: None), [])

    async def scenario(caller: Caller) -> None:
        await caller.ready()
        fields = {"prompt": "pan left", "length": 5, "steps": 2}
        status, _, body = await caller.post("text/event-stream", seeds=[1, 2], **fields)
        assert status == 200
        (_, accepted), *_, (end, result) = events_in(body)
        assert accepted["deadline_s"] == 570
        assert end == "result", result
        one, two = (base64.b64decode(video["video"]) for video in result["output"]["videos"])
        assert one[4:8] == two[4:8] == b"ftyp"
        assert one != two
        assert (await caller.post("video/mp4", seed=1, **fields))[2] == one

    try:
        play(bench, scenario, 560)
    finally:
        bench.worker.stop()
    assert cached[0] == set()
    before_the_sampler = {"LoadImage", "VAELoader", "WanRelay_EncodePrompts", "WanRelay_LoadExperts"}
    assert cached[1] == before_the_sampler | {"WanRelay_PrepareLatent"}
    assert bench.left_files() == []
