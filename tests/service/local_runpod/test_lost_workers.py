"""A worker that ends in the middle of a job, and a platform that ends in the middle of a call."""

import asyncio
from typing import Any

import pytest
from wan_relay.service.local_runpod.jobs import Limits
from wan_relay.tests.service.local_runpod.platform_calls import SHORT, Api, play


def test_a_job_of_a_lost_worker_is_the_next_ones_first() -> None:
    async def scenario(api: Api) -> None:
        first, second = [(await api.call("POST", "/run", {"input": number}))[1]["id"] for number in (1, 2)]
        assert (await api.take())["id"] == first
        await api.done(first, {"status": "IN_PROGRESS", "output": {"progress": 0.5}})
        await api.jobs.worker_gone()
        assert await api.call("GET", f"/status/{first}") == (200, {"id": first, "status": "IN_QUEUE"})
        assert await health(api) == {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": 2, "retried": 1}
        assert await api.done(first, {"output": "late"}) == 200
        assert await api.call("GET", f"/status/{first}") == (200, {"id": first, "status": "IN_QUEUE"})
        for job_id in (first, second):
            assert (await api.take())["id"] == job_id
            await api.done(job_id, {"output": job_id})
            _, body = await api.call("GET", f"/status/{job_id}")
            assert (body["status"], body["output"]) == ("COMPLETED", job_id)

    play(scenario)


def test_a_job_that_ends_every_worker_fails() -> None:
    async def scenario(api: Api) -> None:
        job_id = (await api.call("POST", "/run", {"input": 1}))[1]["id"]
        for status in ("IN_QUEUE", "IN_QUEUE", "FAILED"):
            assert (await api.take())["id"] == job_id
            await api.jobs.worker_gone()
            _, body = await api.call("GET", f"/status/{job_id}")
            assert body["status"] == status
        assert body["error"] == "the worker ended 3 times in the middle of this job"
        assert await api.take() is None
        assert (await api.call("POST", f"/retry/{job_id}"))[0] == 200
        await api.take()
        await api.jobs.worker_gone()
        assert (await api.call("GET", f"/status/{job_id}"))[1]["status"] == "IN_QUEUE"

    play(scenario)


def test_only_its_own_jobs_come_back() -> None:
    async def scenario(api: Api) -> None:
        done, cancelled = [(await api.call("POST", "/run", {"input": number}))[1]["id"] for number in (1, 2)]
        await api.take()
        await api.done(done, {"output": 1})
        await api.take()
        await api.call("POST", f"/cancel/{cancelled}")
        await api.jobs.worker_gone()
        statuses = [(await api.call("GET", f"/status/{job_id}"))[1]["status"] for job_id in (done, cancelled)]
        assert statuses == ["COMPLETED", "CANCELLED"]
        async with api.client.get(f"{api.sdk_path}/job-stop/w2") as response:
            assert response.status == 204  # the new worker has nothing to stop
        assert await api.take() is None

    play(scenario)


def test_a_worker_that_dies_while_it_answers_has_not_answered() -> None:
    async def scenario(api: Api) -> None:
        job_id = (await api.call("POST", "/run", {"input": 1}))[1]["id"]
        await api.take()
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"POST {api.sdk_path}/job-done/w1/{job_id}?gpu=x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"output": ')
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        assert (await api.call("GET", f"/status/{job_id}"))[1]["status"] == "IN_PROGRESS"
        await api.jobs.worker_gone()
        assert (await api.take())["id"] == job_id

    play(scenario)


def test_jobs_come_back_in_their_order() -> None:
    async def scenario(api: Api) -> None:
        ids = [(await api.call("POST", "/run", {"input": number}))[1]["id"] for number in range(3)]
        for job_id in ids[:2]:
            assert (await api.take())["id"] == job_id
        await api.jobs.worker_gone()
        assert [(await api.take())["id"] for _ in ids] == ids

    play(scenario)


def test_who_waits_when_the_platform_ends_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ending = (503, {"error": "the platform is shutting down"})

    async def scenario(api: Api) -> None:
        waiting = [asyncio.create_task(api.call("POST", "/runsync", {"input": number})) for number in range(3)]
        taken = await api.take()
        for _ in range(100):
            if (await health(api))["inQueue"] == 2:
                break
            await asyncio.sleep(0.02)
        await api.jobs.close()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [ending] * 3
        for path in ("/run", "/runsync"):
            assert await api.call("POST", path, {"input": 1}) == ending
        assert await api.done(taken["id"], {"output": 1}) == 200
        assert (await api.call("GET", f"/status/{taken['id']}"))[1]["status"] == "COMPLETED"

    play(scenario, Limits(long_poll_s=5))
    assert caplog.records == []


def test_a_finished_call_is_answered_even_then() -> None:
    async def scenario(api: Api) -> None:
        waiting = asyncio.create_task(api.call("POST", "/runsync", {"input": 1}))
        job = await api.take()
        await api.done(job["id"], {"output": 7})
        await api.jobs.close()
        status, body = await waiting
        assert (status, body["status"], body["output"]) == (200, "COMPLETED", 7)

    play(scenario, SHORT)


async def health(api: Api) -> dict[str, Any]:
    jobs: dict[str, Any] = (await api.call("GET", "/health"))[1]["jobs"]
    return jobs
