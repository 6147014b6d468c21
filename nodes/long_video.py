"""Node: the graph in front of it once for each segment of a long video."""

from __future__ import annotations

from typing import Any

import comfy.utils
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from .engine.frames.wan_vae import recognise_wan_vae
from .engine.video.colour_drift import CLIP_BEFORE, COLOUR_REFERENCES, FIRST_FRAME, check_colour_reference
from .engine.video.joined_clip import JOINS
from .rules.errors import InvalidInput
from .rules.long_video.lora_tags import take_tags
from .rules.long_video.segment_graph import (
    IMAGES_OUTPUT,
    REPORT_OUTPUT,
    SEED_INPUTS,
    ClipGraph,
    find_clip,
    is_link,
    segment_graph,
)
from .rules.long_video.segment_plan import (
    LONGEST_SEGMENT,
    MAX_SEED,
    LongVideoPlan,
    Segment,
    plan_long_video,
    prompt_lines,
    whole_numbers,
)
from .rules.long_video.segment_timeline import given_of, plan_segments


class LongVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_LongVideo",
            display_name="Wan Relay: Long Video",
            category="wan relay",
            enable_expand=True,
            has_intermediate_output=True,  # so that a cached run still says what it used, in the history
            description=(
                "Makes the length of Prepare Latent in segments, each going on from the last frames of the one before, "
                "with a prompt and a seed of its own. It stands in the place of VAE Decode; prompts, size, models and "
                "sampler are those of the nodes in front of it."
            ),
            search_aliases=["long video", "extend video", "segments", "continue video", "svi", "loop", "161 frames"],
            inputs=[
                io.Latent.Input(
                    "latent",
                    lazy=True,
                    raw_link=True,
                    tooltip="The latent of Sample. What is in front of it runs once for each segment.",
                ),
                io.Vae.Input("vae", tooltip="wan_2.1_vae for the A14B experts, wan2.2_vae for TI2V-5B."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    tooltip="One prompt a line, one line a segment; the last one goes on. Empty: the prompt of Encode "
                    "Prompts in all of them. <lora:name:0.8> sets the strength of a LoRA of Apply LoRA Pair for its "
                    "segment.",
                ),
                io.Int.Input(
                    "segment_length",
                    default=81,
                    min=5,
                    max=LONGEST_SEGMENT,
                    step=4,
                    tooltip="The most frames of a segment. Wan2.2 was trained on 81.",
                ),
                io.Int.Input(
                    "overlap",
                    default=1,
                    min=1,
                    max=33,
                    step=4,
                    tooltip="Frames that two segments share, brought to the nearest 4n+1. More of them carry the "
                    "motion on, where the model follows them.",
                ),
                io.Combo.Input(
                    "join",
                    options=list(JOINS),
                    default="drop",
                    tooltip="The shared frames: drop shows them as the first segment has them, cross-fade blends both.",
                ),
                io.Boolean.Input(
                    "match_colour",
                    default=True,
                    tooltip="Each segment's colours are brought to those of the one before: one gain and one offset a "
                    "channel, measured on the shared frames.",
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    advanced=True,
                    tooltip="A seed for each segment, with commas between. What is missing counts up from the one "
                    "before, the first from the seed of Sample.",
                ),
                io.String.Input(
                    "lengths",
                    default="",
                    advanced=True,
                    tooltip="Frames of each segment with its overlap, with commas between: in place of segment_length "
                    "and of the length of Prepare Latent.",
                ),
                io.Combo.Input(
                    "colour_reference",
                    options=list(COLOUR_REFERENCES),
                    default=CLIP_BEFORE,
                    optional=True,
                    advanced=True,
                    tooltip="What match_colour goes by. first frame: each segment also ends with the brightness and "
                    "contrast of the first frame of the video, so that a drift does not grow. For videos that stay in "
                    "one place.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="All frames, for Save Video. They lie in a file, not in memory."),
                io.String.Output("report", tooltip="JSON: Sample's report of the first segment, and a list of all."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, prompts: str | None = None, seeds: str | None = None, lengths: str | None = None
    ) -> bool | str:
        """Refuses lists and LoRA tags that cannot be read at queue time. None is a value that a link brings later."""
        try:
            for prompt in prompt_lines(prompts or ""):
                take_tags(prompt)
            whole_numbers("seeds", seeds or "", MAX_SEED)
            whole_numbers("lengths", lengths or "", LONGEST_SEGMENT)
        except InvalidInput as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        latent: list,
        vae: Any,
        prompts: str,
        segment_length: int,
        overlap: int,
        join: str,
        match_colour: bool,
        seeds: str = "",
        lengths: str = "",
        colour_reference: str = CLIP_BEFORE,
    ) -> io.NodeOutput:
        nodes = cls.hidden.dynprompt
        own = nodes.get_node(cls.hidden.unique_id)["inputs"]
        clip = find_clip(own["latent"], nodes.get_node)
        is_5b = recognise_wan_vae(vae).is_5b
        _check_images(clip, is_5b)
        check_colour_reference(colour_reference)
        if match_colour and colour_reference == FIRST_FRAME:
            _check_end(clip)
        of_segments = whole_numbers("lengths", lengths, LONGEST_SEGMENT)
        own_seeds = whole_numbers("seeds", seeds, MAX_SEED)
        plan = plan_long_video(
            0 if of_segments else _number(clip, clip.prepare, "length"),
            segment_length,
            overlap,
            0 if own_seeds else _number(clip, clip.seed, SEED_INPUTS[clip.above[clip.seed]["class_type"]]),
            prompt_lines(prompts),
            own_seeds,
            of_segments,
        )
        if given := given_of(clip.above[clip.prepare]["inputs"]):
            plan_segments(plan, given, is_5b)  # refuses what a later segment could not take, before the first is made
        joining = {"join": join, "match_colour": match_colour, "colour_reference": colour_reference}
        graph, added = segment_graph(clip, plan, own["vae"], GraphBuilder().prefix, joining)
        comfy.utils.ProgressBar(len(added), node_id=cls.hidden.unique_id).update_absolute(0)
        return io.NodeOutput(
            [added[-1], IMAGES_OUTPUT],
            [added[-1], REPORT_OUTPUT],
            ui={"wan_relay": [long_video_report(plan)]},
            expand=graph,
        )


def long_video_report(plan: LongVideoPlan) -> dict[str, Any]:
    """What is made: the segments, and how much attention they take against one pass over all frames."""
    return {
        "length": plan.num_frames,
        "overlap": plan.overlap,
        "segments": [_reported(segment) for segment in plan.segments],
        "attention_ratio": round(plan.attention_ratio, 3),
        "warnings": list(plan.warnings),
    }


def _reported(segment: Segment) -> dict[str, Any]:
    values = segment._asdict()
    loras = [tag._asdict() for tag in values.pop("loras")]
    return values | ({"loras": loras} if loras else {})


def _check_images(clip: ClipGraph, is_5b: bool) -> None:
    names = ("start_image", "previous", "previous_latent", "anchor", "end_image")
    if not is_5b and not any(name in clip.above[clip.prepare]["inputs"] for name in names):
        raise InvalidInput(
            "Prepare Latent must have a start image for a long video: a text to video pair cannot go on from a frame."
        )


def _check_end(clip: ClipGraph) -> None:
    given = clip.above[clip.prepare]["inputs"]
    start, end = (_source(clip, given.get(name)) for name in ("start_image", "end_image"))
    if end not in (None, start):
        raise InvalidInput(
            "colour_reference must be clip before where Prepare Latent has an end image: the video ends with its "
            "colours."
        )


def _source(clip: ClipGraph, link: Any) -> Any:
    """What a link brings: two nodes with the same inputs bring the same."""
    return {**clip.above[link[0]], "output": link[1]} if is_link(link) else None


def _number(clip: ClipGraph, name: str, key: str) -> int:
    """A widget's value. What a link brings is not known, since that node does not run by itself."""
    value = clip.above[name]["inputs"].get(key)
    if is_link(value) or not isinstance(value, int):
        instead = "lengths" if key == "length" else "seeds"
        raise InvalidInput(f"{key} must be typed in and not linked for a long video; or use {instead} of Long Video.")
    return value
