"""One video: images in, one run of ComfyUI, the answer out, and nothing left behind."""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import aiohttp

from ..contract.errors import JobError
from ..contract.progress import Stage
from ..contract.video_answer import ModelUse, VideoAnswer
from ..contract.video_request import VideoRequest
from ..media.images import load_image
from ..media.plain_image import PlainImage
from .comfyui.client import OnProgress, Run, class_facts, free_memory, planned_switch, upload
from .comfyui.process import ComfyGoneError, ComfyProcess
from .exported_graph import NodeFacts
from .interpolation import INTERPOLATE, InterpolationModel
from .interpolation_model import find_interpolation_model
from .last_frame import find_last_frame
from .long_video import find_long_video
from .lora_rows import blamed_on_request
from .model_files.hashes import ModelHashes
from .model_files.places import model_folders
from .model_files.used import used_models
from .own_files import OWN_NAME, check_disk, remove, remove_leftovers
from .own_steps import with_own_steps
from .progress_updates import Follower
from .result import describe_video
from .sampler_steps import SamplerSteps
from .saved_video import Video, find_video
from .settings import Settings
from .upscale_model import with_upscale_model
from .upscaling import MODEL_LOADER as UPSCALE_LOADER
from .upscaling import UPSCALE
from .url_loras.access import refuse_hosts
from .url_loras.cache import LoraCache
from .url_loras.job_loras import JobLoras
from .workflow import LOAD, SAMPLE, Plan, build_plan, bundled

Request = TypeVar("Request", bound=VideoRequest)
Images = tuple[PlainImage | None, PlainImage | None]
# (files, answer without them, seconds that are left of the job) -> the answer as it goes out. Raises JobError.
# The files of a bundled workflow are one video.
Deliver = Callable[[Sequence[Video], VideoAnswer, float], Awaitable[VideoAnswer]]
AFTER_SAMPLER: dict[Any, Stage] = {UPSCALE: "upscaling", INTERPOLATE: "interpolating"}


