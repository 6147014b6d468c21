"""2,000 bodies through each dialect's submit path: HTTP, parsing, the desk, the store; the queue alone is a list."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from wan_relay.service.gateway.board import Board
from wan_relay.service.gateway.desk import Desk
from wan_relay.service.gateway.dialects import cerebrium, fal, modelverse, openai, replicate, runpod, runway
from wan_relay.service.gateway.files import FileLinks
from wan_relay.service.gateway.http import RETRY_HEADERS, dialect_app
from wan_relay.service.gateway.keys import ANYBODY
from wan_relay.service.gateway.prompt_expander import PromptExpander
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.signed_paths import PathSigner
from wan_relay.service.tasks.task import Order, Task
from wan_relay.tests.service.gateway.dialects.fuzz import RAW, bodies, leaks
from wan_relay.tests.service.gateway.stand import PICTURE

SMALL = {"prompt": "x", "width": 64, "height": 64, "seed": 1}
GOOD: dict[str, tuple[Any, str, dict[str, Any], tuple[int, ...]]] = {
    "runpod": (
        runpod,
        "/ep/run",
        {
            "input": {**SMALL, "image_base64": PICTURE, "fps": 16},
            "policy": {"ttl": 20_000},
            "webhook": "http://x.example",
        },
        (200, 400),
    ),
    "cerebrium": (
        cerebrium,
        "/p/a/predict?async=true&webhookEndpoint=http://x.example",
        {**SMALL, "num_frames": 25, "guidance_scale": 5.0, "image_base64": PICTURE},
        (202, 400),
    ),
    "modelverse": (
        modelverse,
        "/tasks/submit",
        {
            "model": "Wan-AI/Wan2.2-I2V",
            "input": {"first_frame_url": PICTURE, "last_frame_url": PICTURE, "prompt": "x"},
            "parameters": {"resolution": "480P", "duration": 5, "seed": 1},
        },
        (200, 400),
    ),
    "fal": (
        fal,
        "/queue/fal-ai/wan/v2.2-a14b/image-to-video",
        {"prompt": "x", "image_url": PICTURE, "num_frames": 17, "shift": 5.0, "resolution": "480p", "seed": 1},
        (200, 422),
    ),
    "replicate": (
        replicate,
        "/v1/models/wan-video/wan-2.2-i2v-fast/predictions",
        {
            "input": {"prompt": "x", "image": PICTURE, "num_frames": 81, "go_fast": True, "seed": 1},
            "webhook": "http://x.example",
            "webhook_events_filter": ["completed"],
        },
        (201, 400, 422),
    ),
    "runway": (
        runway,
        "/v1/image_to_video",
        {
            "model": "gen4_turbo",
            "promptImage": [{"uri": PICTURE, "position": "first"}],
            "promptText": "x",
            "ratio": "1280:720",
            "duration": 5,
            "contentModeration": {"publicFigureThreshold": "auto"},
        },
        (200, 400),
    ),
    "openai": (
        openai,
        "/videos",
        {"prompt": "x", "input_reference": {"image_url": PICTURE}, "size": "64x64", "seconds": "4", "seed": 1},
        (200, 400),
    ),
}
VERSION = {"X-Runway-Version": "2024-11-06"}  # which all but Runway ignore


class ListQueue:
    """In the engine's place."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    async def submit(self, task_id: str, order: Order, **_: Any) -> None:
        stored = Order.model_validate(json.loads(order.model_dump_json()))
        stored.video_request(**dict.fromkeys(stored.pictures, "AAAA"))
        self.tasks[task_id] = Task(id=task_id, state="queued", order=stored, created_at_s=time.time())

    async def get(self, task_ids: Sequence[str]) -> list[Task]:
        return [self.tasks[task_id] for task_id in task_ids if task_id in self.tasks]


class AnyKey:
    def caller(self, _: str | None) -> Any:
        return ANYBODY


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Cut, or with a byte that does not belong."""
    at = chance.randrange(len(content))
    return content[:at] if chance.random() < 0.5 else content[:at] + chance.randbytes(1) + content[at + 1 :]


@pytest.mark.parametrize("name", list(GOOD))
def test_every_body_is_taken_or_refused_in_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dialect, path, good, statuses = GOOD[name]
    queue: Any = ListQueue()
    keys: Any = AnyKey()
    links = FileLinks(PathSigner(b"secret" * 8), "http://gateway")
    expander = PromptExpander(None, "", None)
    desk = Desk(
        queue,
        Board(queue),
        open_store(str(tmp_path)),
        links,
        keys,
        expander,
        models={},
        secret=lambda name: name.encode().ljust(32),
        max_upload_bytes=1_000_000,
    )
    chance = random.Random(2)
    counts: dict[int, int] = {}

    async def play() -> None:
        transport = httpx.ASGITransport(dialect_app(dialect, desk))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=VERSION) as client:
            for number, sent in enumerate(bodies(good, 2000, seed=3)):
                content = json.dumps(sent).encode()
                if number % 5 == 0:
                    content = chance.choice(RAW) if chance.random() < 0.3 else damaged(content, chance)
                headers = {chance.choice(RETRY_HEADERS): "1"} if number % 7 == 0 else {}
                answer = await client.post(path, content=content, headers=headers)
                counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
                assert answer.status_code in statuses, (number, answer.text)
                assert isinstance(answer.json(), dict)
                assert not leaks(answer.text), (number, answer.text)

    asyncio.run(play())
    assert min(counts.values()) > 100
    assert len(queue.tasks) <= counts[statuses[0]]
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if '"level": "info"' not in line] == []
