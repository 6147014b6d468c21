"""What the gateway adds to a task, and how many it bears: `python3 dev.py bench gateway`.

Real processes on this machine: a gateway, kept to one core, and an executor whose backend makes its video at once.
SQLite and PostgreSQL (a real server, from a wheel) in turns.

- latency  POST to the end of the task as `/events` tells it, less what the backend itself took; the second figure is
           the executor alone: put into the queue and fetched from it without a gateway. Median of 30. Goal: the gateway
           adds 30 ms and one poll of the queue (100 ms).
- status   GET of a task's status, 300 a second for 10 s, while 200 clients hold a stream of events. Goal: p99 < 10 ms.
- submits  POSTs on 8 connections, as fast as they are answered, with a picture of 5 kB. Goal: 100 a second.
- memory   of the gateway with 1,000 tasks waiting (VmRSS). Goal: under 200 MB.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from ..tests.service.gateway.postgres import Postgres
from ..tests.service.gateway.stand import PICTURE, Stand
from . import in_fresh_process, memory_mb

LATENCIES = 30
RATE = 300
STATUS_S = 10
WATCHERS = 200
QUEUED = 1000
CONNECTIONS = 8
NOISE = (
    "data:image/png;base64,"
    + base64.b64encode(
        base64.b64decode(PICTURE.partition(",")[2]) + random.Random(0).randbytes(5000)  # bytes after a PNG's end
    ).decode()
)


@contextlib.contextmanager
def stand_of(kind: str) -> Iterator[Stand]:
    """A folder for SQLite or a database of a server of its own; no process yet."""
    with tempfile.TemporaryDirectory(prefix="wr-bench-") as folder, contextlib.ExitStack() as stack:
        settings = {"WAN_RELAY_TRUSTED_HOSTS": "127.0.0.1"}
        if kind == "PostgreSQL":
            server = Postgres()
            stack.callback(server.close)
            settings["WAN_RELAY_DATABASE"] = server.new_database()
        stand = Stand(Path(folder), **settings)
        stack.callback(stand.close)
        yield stand


def keep_to_one_core(pid: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {0})


def body(prompt: str, picture: str = PICTURE) -> dict[str, Any]:
    return {"prompt": prompt, "image_url": picture, "resolution": "480p"}


async def latency(session: aiohttp.ClientSession) -> list[float]:
    """Seconds from a POST to the news of its end."""
    taken = []
    for number in range(LATENCIES + 1):
        started = time.perf_counter()
        async with session.post("/api/v1/videos", json=body(f"latency {number}")) as answer:
            video_id = (await answer.json())["id"]
        async with session.get(f"/api/v1/videos/{video_id}/events") as answer:
            async for line in answer.content:
                if line.startswith(b"event: succeeded"):
                    break
        taken.append(time.perf_counter() - started)
    return taken[1:]


async def submits(session: aiohttp.ClientSession, number: int) -> float:
    """A second, as many connections at a time as CONNECTIONS."""
    left = iter(range(number))

    async def client() -> None:
        for index in left:
            async with session.post("/api/v1/videos", json=body(f"wait {index}", NOISE)) as answer:
                assert answer.status == 202, await answer.text()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return number / (time.perf_counter() - started)


async def statuses(session: aiohttp.ClientSession, ids: list[str]) -> list[float]:
    """Seconds of each read, from the moment at which it was due."""
    draw = random.Random(0)
    taken: list[float] = []

    async def watch(video_id: str) -> None:
        async with session.get(f"/api/v1/videos/{video_id}/events") as answer:
            async for _ in answer.content:
                pass

    async def read(due: float) -> None:
        async with session.get(f"/api/v1/videos/{draw.choice(ids)}") as answer:
            assert answer.status == 200
            await answer.read()
        taken.append(time.perf_counter() - due)

    watchers = [asyncio.create_task(watch(draw.choice(ids))) for _ in range(WATCHERS)]
    await asyncio.sleep(2)
    start, reads = time.perf_counter(), []
    for number in range(RATE * STATUS_S):
        due = start + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        reads.append(asyncio.create_task(read(time.perf_counter())))
    await asyncio.gather(*reads)
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    return taken


async def measured(stand: Stand) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stand.url, connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
        pid = stand.gateway.pid
        keep_to_one_core(pid)
        found: dict[str, Any] = {"idle_mb": memory_mb("VmRSS", pid)}
        executor = stand.start_executor()
        found["latency_s"] = statistics.median(await latency(session))
        executor.terminate()
        executor.wait()
        found["submits_s"] = await submits(session, QUEUED)
        found["queued_mb"] = memory_mb("VmRSS", pid)
        async with session.get("/api/v1/videos?limit=100") as answer:
            ids = [video["id"] for video in (await answer.json())["videos"]]
        reads = sorted(await statuses(session, ids))
        found |= {"p50_s": reads[len(reads) // 2], "p99_s": reads[len(reads) * 99 // 100], "worst_s": reads[-1]}
    return found


def alone(kind: str) -> float:
    """Seconds from the queue to its end by the executor alone: no HTTP, no picture's way through the store."""
    with stand_of(kind) as stand:
        stand.start_gateway()  # makes the tables
        stand.gateway.terminate()
        stand.gateway.wait()
        stand.start_executor()
        variables = {name: value for name, value in stand.variables.items() if name.startswith("WAN_RELAY")}
        return float(in_fresh_process("gateway", "alone", **variables))


