"""One job from the platform's dict to the answer's dict, whatever happens in between."""

import asyncio
import contextlib
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from ..contract.errors import JobError
from ..contract.request import WORKFLOW_IMAGES, VideoRequest, draw_seed, is_ping, parse_request
from ..media.images import load_image
from ..media.plain_image import PlainImage
from .comfyui.client import Run, ask, free_memory, planned_switch, upload
from .comfyui.process import PACK, ComfyGoneError, ComfyProcess, http_session
from .read_ahead import ReadAhead, find_model, model_roots
from .result import deliver, find_video, resolved_values
from .settings import Settings
from .workflow import LOAD, SAMPLE, ModelFile, Plan, build_plan, model_files

PROGRESS_EVERY_S = 2.0
LAST_ANSWER_S = 10.0
OWN_NAME = "wan_relay_"

Job = dict[str, Any]
Answer = dict[str, Any]
SendProgress = Callable[[Job, dict[str, Any]], None]


class Worker:
    """Owns ComfyUI and answers jobs, one at a time."""

    def __init__(self, settings: Settings, send_progress: SendProgress) -> None:
        self.settings = settings
        self.process = ComfyProcess(settings)
        self._send_progress = send_progress
        self._turn = asyncio.Lock()
        self._readers: list[ReadAhead] = []
        self._low_noise_read: str | None = None

    def start(self) -> None:
        """Boots ComfyUI and warms the default workflow's files; returns at once."""
        self.process.start()
        if self.settings.read_ahead:
            self._read(model_files("wan22_i2v_4step", self.settings))

    def stop(self) -> None:
        for reader in self._readers:
            reader.stop()
        self.process.kill(grace_s=2.0)

    def high_noise_runs(self, workflow: str, low_noise: str) -> None:
        """The low-noise file comes into the page cache while the high-noise expert samples."""
        if self.settings.read_ahead and low_noise not in ("none", self._low_noise_read):
            self._low_noise_read = low_noise
            self._read(file for file in model_files(workflow, self.settings) if file.name == low_noise)

    def _read(self, files: Iterable[ModelFile]) -> None:
        roots = model_roots(self.settings)
        self._readers = [reader for reader in self._readers if not reader.join(0)]
        found = [path for file in files if (path := find_model(file, roots))]
        self._readers.append(ReadAhead(found).start())

    async def answer(self, job: Job) -> Answer:
        """The handler. An error is a non-empty string under `error`; only cancellation is raised."""
        try:
            return await self._answer(job)
        except JobError as error:
            return {"error": str(error)} | ({"refresh_worker": True} if error.refresh_worker else {})
        except Exception:
            print(f"job {job.get('id')}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            return {"error": "INTERNAL_ERROR: the worker failed; its log says more under this job's id"}

    async def _answer(self, job: Job) -> Answer:
        started = time.monotonic()
        raw = job.get("input")
        if is_ping(raw):
            async with self._turn:
                return await self._ping()
        assert isinstance(raw, dict)
        request, warnings = parse_request(raw)
        async with self._turn, http_session() as session:
            work = _VideoJob(self, session, job, request, warnings, started)
            try:
                async with asyncio.timeout(self.settings.job_timeout_s) as budget:
                    return await work.run()
            except TimeoutError:
                if not budget.expired():
                    raise
                raise await self._out_of_time() from None
            finally:
                await _to_the_end(work.clean_up())

    async def _out_of_time(self) -> JobError:
        """A ComfyUI that is silent just then hangs, and a retry helps; any other job was too large."""
        if self.process.boot_s is not None and not await self.process.answers_within(LAST_ANSWER_S):
            self.process.kill()
            return JobError("COMFYUI_UNAVAILABLE", "ComfyUI does not answer any more", refresh_worker=True)
        sentence = f"the job did not finish within {self.settings.job_timeout_s:g} s; lower the size or the steps"
        return JobError("TIMEOUT", sentence)

    async def _ping(self) -> Answer:
        """Proves the worker without a model: ComfyUI boots, the pack's nodes are there, which files are missing."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.job_timeout_s), http_session() as session:
                await self.process.wait_ready()
                status, stats = await ask(session, self.process, "GET", "/system_stats")
                _, nodes = await ask(session, self.process, "GET", f"/object_info/{SAMPLE}")
        except (ComfyGoneError, TimeoutError):
            raise JobError("COMFYUI_UNAVAILABLE", self.process.last_words(), refresh_worker=True) from None
        if status != 200:
            sentence = f"ComfyUI cannot tell the state of its machine (HTTP {status})"
            raise JobError("COMFYUI_UNAVAILABLE", sentence, refresh_worker=True)
        if SAMPLE not in (nodes or ()):
            raise JobError("NODE_MISSING", f"ComfyUI runs, but without {PACK}")
        roots = model_roots(self.settings)
        missing = {
            workflow: [file.name for file in model_files(workflow, self.settings) if find_model(file, roots) is None]
            for workflow in WORKFLOW_IMAGES
        }
        return {
            "status": "ready",
            "comfyui_version": stats["system"].get("comfyui_version"),
            "workflows": {name: "ready" if not files else {"missing": files} for name, files in missing.items()},
            "timings": {"boot_s": _seconds(self.process.boot_s), "total_s": _seconds(time.monotonic() - started)},
        }


class _VideoJob:
    """The state of one video: what it made, so that all of it can be removed."""

    def __init__(
        self,
        worker: Worker,
        session: aiohttp.ClientSession,
        job: Job,
        request: VideoRequest,
        warnings: list[str],
        started: float,
    ) -> None:
        self._worker = worker
        self._session = session
        self._settings = worker.settings
        self._process = worker.process
        self._job = job
        self._request = request
        self._warnings = list(warnings)
        self._started = started
        self._seed = draw_seed(request)
        self._names: list[str] = []
        self._runs: list[tuple[Run, str]] = []
        self._progress = Progress(lambda update: worker._send_progress(job, update))

    async def run(self) -> Answer:
        self._sweep()
        self._check_disk()
        start, end = await self._images_while_booting()
        try:
            try:
                return await self._attempt(start, end)
            except ComfyGoneError:
                print(
                    f"job {self._job.get('id')}: {self._process.last_words()}; once more", file=sys.stderr, flush=True
                )
                return await self._attempt(start, end)
        except ComfyGoneError:
            raise JobError("COMFYUI_CRASHED", self._process.last_words(), refresh_worker=True) from None
        except JobError as error:
            if error.code == "OUT_OF_MEMORY":
                await free_memory(self._session, self._process)
            raise

    async def _images_while_booting(self) -> tuple[PlainImage | None, PlainImage | None]:
        """A bad image is known, and answered, long before a cold ComfyUI is up."""

        async def one(image: tuple[str, str] | None) -> PlainImage | None:
            return await load_image(*image, self._settings.image_limits) if image else None

        self._process.start()
        start, end = await asyncio.gather(one(self._request.start_image), one(self._request.end_image))
        for image in (start, end):
            self._warnings += image.warnings if image else ()
        self._image_s = time.monotonic() - self._started
        return start, end

    async def _attempt(self, start: PlainImage | None, end: PlainImage | None) -> Answer:
        await self._process.wait_ready()
        self._ready_s = time.monotonic() - self._started
        names = [await self._upload(image) if image else None for image in (start, end)]
        token = uuid.uuid4().hex
        plan = build_plan(self._request, self._seed, names[0], names[1], f"{OWN_NAME}{token}/video", self._settings)
        run = Run(self._session, self._process, plan.graph, self._follow(plan, await self._switch_step(plan)))
        self._runs.append((run, token))
        queued = time.monotonic()
        entry = await run.finish()
        finished = time.monotonic()
        outputs = entry.get("outputs") or {}
        video = await asyncio.to_thread(find_video, outputs, self._settings.output_directory)
        answer = resolved_values(outputs, plan, self._request, video)
        answer["warnings"] = [*self._warnings, *plan.warnings, *answer["warnings"]]
        answer["timings"] = answer.get("timings", {}) | {
            "image_s": _seconds(self._image_s),
            "ready_s": _seconds(self._ready_s),
            "comfyui_s": _seconds(finished - queued),
            "total_s": _seconds(time.monotonic() - self._started),
        }
        job_id = str(self._job.get("id", ""))
        bucket = self._settings.bucket(self._job.get("s3Config"))
        budget = self._settings.result_budget(job_id)
        return await deliver(video, answer, self._request, budget, bucket, job_id)

    async def _upload(self, image: PlainImage) -> str:
        self._names.append(image.name)
        return await upload(self._session, self._process, image)

    async def _switch_step(self, plan: Plan) -> int | None:
        """The first low-noise step; None for a single model."""
        inputs = plan.graph[plan.node_id(SAMPLE)]["inputs"]
        if "low_noise" not in inputs:
            return None
        if inputs["switch"] == "step":
            return inputs["switch_step"]
        return await planned_switch(self._session, self._process, inputs)

    def _follow(self, plan: Plan, switch_step: int | None) -> Callable[[str, int, int], None]:
        sampler = plan.node_id(SAMPLE)
        low_noise = plan.value(LOAD, "low_noise")

        def on_progress(node_id: str, step: int, steps: int) -> None:
            if node_id == sampler:
                self._progress.step(step, steps, switch_step)
                self._worker.high_noise_runs(self._request.workflow, low_noise)

        return on_progress

    def _check_disk(self) -> None:
        folder = self._settings.run_directory
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < self._settings.min_free_disk_mb * 1_000_000:
            sentence = f"{free / 1e6:.0f} MB of disk are free, {self._settings.min_free_disk_mb} MB are needed"
            raise JobError("DISK_FULL", sentence, refresh_worker=True)

    def _sweep(self) -> None:
        """What an interrupted save of an earlier job wrote after that job's own clean-up."""
        for folder in (self._settings.input_directory, self._settings.output_directory):
            for path in folder.glob(f"{OWN_NAME}*"):
                _remove(path)

    async def clean_up(self) -> None:
        """Leaves ComfyUI idle and no file behind; also after a failure, a deadline or a cancellation."""
        for run, token in self._runs:
            if run.is_done:
                await run.forget()
            elif not await run.abandon():
                # Deaf to an interrupt: only a new process is idle again.
                self._process.kill()
            await asyncio.to_thread(_remove, self._settings.output_directory / f"{OWN_NAME}{token}")
        for name in self._names:
            _remove(self._settings.input_directory / name)
        self._process.start()


class Progress:
    """Updates for the platform: at most one in two seconds, and none for the last step.

    An update travels in a thread of its own and could overtake the result, which then would be lost.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._last = -PROGRESS_EVERY_S

    def step(self, step: int, steps: int, switch_step: int | None) -> None:
        now = self._clock()
        if step >= steps or now - self._last < PROGRESS_EVERY_S:
            return
        self._last = now
        update: dict[str, Any] = {"stage": "sampling", "step": step, "steps": steps, "progress": round(step / steps, 3)}
        if switch_step is not None:
            update["expert"] = "high_noise" if step <= switch_step else "low_noise"
        with contextlib.suppress(Exception):
            self._send(update)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Runs clean-up whole, also when the job is cancelled again meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    if task.exception() is not None:
        print(f"clean-up: {task.exception()!r}", file=sys.stderr, flush=True)
    if cancelled:
        raise asyncio.CancelledError


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
