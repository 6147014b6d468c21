"""An executor that makes a video in no time: the real queue, store and records, and a backend that draws noise.

The prompt says what shall become of a task: `fail CODE`, `fail CODE of FIELD`, `slow SECONDS`, `hang`,
`hang on EXECUTOR`; anything else is made in four steps. `look` writes what its pictures hash to into its log.
"""

import asyncio
import hashlib
import io
import os
import re

import av
import numpy as np

from ....service.contract.errors import JobError
from ....service.contract.progress import Progress
from ....service.contract.video_answer import ModelUse, Timings, VideoAnswer
from ....service.executors.backend import Begun
from ....service.executors.executor import Executor
from ....service.executors.record import Record
from ....service.executors.result import draw, remove
from ....service.gateway.toy_size import asked_length, asked_size
from ....service.store.object_store import ObjectStore
from ....service.store.open_store import open_store
from ....service.tasks.database import database_url
from ....service.tasks.names import LOCAL_QUEUE, result_key
from ....service.tasks.shared_settings import SharedSettings
from ....service.tasks.task import Order, Outcome, Video

STEPS = 4


class FastBackend:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def begin(self, task_id: str, order: Order) -> Begun:
        return draw(order)

    async def discard(self, task_id: str, begun: Begun) -> None:
        await remove(self._store, task_id, begun)

    async def render(self, task_id: str, order: Order, record: Record, begun: Begun) -> Outcome:
        pictures = {field: await self._store.get(key) for field, key in order.pictures.items()}
        request = order.video_request(**dict.fromkeys(pictures, "AAAA"))
        if "look" in request.prompt:
            for field, content in pictures.items():
                record.log(f"{field} {hashlib.sha256(content).hexdigest()}")
        for step in range(1, STEPS + 1):
            record.log(f"step {step} of {STEPS}")
            expert = "high_noise" if step <= 2 else "low_noise"
            record.progress(Progress(step=step, steps=STEPS, progress=step / STEPS, expert=expert))
            await asyncio.sleep(pause_s(request.prompt))
        if found := re.search(r"fail ([A-Z_]+)(?: of (\w+))?", request.prompt):
            sentence = "the prompt asked for it"
            raise JobError(found[1], f"{found[2]}: {sentence}" if found[2] else sentence, found[2])
        width, height = (side // 16 * 16 for side in asked_size(request))
        length = asked_length(request)
        content = noise_video(width, height, request.fps)
        key = result_key(task_id, begun["name"], ".mp4")
        await self._store.put(key, content, "video/mp4")
        answer = VideoAnswer(
            seed=begun["seed"],
            width=width,
            height=height,
            length=length,
            fps=request.fps,
            duration=round(length / request.fps, 4),
            workflow=request.workflow,
            prompt=request.prompt,
            models=[ModelUse(role="vae", file="wan_2.1_vae.safetensors", bytes=5, sha256="5" * 64)],
            steps=request.steps,
            switch="step",
            switch_step=2,
            sampler=request.sampler,
            scheduler=request.scheduler,
            shift=request.shift,
            high_noise_cfg=request.high_noise_cfg or request.cfg,
            low_noise_cfg=request.low_noise_cfg or request.cfg,
            format="video/mp4",
            warnings=[],
            timings=Timings(total_s=0.1),
        )
        return Outcome(answer=answer, video=Video(key=key, size=len(content)))


def pause_s(prompt: str) -> float:
    if found := re.search(r"hang on (\S+)", prompt):
        return 3600.0 if found[1] == os.environ.get("WAN_RELAY_EXECUTOR_ID") else 0.01
    if "hang" in prompt:
        return 3600.0
    found = re.search(r"slow ([\d.]+)", prompt)
    return float(found[1]) / STEPS if found else 0.01


def noise_video(width: int, height: int, fps: int) -> bytes:
    """Four frames, whatever was asked for: what is said of a video comes from the answer."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "40"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return file.getvalue()


def main() -> None:
    settings = SharedSettings.from_environment()
    store = open_store(settings.store, **settings.store_options)
    name = os.environ.get("WAN_RELAY_EXECUTOR_ID", "fast-1")
    Executor(database_url(settings.database), name, LOCAL_QUEUE, FastBackend(store), {"kind": "fast"}).run_process()


if __name__ == "__main__":
    main()