async def queue_alone() -> float:
    from ..service.gateway.engine import Engine
    from ..service.tasks.database import database_url
    from ..service.tasks.names import LOCAL_QUEUE
    from ..service.tasks.task import Order

    engine = Engine(database_url(os.environ["WAN_RELAY_DATABASE"]), "bench", LOCAL_QUEUE)
    await asyncio.to_thread(engine.launch)
    taken = []
    request = {"prompt": "alone", "workflow": "wan22_t2v_4step", "resolution": "480p", "seed": 1}
    fields = {"dialect": "api", "owner": "bench", "request": request, "retention_s": 60}
    for number in range(LATENCIES + 1):
        started = time.perf_counter()
        order = Order.model_validate(fields)
        await engine.submit(f"bench-{number}", order, is_held=False)
        while (await engine.get([f"bench-{number}"]))[0].state != "succeeded":
            await asyncio.sleep(0.005)
        taken.append(time.perf_counter() - started)
    engine.close()
    return statistics.median(taken[1:])


def main() -> None:
    print(f"{'':12}{'SQLite':>14}{'PostgreSQL':>14}   goal")
    columns = []
    for kind in ("SQLite", "PostgreSQL"):
        queue_s = alone(kind)
        with stand_of(kind) as stand:
            stand.start_gateway()
            columns.append(asyncio.run(measured(stand)) | {"alone_s": queue_s})
    rows = {
        "task, ms": (lambda c: f"{c['latency_s'] * 1e3:.0f}", ""),
        "alone, ms": (lambda c: f"{c['alone_s'] * 1e3:.0f}", ""),
        "added, ms": (lambda c: f"{(c['latency_s'] - c['alone_s']) * 1e3:.0f}", "30 + a poll of 100"),
        "submits/s": (lambda c: f"{c['submits_s']:.0f}", "100"),
        "status p50": (lambda c: f"{c['p50_s'] * 1e3:.1f} ms", ""),
        "status p99": (lambda c: f"{c['p99_s'] * 1e3:.1f} ms", "10 ms"),
        "worst": (lambda c: f"{c['worst_s'] * 1e3:.0f} ms", ""),
        "idle, MB": (lambda c: f"{c['idle_mb']:.0f}", ""),
        "1000, MB": (lambda c: f"{c['queued_mb']:.0f}", "200"),
    }
    for name, (cell, goal) in rows.items():
        print(f"{name:12}{cell(columns[0]):>14}{cell(columns[1]):>14}   {goal}")


if __name__ == "__main__":
    if sys.argv[1:] == ["alone"]:
        print(json.dumps(asyncio.run(queue_alone())))
    else:
        main()
