"""The worker: owns ComfyUI, and answers the platform's jobs one at a time, whatever happens in between."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..contract.errors import JobError
from ..contract.graph_answer import GraphAnswer
from ..contract.graph_request import from_text
from ..contract.video_answer import VideoAnswer
from ..contract.video_request import VideoRequest, is_ping, parse_request
from .comfyui.client import ask
from .comfyui.process import PACK, ComfyGoneError, ComfyProcess, http_session
from .delivery import answer_size, deliver
from .graph_job import GraphJob
from .graph_request import GraphRequest, own_workflows, read_graph_request
from .last_frame import deliver_last_frame
from .model_files.hashes import ModelHashes
from .model_files.manifest import check_models
from .model_files.places import find_model, model_folders
from .output_files import OutputFile
from .progress_updates import Follower, ProgressUpdates
from .read_ahead import ReadAhead
from .saved_video import Video
from .series_job import PartOfSeriesError, Room, SeriesJob
from .settings import Settings
from .stock_answer import deliver_files
from .url_loras.cache import LoraCache
from .video_job import Deliver, VideoJob, rounded
from .workflow import SAMPLE, ModelFile, model_files

LAST_ANSWER_S = 10.0

PlatformJob = dict[str, Any]
Answer = dict[str, Any]
SendProgress = Callable[[PlatformJob, dict[str, Any]], None]


@dataclass(frozen=True)
class Call:
    """One request, as the side that it came from sees it: `budget` is the bytes of JSON that its answer may have."""

    job_id: str
    budget: int
    follower: Follower
    s3_config: Any = None


class Worker:
    """Owns ComfyUI and answers jobs, one at a time."""

    def __init__(self, settings: Settings, send_progress: SendProgress) -> None:
        self.settings = settings
        self.process = ComfyProcess(settings)
        self._send_progress = send_progress
        self._turn = asyncio.Lock()
        self._readers: list[ReadAhead] = []
        self._low_noise_read: str | None = None
        self._hashes = ModelHashes(
            settings.model_hashes, LoraCache(settings.lora_cache_folder, 0).files, settings.hashes_models
        )

    def start(self) -> None:
        """Boots ComfyUI, warms the default workflow's files, and says which are missing; returns at once."""
        self.process.start()
        threading.Thread(target=self._say_what_is_there, name="model-check", daemon=True).start()
        if self.settings.read_ahead:
            self._read(model_files("wan22_i2v_4step", self.settings))

    def _say_what_is_there(self) -> None:
        for line in check_models(self.settings).lines():
            print(f"models | {line}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        self._hashes.stop()
        for reader in self._readers:
            reader.stop()
        self.process.kill(grace_s=2.0)

    def _read_low_noise(self, workflow: str, low_noise: str) -> None:
        """The low-noise file comes into the page cache while the high-noise expert samples."""
        if self.settings.read_ahead and low_noise not in ("none", self._low_noise_read):
            self._low_noise_read = low_noise
            self._read(file for file in model_files(workflow, self.settings) if file.name == low_noise)

    def _read(self, files: Iterable[ModelFile]) -> None:
        folders = model_folders(self.settings)
        self._readers = [reader for reader in self._readers if not reader.join(0)]
        found = [path for file in files if (path := find_model(file, folders))]
        self._readers.append(ReadAhead(found).start())

    async def answer(self, job: PlatformJob) -> Answer:
        """The handler. An error is a non-empty string under `error`; only cancellation is raised."""
        job_id = str(job.get("id", ""))
        updates = ProgressUpdates(lambda progress: self._send_progress(job, progress.to_wire()))
        call = Call(job_id, self.settings.result_budget(job_id), updates, job.get("s3Config"))
        try:
            answer = await self.output(job.get("input"), call)
        except PartOfSeriesError as error:
            answer = error.answer.to_wire() | ({"refresh_worker": True} if error.refresh_worker else {})
        except JobError as error:
            return {"error": str(error)} | ({"refresh_worker": True} if error.refresh_worker else {})
        if answer.keys() & {"images", "videos"}:  # updates may have come until just now
            await updates.quiet()
        return answer

    async def output(self, given: Any, call: Call) -> Answer:
        """What a job's `input` comes to. Raises JobError; a fault of our own is one too, and in the log."""
        started = time.monotonic()
        try:
            return await self._output(given, call, started)
        except JobError:
            raise
        except Exception:
            print(f"job {call.job_id}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            sentence = "the worker failed; its log says more under this job's id"
            raise JobError("INTERNAL_ERROR", sentence) from None

    async def _output(self, given: Any, call: Call, started: float) -> Answer:
        raw = from_text(given)
        if is_ping(raw):
            async with self._turn:
                return await self._ping()
        assert isinstance(raw, dict)
        graph_request = read_graph_request(raw, self.settings)
        if graph_request is not None:
            way_out = self._in_stock_shape(graph_request, call)
            return (await self.run_graph(graph_request, call.job_id, call.follower, way_out, started)).to_wire()
        request, warnings = parse_request(raw)
        if request.is_series:
            return (await self._make_series(request, warnings, call, started)).to_wire()
        way_out = self._to_the_caller(request, call, Room(call.budget, 1))
        return (await self.make_video(request, warnings, call.job_id, call.follower, way_out, started)).to_wire()

    async def make_video(
        self,
        request: VideoRequest,
        warnings: list[str],
        job_id: str,
        follower: Follower,
        way_out: Deliver,
        started: float,
    ) -> VideoAnswer:
        """One job, when its turn comes; nothing is left of it, whatever came of it. Raises JobError."""
        first = partial(VideoJob, request, warnings)
        return await self._in_turn(first, job_id, follower, way_out, started)

    async def _make_series(self, request: VideoRequest, warnings: list[str], call: Call, started: float) -> VideoAnswer:
        """`make_video` for each seed of the request. Raises PartOfSeriesError where some were made, else JobError."""
        count, most = request.num_videos or len(request.seeds or ()), self.settings.max_videos
        if count > most:
            named = "num_videos" if request.seeds is None else "seeds"
            raise JobError("OUT_OF_RANGE", f"this worker makes at most {most} videos a job, got {count}", named)
        way_out = self._to_the_caller(request, call, Room(call.budget, count))
        first = partial(SeriesJob, call.budget, request, warnings)
        return await self._in_turn(first, call.job_id, call.follower, way_out, started)

    async def run_graph(
        self, request: GraphRequest, job_id: str, follower: Follower, way_out: Deliver, started: float
    ) -> VideoAnswer:
        """`make_video` for a workflow that is not one of the bundled."""
        return await self._in_turn(partial(GraphJob, request), job_id, follower, way_out, started)

    async def _in_turn(
        self, make: Callable[..., VideoJob], job_id: str, follower: Follower, way_out: Deliver, started: float
    ) -> VideoAnswer:
        async with self._turn, self._hashes.paused(), http_session() as session:
            work = make(
                job_id,
                self.settings,
                self.process,
                session,
                follower,
                way_out,
                on_high_noise=self._read_low_noise,
                started=started,
                hashes=self._hashes,
            )
            try:
                async with asyncio.timeout(self.settings.job_timeout_s) as budget:
                    return await work.run()
            except TimeoutError:
                if not budget.expired():
                    raise
                raise work.ended_by(await self._out_of_time()) from None
            except JobError as error:
                raise work.ended_by(error) from None
            finally:
                await _to_the_end(work.clean_up())

    def _to_the_caller(self, request: VideoRequest, call: Call, room: Room) -> Deliver:
        """In the answer, or by the job's or the worker's bucket."""
        settings, bucket = self.settings, self.settings.bucket(call.s3_config)

        async def way_out(files: Sequence[Video], answer: VideoAnswer, left_s: float) -> VideoAnswer:
            # Half of what is left stays for the other ways, should the bucket not answer.
            upload_timeout_s = min(settings.upload_timeout_s, left_s / 3 if len(files) > 1 else left_s / 2)
            way = (request, room.share(), bucket, call.job_id, upload_timeout_s)
            frame = next((file for file in files[1:] if isinstance(file, OutputFile)), None)
            told = await deliver_last_frame(frame, await deliver(files[0], answer, *way), *way)
            room.take(answer_size(told))
            return told

        return way_out

    def _in_stock_shape(self, request: GraphRequest, call: Call) -> Deliver:
        settings, bucket = self.settings, self.settings.bucket(call.s3_config)

        async def way_out(files: Sequence[Video], answer: VideoAnswer, left_s: float) -> VideoAnswer:
            assert isinstance(answer, GraphAnswer)
            saved = [file for file in files if isinstance(file, OutputFile)]
            upload_timeout_s = min(settings.upload_timeout_s, left_s / 2)
            named = request.name is not None
            way = (named, call.budget, bucket, call.job_id, upload_timeout_s)
            return await deliver_files(saved, answer, request.fields, *way)

        return way_out

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
        manifest = await asyncio.to_thread(check_models, self.settings)
        return {
            "status": "ready",
            "comfyui_version": stats["system"].get("comfyui_version"),
            "own_workflows": own_workflows(self.settings),
            "workflows": manifest.workflows(),
            "models": manifest.to_wire(),
            "timings": {"boot_s": rounded(self.process.boot_s), "total_s": rounded(time.monotonic() - started)},
        }


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
