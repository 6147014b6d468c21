"""Node: clips one after the other, with colours that match where they meet."""

from __future__ import annotations

from typing import Any

import comfy.utils
from comfy_api.latest import io

from .engine.video.colour_drift import CLIP_BEFORE, COLOUR_REFERENCES, ColourRun
from .engine.video.joined_clip import JOINS, JoinedClip

MOST_CLIPS = 100


class JoinClips(io.ComfyNode):
    """All clips go into one file of frames, so that 20 of them take no more memory than two. A chain of nodes that
    join two each would keep every video in between, one in which each clip stands again: hence inputs that grow.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        clips = io.Autogrow.TemplatePrefix(io.Image.Input("clip"), prefix="clip_", min=2, max=MOST_CLIPS)
        return io.Schema(
            node_id="WanRelay_JoinClips",
            display_name="Wan Relay: Join Clips",
            category="wan relay",
            description=(
                "Puts clips one after the other, each of which begins with the last frames of the one before. Shared "
                "frames are shown once, and colours are brought to those of the clip before. The frames lie in a file, "
                "not in memory."
            ),
            search_aliases=[
                "join clips",
                "concat video",
                "combine clips",
                "batch images",
                "cross fade",
                "extend video",
            ],
            inputs=[
                io.Autogrow.Input("clips", template=clips, tooltip="The clips in their order, all of one size."),
                io.Int.Input(
                    "overlap",
                    default=1,
                    min=0,
                    max=100,
                    tooltip="Frames that two clips share: each begins with so many of the last ones of that before.",
                ),
                io.Combo.Input(
                    "join",
                    options=list(JOINS),
                    default="drop",
                    tooltip="The shared frames: drop shows them as the first clip has them, cross-fade blends both.",
                ),
                io.Boolean.Input(
                    "match_colour",
                    default=True,
                    tooltip="Each clip's colours are brought to those of the clip before: one gain and one offset a "
                    "channel, measured on the shared frames. Without shared frames nothing is changed.",
                ),
                io.Combo.Input(
                    "colour_reference",
                    options=list(COLOUR_REFERENCES),
                    default=CLIP_BEFORE,
                    optional=True,
                    tooltip="What match_colour goes by. first frame: each clip also ends with the brightness and "
                    "contrast of the first frame of the video, so that a drift does not grow. For videos that stay in "
                    "one place.",
                ),
            ],
            outputs=[io.Image.Output("images", tooltip="All frames, for Save Video.")],
        )

    @classmethod
    def execute(
        cls,
        clips: dict[str, Any],
        overlap: int,
        join: str,
        match_colour: bool,
        colour_reference: str = CLIP_BEFORE,
    ) -> io.NodeOutput:
        first, *others = clips.values()
        progress = comfy.utils.ProgressBar(len(clips))
        joined = JoinedClip.of(first, overlap, match_colour, colour_reference)
        changes = [joined.colours]
        progress.update(1)
        for clip in others:
            joined = joined.followed_by(clip, join, match_colour, colour_reference)
            changes.append(joined.colours)
            progress.update(1)
        details = {"length": joined.length, **_colour_report(changes)}
        details["warnings"] = list(dict.fromkeys(change.note for change in changes if change.note))
        return io.NodeOutput(joined.images(), ui={"wan_relay": [details]})


def _colour_report(changes: list[ColourRun]) -> dict[str, Any]:
    """`gain` and `offset` of every clip but the first; where changes run, `end_gain` and `end_offset` of all."""
    start = {name: [change.report[name] for change in changes[1:]] for name in ("gain", "offset")}
    if not any(change.end for change in changes):
        return start
    ends = [change.end or change.start for change in changes]
    return start | {
        f"end_{name}": [[round(value, 4) for value in getattr(end, name)] for end in ends]
        for name in ("gain", "offset")
    }