class VideoJob:
    """`run` it once, and `clean_up` whatever came of it.

    `started` is when the job came, on time.monotonic's clock; `on_high_noise(workflow, low-noise file)` is called
    while the high-noise expert samples.
    """

    def __init__(
        self,
        request: VideoRequest,
        warnings: list[str],
        job_id: str,
        settings: Settings,
        process: ComfyProcess,
        session: aiohttp.ClientSession,
        follower: Follower,
        deliver: Deliver,
        on_high_noise: Callable[[str, str], None],
        started: float,
        hashes: ModelHashes,
    ) -> None:
        self._request = with_own_steps(request, bundled(request.workflow, settings))
        self._warnings = warnings
        self._job_id = job_id
        self._settings = settings
        self._process = process
        self._session = session
        self._follower = follower
        self._deliver = deliver
        self._on_high_noise = on_high_noise
        self._started = started
        self._hashes = hashes
        self._deadline = time.monotonic() + settings.job_timeout_s
        self._seeds = request.seeds_to_use()
        megabytes = settings.lora_cache_mb, settings.min_free_disk_mb
        cache = LoraCache(settings.lora_cache_folder, *(1_000_000 * limit for limit in megabytes))
        self._loras = JobLoras(request.loras or (), settings.lora_access, cache, lambda: follower.stage("downloading"))
        self._timings: dict[str, float | None] = {}
        self._uploaded: list[str] = []
        self._runs: list[tuple[Run, str]] = []

    async def run(self) -> VideoAnswer:
        """Raises JobError."""
        return await self._video(await self._prepared(), self._seeds[0])

    def ended_by(self, error: JobError) -> JobError:
        """What is raised when `run` ended by this error, be it a deadline's."""
        return error

    async def _prepared(self) -> Images:
        refuse_hosts(self._loras.loras, self._loras.access)
        remove_leftovers(self._settings)
        check_disk(self._settings)
        return await self._files_while_booting()

    async def _video(self, images: Images, seed: int) -> VideoAnswer:
        """One run of ComfyUI, and its files on their way out."""
        plan, outputs = await self._sampled(images, seed)
        files = await asyncio.to_thread(self._files, outputs)
        models = await asyncio.to_thread(self._models, plan)
        self._note("total_s", self._started)
        warnings = [*self._warnings, *(sentence for image in images if image for sentence in image.warnings)]
        warnings += self._loras.warnings
        answer = self._described(files, outputs, plan, warnings)
        answer = self._loras.answer_in_words(answer).model_copy(update={"models": models} if models else {})
        self._follower.stage("saving")
        return await self._deliver(files, answer, self._deadline - time.monotonic())

    def _files(self, outputs: dict[str, Any]) -> Sequence[Video]:
        folder = self._settings.output_directory
        frame = find_last_frame(outputs, folder) if self._request.return_last_frame else None
        return [find_video(outputs, folder), *([frame] if frame else [])]

    def _described(
        self, files: Sequence[Video], outputs: dict[str, Any], plan: Plan, warnings: list[str]
    ) -> VideoAnswer:
        return describe_video(files[0], outputs, plan, self._request, warnings, self._timings)

    def _models(self, plan: Plan) -> list[ModelUse]:
        used = used_models(plan.graph, model_folders(self._settings), self._hashes)
        return [model.model_copy(update={"file": self._loras.in_words(model.file)}) for model in used]

    async def _files_while_booting(self) -> Images:
        """The images, while the LoRAs come too. A bad file is known, and answered, long before a cold ComfyUI is up."""

        async def one(image: tuple[str, str] | None) -> PlainImage | None:
            loaded = await load_image(*image, self._settings.image_limits) if image else None
            self._note("image_s", self._started)
            return loaded

        self._process.start()
        try:
            async with asyncio.TaskGroup() as group:
                start = group.create_task(one(self._request.start_image))
                end = group.create_task(one(self._request.end_image))
                group.create_task(self._loras.fetch())
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        if self._loras.has_urls:
            self._note("loras_s", self._started)
        return start.result(), end.result()

    async def _sampled(self, images: Images, seed: int) -> tuple[Plan, dict[str, Any]]:
        """The plan and the outputs of a finished run, which is tried once more when ComfyUI dies in it."""
        try:
            try:
                return await self._run_in_comfyui(images, seed)
            except ComfyGoneError:
                print(f"job {self._job_id}: {self._process.last_words()}; once more", file=sys.stderr, flush=True)
                return await self._run_in_comfyui(images, seed)
        except ComfyGoneError:
            raise JobError("COMFYUI_CRASHED", self._process.last_words(), refresh_worker=True) from None
        except JobError as error:
            if error.code == "OUT_OF_MEMORY":
                await free_memory(self._session, self._process)
            error = blamed_on_request(error, self._loras.loras)
            sentence = self._loras.in_words(error.sentence)
            raise JobError(error.code, sentence, error.field, refresh_worker=error.refresh_worker) from None

    async def _run_in_comfyui(self, images: Images, seed: int) -> tuple[Plan, dict[str, Any]]:
        self._follower.stage("waiting")
        await self._process.wait_ready()
        self._follower.stage("loading")
        self._note("ready_s", self._started)
        token = uuid.uuid4().hex
        plan = await self._planned(images, seed, f"{OWN_NAME}{token}")
        run = Run(self._session, self._process, plan.graph, await self._follow(plan))
        self._runs.append((run, token))
        queued = time.monotonic()
        entry = await run.finish()
        self._note("comfyui_s", queued)
        return plan, entry.get("outputs") or {}

    async def _planned(self, images: Images, seed: int, folder: str) -> Plan:
        """`folder` is the job's own, in ComfyUI's output folder."""
        start, end = [await self._upload(image) if image else None for image in images]
        end = start if self._request.loop else end
        request = await self._with_files(self._request)
        model = await self._interpolation_model()
        return build_plan(request, seed, start, end, f"{folder}/video", self._settings, model)

    async def _with_files(self, request: Request) -> Request:
        """The request with the names of files on this worker; ComfyUI has the nodes for them."""
        request = await asyncio.to_thread(with_upscale_model, self._loras.with_file_names(request), self._settings)
        if request.is_upscaled:
            await self._facts_of({UPSCALE_LOADER})
        return request

    async def _facts_of(self, classes: set[str]) -> dict[str, NodeFacts]:
        """Of every class that there is. ComfyUI is started anew with all that is installed where it lacks one."""
        facts = await class_facts(self._session, self._process, classes)
        if len(facts) < len(classes) and not self._process.is_whole:
            print(f"job {self._job_id}: needs a node that was not loaded; all are now", file=sys.stderr, flush=True)
            self._process.start_whole()
            await self._process.wait_ready()
            self._note("ready_s", self._started)
            facts = await class_facts(self._session, self._process, classes)
        return facts

    async def _interpolation_model(self) -> InterpolationModel | None:
        return await asyncio.to_thread(find_interpolation_model, self._request.interpolation, self._settings)

    async def _upload(self, image: PlainImage) -> str:
        self._uploaded.append(image.name)
        return await upload(self._session, self._process, image)

    async def _follow(self, plan: Plan) -> OnProgress:
        low_noise, sampler = plan.value(LOAD, "low_noise"), await self._sampler_steps(plan)
        after: str | None = None  # the last node behind the sampler that said anything

        def on_progress(node_id: str, step: int, steps: int) -> None:
            nonlocal after
            if sampler.are_segments(node_id, steps):
                return
            stage = AFTER_SAMPLER.get(plan.graph.get(node_id, {}).get("class_type"))
            if stage is not None and node_id != after:
                after = node_id
                self._follower.stage(stage)
            if (done := sampler.at(node_id, step, steps)) is not None:
                self._follower.step(*done)
                if done.is_last:
                    self._follower.stage("decoding")
                self._on_high_noise(self._request.workflow, low_noise)

        return on_progress

    async def _sampler_steps(self, plan: Plan) -> SamplerSteps:
        switch_step = await self._switch_step(plan)
        return SamplerSteps(plan.node_id(SAMPLE), find_long_video(plan.graph), switch_step, plan.opening_steps)

    async def _switch_step(self, plan: Plan) -> int | None:
        """The first low-noise step; None for a single model, or where the pack does not say."""
        inputs, opening_steps = plan.graph[plan.node_id(SAMPLE)]["inputs"], plan.opening_steps
        if "low_noise" not in inputs:
            return None
        if inputs["switch"] == "step":
            return max(inputs["switch_step"], opening_steps)
        return await planned_switch(self._session, self._process, inputs, opening_steps)

    def _note(self, name: str, since: float) -> None:
        self._timings[name] = rounded(time.monotonic() - since)

    async def clean_up(self) -> None:
        """Leaves ComfyUI idle and no file behind; also after a failure, a deadline or a cancellation."""
        for run, token in self._runs:
            if run.is_done:
                await run.forget()
            elif not await run.abandon():
                # Deaf to an interrupt: only a new process is idle again.
                self._process.kill()
            await asyncio.to_thread(remove, self._settings.output_directory / f"{OWN_NAME}{token}")
        for name in self._uploaded:
            remove(self._settings.input_directory / name)
        await asyncio.to_thread(self._loras.release)
        self._process.start()


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
