"""Node: decode a segment and put it after those before, in a file and not in memory."""

from __future__ import annotations

import json
import re
from typing import Any

import comfy.utils
from comfy_api.latest import io

from .engine.video.colour_drift import CLIP_BEFORE, COLOUR_REFERENCES
from .engine.video.joined_clip import JOINS
from .engine.video.long_clip import LongClip, add_segment

Segments = io.Custom("WAN_RELAY_SEGMENTS")
"""The link from one Add Segment to the next: a `LongClip`."""

NUMBER = re.compile(r"\.(\d+)\.segment$")
"""The end of the names that Long Video gives; other nodes that expand to a graph give others."""


class AddSegment(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_AddSegment",
            display_name="Wan Relay: Add Segment",
            category="wan relay",
            has_intermediate_output=True,  # so that a cached run still says what it did, in the history
            description=(
                "Decodes one more segment of a long video, brings its colours to those of the frames before, and joins "
                "it to them. The frames lie in a file, not in memory. Long Video makes one for each segment."
            ),
            search_aliases=["vae decode", "long video", "extend video", "segment", "join clips"],
            inputs=[
                io.Latent.Input("latent", tooltip="The finished latent of this segment."),
                io.Vae.Input("vae", tooltip="wan_2.1_vae for the A14B experts, wan2.2_vae for TI2V-5B."),
                Segments.Input("previous", optional=True, tooltip="The segments before; empty for the first one."),
                io.Int.Input(
                    "overlap",
                    default=1,
                    min=1,
                    max=33,
                    step=4,
                    tooltip="Frames that two segments share: this one begins with the last ones of those before.",
                ),
                io.Combo.Input(
                    "join",
                    options=list(JOINS),
                    default="drop",
                    tooltip="The shared frames: drop leaves out this segment's, cross-fade blends both.",
                ),
                io.Boolean.Input(
                    "match_colour",
                    default=True,
                    tooltip="One gain and one offset a channel for the whole segment, measured on the shared frames.",
                ),
                io.Boolean.Input(
                    "finish",
                    default=True,
                    tooltip="Off where more segments follow: images then lacks the frames that the next one shares.",
                ),
                io.String.Input(
                    "report", optional=True, force_input=True, tooltip="The report of this segment's Sample."
                ),
                io.Combo.Input(
                    "colour_reference",
                    options=list(COLOUR_REFERENCES),
                    default=CLIP_BEFORE,
                    optional=True,
                    tooltip="What match_colour goes by. first frame: each segment also ends with the brightness and "
                    "contrast of the first frame of the video, so that a drift does not grow. For videos that stay in "
                    "one place.",
                ),
            ],
            outputs=[
                Segments.Output("segments", tooltip="For the next Add Segment."),
                io.Image.Output("tail", tooltip="The last frames, for start_image of the next segment."),
                io.Image.Output("images", tooltip="All frames so far, for Save Video."),
                io.String.Output("report", tooltip="The first segment's report, with a list of all segments."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        vae: Any,
        overlap: int,
        join: str,
        match_colour: bool,
        finish: bool,
        previous: LongClip | None = None,
        report: str | None = None,
        colour_reference: str = CLIP_BEFORE,
    ) -> io.NodeOutput:
        clip = add_segment(latent, vae, report, previous, overlap, join, match_colour, colour_reference)
        cls._show_progress()
        settled = 0 if finish else clip.joined.num_frames
        images = clip.joined.file.frames(settled) if settled else clip.joined.images()
        note = clip.joined.colours.note
        details = {**clip.reports[-1], "segment": len(clip.reports), "warnings": [note] if note else []}
        outputs = (clip, clip.joined.tail, images, json.dumps(clip.report))
        return io.NodeOutput(*outputs, ui={"wan_relay": [details]})

    @classmethod
    def _show_progress(cls) -> None:
        """On Long Video's own bar: how many of its segments are done."""
        prompt, own = cls.hidden and cls.hidden.dynprompt, cls.hidden and cls.hidden.unique_id
        parent, number = prompt and prompt.get_parent_node_id(own), NUMBER.search(str(own))
        if not parent or not number:
            return
        segments = [
            name
            for name in sorted(prompt.all_node_ids())
            if prompt.get_parent_node_id(name) == parent
            and prompt.get_node(name)["class_type"] == "WanRelay_AddSegment"
        ]
        comfy.utils.ProgressBar(len(segments), node_id=parent).update_absolute(int(number[1]))
