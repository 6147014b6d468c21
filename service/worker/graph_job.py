"""One run of a client's own workflow: pictures in, every file out, and nothing left behind."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from ..contract.errors import JobError
from ..contract.video_answer import VideoAnswer
from ..media.images import load_image
from ..media.plain_image import PlainImage
from ..media.volume_file import read_from_volume
from .comfyui.client import OnProgress
from .comfyui.failures import node_title
from .exported_graph import (
    NamedFile,
    NodeFacts,
    check_classes,
    check_paths,
    move_outputs,
    named_files,
    title_of,
    use_images,
)
from .graph_answer import describe_files
from .graph_fields import fill_graph
from .graph_nodes import Graph, nodes_of
from .graph_request import GraphRequest
from .long_video import find_long_video
from .output_files import OutputFile, find_files
from .own_files import OWN_NAME, content_of, remove
from .sampler_steps import SamplerStep, SamplerSteps
from .saved_video import Video
from .video_job import Images, VideoJob
from .workflow import PREPARE, SAMPLE, Plan


class GraphJob(VideoJob):
    """A VideoJob whose workflow is not one of the bundled."""

    def __init__(self, graph_request: GraphRequest, *arguments: Any, **options: Any) -> None:
        super().__init__(graph_request.fields, graph_request.warnings, *arguments, **options)
        self._graph_request = graph_request
        self._pictures: list[PlainImage] = []
        self._is_ours = False
        settings = self._settings
        self._folders = (settings.input_directory, settings.output_directory, settings.temp_directory)
        self._there_before = content_of(self._folders)

    async def _files_while_booting(self) -> Images:
        given = self._graph_request.fields.images
        self._process.start()
        try:
            async with asyncio.TaskGroup() as group:
                ends = group.create_task(super()._files_while_booting())
                tasks = [
                    group.create_task(load_image(f"images[{n}]", one.image, self._settings.image_limits, one.form))
                    for n, one in enumerate(given)
                ]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        self._pictures = [task.result() for task in tasks]
        for one, picture in zip(given, self._pictures, strict=True):
            self._warnings += [f"{one.name}: {sentence}" for sentence in picture.warnings]
        return ends.result()

    async def _planned(self, images: Images, seed: int, folder: str) -> Plan:
        fields = await self._with_files(self._graph_request.fields)
        plan = Plan({key: node | {"inputs": dict(node["inputs"])} for key, node in self._graph_request.graph.items()})
        ends = {name: image for name, image in zip(("start_image", "end_image"), images, strict=True) if image}
        end_names = {name: image.name for name, image in ends.items()}
        loops_itself = any(plan.graph[key]["inputs"].get("loop") is True for key in nodes_of(plan.graph, PREPARE))
        if fields.loop and not loops_itself:
            end_names["end_image"] = end_names["start_image"]
        self._is_ours = fill_graph(plan, fields, end_names, self._settings, await self._interpolation_model())
        given = {one.name: picture.name for one, picture in zip(fields.images, self._pictures, strict=True)}
        unused = given.keys() - use_images(plan.graph, given)
        plan.warnings += [f"images: {name} is named by no node of the workflow" for name in sorted(unused)]
        facts = await self._facts(plan.graph)
        check_paths(plan.graph, facts)
        own = [*ends.values(), *self._pictures]
        for file in named_files(plan.graph, facts, [picture.name for picture in own]):
            picture = await self._from_the_volume(plan.graph, file)
            plan.graph[file.node_id]["inputs"][file.input_name] = picture.name
            own.append(picture)
        for picture in own:
            await self._upload(picture)
        move_outputs(plan.graph, facts, folder)
        return plan

    async def _facts(self, graph: Graph) -> dict[str, NodeFacts]:
        """Of every class. Raises JobError for one that is not installed."""
        facts = await self._facts_of({node["class_type"] for node in graph.values()})
        check_classes(graph, facts)
        return facts

    async def _from_the_volume(self, graph: Graph, file: NamedFile) -> PlainImage:
        """A file of the volume's input folder that a node names. Raises JobError."""
        limits, title = self._settings.image_limits, title_of(graph[file.node_id])
        path = str(self._settings.shared_input / file.name)
        try:
            if file.is_picture:
                return await load_image(file.input_name, path, limits, "path")
            read = (path, limits.volume, limits.max_bytes, file.input_name)
            content = await asyncio.to_thread(read_from_volume, *read)
        except JobError as error:
            if error.code != "FILE_NOT_FOUND":
                raise JobError(error.code, f"{error.sentence} (node {title})", file.input_name) from None
            sentence = f"{file.name} is neither one of images nor in the volume's input folder (node {title})"
            raise JobError(error.code, sentence, file.input_name) from None
        digest = hashlib.sha256(content).hexdigest()[:24]
        return PlainImage(content, f"{OWN_NAME}{digest}{PurePosixPath(file.name).suffix}")

    async def _follow(self, plan: Plan) -> OnProgress:
        """The steps of any node, under its title; of Sample over all segments, by their expert if it is known."""
        samplers = nodes_of(plan.graph, SAMPLE)
        sampler = SamplerSteps(samplers[0] if len(samplers) == 1 else "", find_long_video(plan.graph))
        if self._is_ours:
            sampler = await self._sampler_steps(plan)

        def on_progress(node_id: str, step: int, steps: int) -> None:
            if sampler.are_segments(node_id, steps) or steps <= 0:
                return
            done = sampler.at(node_id, step, steps) or SamplerStep(step, steps, None, 0)
            self._follower.step(*done, node_title(plan.graph, node_id))

        return on_progress

    def _files(self, outputs: dict[str, Any]) -> Sequence[Video]:
        if not outputs:
            raise JobError("NO_OUTPUT", "ComfyUI finished, but none of its nodes gave anything out")
        return find_files(outputs, self._settings.output_directory)

    def _described(
        self, files: Sequence[Video], outputs: dict[str, Any], plan: Plan, warnings: list[str]
    ) -> VideoAnswer:
        saved = [file for file in files if isinstance(file, OutputFile)]
        return describe_files(saved, outputs, plan, self._graph_request, self._is_ours, warnings, self._timings)

    async def clean_up(self) -> None:
        """Also what a node wrote beside the job's own folder."""
        await super().clean_up()
        await asyncio.to_thread(self._remove_new)

    def _remove_new(self) -> None:
        for _, token in self._runs:
            remove(self._settings.base_directory / "datasets" / f"{OWN_NAME}{token}")
        for path in sorted(content_of(self._folders) - self._there_before, reverse=True):
            remove(path)
