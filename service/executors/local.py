"""One GPU: the worker's own job code, on tasks from the queue.

    python -m service.executors.local

prints `ready <executor id>`. It is configured by the worker's variables and those of `ExecutorSettings`.
"""

import asyncio
import fcntl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ..contract.errors import JobError
from ..contract.video_answer import VideoAnswer
from ..store.object_store import ObjectStore
from ..store.open_store import open_store
from ..tasks.database import database_url
from ..tasks.names import LOCAL_QUEUE
from ..tasks.task import Order, Outcome, Video
from ..worker.job import Worker
from ..worker.own_files import remove_leftovers
from ..worker.saved_video import Video as SavedVideo
from ..worker.settings import Settings
from .backend import Begun
from .executor import Executor
from .narrator import Narrator
from .pictures import whole_request
from .record import Record
from .result import draw, keep, remove
from .settings import ExecutorSettings, told_errors

KIND = "local"


class LocalBackend:
    """A worker of its own, and the object store that its videos go into."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._worker = Worker(settings, lambda job, update: None)
        self._store = store

    async def start(self) -> None:
        remove_leftovers(self._worker.settings)
        self._worker.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._worker.stop)

    async def begin(self, task_id: str, order: Order) -> Begun:
        return draw(order)

    async def render(self, task_id: str, order: Order, record: Record, begun: Begun) -> Outcome:
        started = time.monotonic()
        narrator = Narrator(record)
        narrator.stage("waiting")
        request = await whole_request(order, self._store, begun["seed"])
        if order.pictures:
            narrator.log("pictures read")
        kept: list[Video] = []

        async def into_the_store(files: Sequence[SavedVideo], answer: VideoAnswer, left_s: float) -> VideoAnswer:
            [video] = files
            # Half of the time is more than any store needs that will answer at all.
            limit_s = left_s / 2
            way = (self._store, task_id, begun, video.suffix, lambda: video.content, video.mime_type, limit_s)
            kept.append(await keep(*way))
            narrator.log("video saved")
            return answer

        try:
            answer = await self._worker.make_video(request, [], task_id, narrator, into_the_store, started)
        except JobError as error:
            if error.code == "GPU_ERROR":  # only a new process has a new context
                await asyncio.to_thread(self._worker.process.kill)
                self._worker.process.start()
            raise
        return Outcome(answer=answer, video=kept[0])

    async def discard(self, task_id: str, begun: Begun) -> None:
        await remove(self._store, task_id, begun)


def main() -> None:
    with told_errors():
        settings, shared = Settings.from_environment(), ExecutorSettings.from_environment()
        store = open_store(shared.store, **shared.store_options)
        url = database_url(shared.database)
    executor_id = shared.id_for(KIND, settings.run_directory)
    executor = Executor(url, executor_id, LOCAL_QUEUE, LocalBackend(settings, store), {"kind": KIND})
    with own_folder(settings.run_directory):
        executor.run_process()


def own_folder(run_directory: Path) -> IO[bytes]:
    """Holds the folder until the file is closed or this process ends: two executors in one would remove each
    other's files.
    """
    run_directory.mkdir(parents=True, exist_ok=True)
    lock = (run_directory / "executor.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("WAN_RELAY_RUN_DIR: another executor has this folder; give each its own")
    return lock


if __name__ == "__main__":
    main()
