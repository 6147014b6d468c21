"""Calls to ComfyUI that are slow, break off or fail: what a job needs is waited for, what only helps fails no job."""

import asyncio
import os
import signal

import pytest
from wan_relay.service.worker.comfyui import client

NEEDED = ("POST /upload/image", "POST /prompt", "GET /history/{prompt_id}", "GET /queue")
ADVISORY = ("GET /ws", "GET /wan_relay/schedule", "POST /history")


def test_comfyui_that_is_silent_for_a_while_only(bench, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE_S", 0.1)
    monkeypatch.setattr(client, "ADVICE_S", 0.1)
    bench.configure(faults={"sampling": ["stop", 1]})

    async def revived() -> dict:
        answer = asyncio.create_task(bench.worker.answer(bench.job()))
        while not bench.is_stopped():
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        assert not answer.done()
        os.kill(bench.worker.process.pid, signal.SIGCONT)
        return await answer

    assert bench.play(revived())["video"]
    assert bench.worker.process.starts == 1


@pytest.mark.parametrize(("fault", "times"), [("slow:0.8", 99), ("refused", 1), ("lost", 1)])
@pytest.mark.parametrize("call", NEEDED)
def test_needed_call_is_waited_for_and_made_again(bench, monkeypatch, call, fault, times):
    for name in ("PATIENCE_S", "ADVICE_S"):
        monkeypatch.setattr(client, name, 0.1)
    bench.configure(faults={call: [fault, times]}, step_s=0.3)
    [answer] = bench.answer(bench.job())
    assert "error" not in answer
    assert bench.noted(call)
    assert len(bench.noted("prompt")) == 1, "queued once, also if the connection broke before or after it was heard"
    assert bench.worker.process.starts == 1
    assert bench.left_files() == []


@pytest.mark.parametrize("fault", ["slow:100", "refused", "status:500"])
@pytest.mark.parametrize("call", ADVISORY)
def test_call_that_only_helps_fails_no_job(bench, monkeypatch, call, fault):
    monkeypatch.setattr(client, "ADVICE_S", 0.3)
    bench.configure(faults={call: [fault, 1]})
    [answer] = bench.answer(bench.job(switch="boundary"))
    assert "error" not in answer
    assert bench.noted(call)
    assert bench.worker.process.starts == 1
    assert bench.left_files() == []


@pytest.mark.parametrize("fault", ["slow:100", "refused", "status:500"])
def test_memory_that_cannot_be_freed_changes_no_answer(bench, monkeypatch, fault):
    monkeypatch.setattr(client, "ADVICE_S", 0.3)
    bench.configure(faults={"POST /free": [fault, 1], "sampling": ["error:torch.OutOfMemoryError:m", 1]})
    full, after = bench.answer(bench.job(), bench.job())
    assert full == {
        "error": "OUT_OF_MEMORY: 64 x 64 x 81 does not fit the GPU; lower the size or the length "
        "(node Wan Relay: Sample)"
    }
    assert after["video"]


def test_ping_waits_for_a_slow_answer_too(bench, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE_S", 0.1)
    bench.configure(faults={"GET /system_stats": ["slow:1", 1], "GET /object_info/{name}": ["refused", 1]})
    [answer] = bench.answer({"id": "1", "input": {"action": "ping"}})
    assert answer["status"] == "ready"
    bench.configure(faults={"GET /system_stats": ["status:500", 1]})
    [answer] = bench.answer({"id": "1", "input": {"action": "ping"}})
    assert answer == {
        "error": "COMFYUI_UNAVAILABLE: ComfyUI cannot tell the state of its machine (HTTP 500)",
        "refresh_worker": True,
    }
