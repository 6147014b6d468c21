"""Node: save images as a video file that is complete, colour-correct and knows its seed."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import InputImpl, io, ui

from .engine.files.whole_file import not_saved, save_whole, whole_or_none
from .engine.video.saved_files import SavedFiles
from .engine.video.sound import SoundTrack
from .engine.video.video_file import VideoSpec, check_images, encode_video, even_size
from .engine.video.video_format import (
    ENCODER_PRESETS,
    FORMATS,
    check_preset,
    fitted_encoding,
    frame_rate,
    video_format,
)
from .engine.video.video_tags import file_tags
from .frame_inputs import videos_input
from .rules.errors import InvalidInput
from .rules.files.save_name import check_name, fill_name
from .rules.files.widget_value import widget_value
from .rules.frames.batch_videos import frames_of_videos
from .rules.frames.frame_count import MAX_FPS
from .rules.frames.frame_order import FRAME_ORDERS, frames_in_order

SAVED = SavedFiles()
ADDED_TO_NAME = 44  # bytes, at most: a number and a suffix, or the name while the file is written


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_SaveVideo",
            display_name="Wan Relay: Save Video",
            category="wan relay",
            description="Writes images as a video with exact BT.709 colours. The file appears when it is complete, "
            "and carries the workflow and the sampling report.",
            search_aliases=["save video", "export video", "video combine", "mp4", "webm", "h264", "h265", "av1", "vp9"],
            inputs=[
                io.Image.Input(
                    "images", tooltip="The frames. A fourth channel is kept as transparency by webm vp9, else dropped."
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=float(MAX_FPS),
                    step=0.001,
                    tooltip="Frames per second. Wan2.2 A14B makes 16, TI2V-5B 24. 23.976 means exactly 24000/1001.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/wan_relay",
                    tooltip="Folder and name under the output folder; a number is added. %Sample.seed% (any node, any "
                    "widget), %date:yyyy-MM-dd%, %width% and the like are filled in.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="mp4 h264",
                    tooltip="Container and codec. mp4 h264 plays everywhere; the others are smaller and slow to write.",
                ),
                io.Int.Input(
                    "crf",
                    default=19,
                    min=0,
                    max=63,
                    tooltip="Quality: lower is better and larger. h264 and h265 take 0-51, av1 1-63, vp9 0-63.",
                ),
                io.Combo.Input(
                    "bit_depth",
                    options=["8", "10"],
                    default="8",
                    advanced=True,
                    tooltip="10 keeps smoother gradients (h264, h265, av1). Browsers do not play 10-bit h264.",
                ),
                io.Combo.Input(
                    "encoder_preset",
                    options=list(ENCODER_PRESETS),
                    default="balanced",
                    optional=True,
                    advanced=True,
                    tooltip="How long the encoder searches: fast writes soon and larger, small slowly and smaller.",
                ),
                io.Combo.Input(
                    "frame_order",
                    options=list(FRAME_ORDERS),
                    default="forward",
                    optional=True,
                    advanced=True,
                    tooltip="reverse plays backwards; ping-pong there and back, which repeats without a jump.",
                ),
                io.Boolean.Input(
                    "drop_last_frame",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="For a loop whose end image is its start image: the last frame is the first one again.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound, cut to the length of the video. It runs forward in every frame_order.",
                ),
                io.String.Input(
                    "report",
                    optional=True,
                    force_input=True,
                    tooltip="The report of Wan Relay: Sample. Its seed and settings go into the file and the history.",
                ),
                videos_input("Each is a file of its own."),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The saved file; of several, the first."),
                io.Image.Output("last_frame", tooltip="The last frame of each video, to go on from."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuses a name under which nothing could be saved; a linked one (None here) when it arrives.

        ComfyUI shows a refusal once for every input that is named here, and then holds none of these to its range or
        its choices: so this names one.
        """
        try:
            if isinstance(filename_prefix, str):
                _check_prefix(filename_prefix)
        except InvalidInput as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        return SAVED.token(str(cls.hidden.unique_id))

    @classmethod
    def execute(
        cls,
        images: torch.Tensor,
        fps: float,
        filename_prefix: str,
        format: str,
        crf: int,
        bit_depth: str,
        encoder_preset: str = "balanced",
        frame_order: str = "forward",
        drop_last_frame: bool = False,
        audio: dict | None = None,
        report: str | None = None,
        videos: int = 1,
    ) -> io.NodeOutput:
        check_images(images)
        _check_prefix(filename_prefix)
        check_preset(encoder_preset)
        crf, depth, fitted = fitted_encoding(format, crf, bit_depth)
        parts, shared_out = frames_of_videos(len(images), videos)
        order = frames_in_order(parts[0].stop, frame_order, drop_last_frame)
        spec = VideoSpec(video_format(format), frame_rate(fps), crf, depth, encoder_preset)
        duration = len(order) / spec.rate
        sound = SoundTrack(audio, duration) if audio is not None else None
        facts, unread = _read_report(report)
        filled_prefix, cut = fill_name(filename_prefix, cls._widget_value)
        warnings = [*unread, *fitted, *shared_out, *_changes(images, spec, format), *cut]

        width, height = even_size(images)
        folder, name, number, subfolder = _place(filled_prefix, width, height)
        progress = comfy.utils.ProgressBar(len(order) * len(parts))
        tags = {} if args.disable_metadata else file_tags(cls._sent_along(), cls.hidden.prompt, facts)

        def on_frame(done: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update(1)

        def save(part: slice) -> Path:
            shown = [part.start + index for index in order]
            return save_whole(
                folder,
                lambda count: f"{name}_{count:05}_.{spec.format.container}",
                number,
                lambda unfinished: encode_video(unfinished, images, spec, sound, tags, on_frame, shown),
            )

        paths = whole_or_none(*(partial(save, part) for part in parts))
        for path in paths:
            SAVED.add(str(cls.hidden.unique_id), path)
        items = [
            {
                **ui.SavedResult(path.name, subfolder, io.FolderType.output),
                "format": f"video/{spec.format.container}",
                "fps": float(spec.rate),
                "frame_count": len(order),
                "width": width,
                "height": height,
                "duration": float(duration),
                "seed": facts.get("seed"),
            }
            for path in paths
        ]
        last_frames = torch.stack([images[part][order[-1]] for part in parts])
        details = {
            "codec": format.split()[1],
            "crf": crf,
            "bytes": sum(path.stat().st_size for path in paths),
            "warnings": warnings,
            **cls._shown_last_frame(last_frames[-1:]),
        }
        shown = {"images": items, "animated": (True,), "wan_relay": [details]}
        return io.NodeOutput(InputImpl.VideoFromFile(str(paths[0])), last_frames, ui=shown)

    @classmethod
    def _shown_last_frame(cls, last_frame: torch.Tensor) -> dict[str, Any]:
        """For the editor, which offers to go on from it: the last frame as a picture in the temp folder."""
        if "workflow" not in cls._sent_along() or last_frame.shape[3] < 3:
            return {}
        rounded = last_frame[..., :3] + 0.5 / 255  # core's helper cuts off what is below a whole level
        try:
            [picture] = ui.ImageSaveHelper.save_images(
                rounded, "wan_relay_last_frame", io.FolderType.temp, cls=None, compress_level=1
            )
        except OSError:
            return {}
        return {"last_frame": picture}

    @classmethod
    def _sent_along(cls) -> dict[str, Any]:
        """What came beside the prompt, the editor's `workflow` first; a client may send anything there."""
        sent = cls.hidden.extra_pnginfo
        return sent if isinstance(sent, dict) else {}

    @classmethod
    def _widget_value(cls, node: str, widget: str) -> str | None:
        return widget_value(cls.hidden.prompt or {}, cls._sent_along().get("workflow"), node, widget)


def _read_report(report: str | None) -> tuple[dict[str, Any], list[str]]:
    """The report as a dict, and warnings: one that cannot be read must not cost the finished frames."""
    if report is None:
        return {}, []
    try:
        facts = json.loads(report)
    except (TypeError, ValueError):
        facts = None
    if isinstance(facts, dict):
        return facts, []
    return {}, ["report was not the JSON text of Wan Relay: Sample and was left out; seed is unknown."]


def _changes(images: torch.Tensor, spec: VideoSpec, format: str) -> list[str]:
    """What the video will not hold as it came, one sentence each."""
    warnings = []
    (width, height), (from_height, from_width) = even_size(images), images.shape[1:3]
    if (from_width, from_height) != (width, height):
        warnings.append(f"images of {from_width}x{from_height} were padded to {width}x{height}: sides must be even.")
    if images.shape[3] == 4 and not spec.keeps_alpha(4):
        warnings.append(f"the transparency of images was dropped: {format} has none, webm vp9 keeps it.")
    if spec.format.encoder == "libx264" and (spec.bit_depth == 10 or spec.crf == 0):
        warnings.append(
            f"{spec.bit_depth}-bit h264 at crf {spec.crf} does not play in browsers; 8 bit at crf 1 or more does."
        )
    return warnings


def _place(filename_prefix: str, width: int, height: int) -> tuple[Path, str, int, str]:
    """Folder, name, first number to try, and the folder below the output folder."""
    try:
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
    except OSError as error:
        raise not_saved(os.path.dirname(filename_prefix), error) from error
    return Path(folder), name, number, subfolder


def _check_prefix(filename_prefix: str) -> None:
    """Refuse what could not be saved, as far as that shows before widgets are filled in: a digit stands for each."""
    draft, _ = fill_name(filename_prefix, lambda node, widget: "0")
    check_name(draft)
    output = folder_paths.get_output_directory()
    folder, name = os.path.split(os.path.normpath(draft))
    if not folder_paths.is_within_directory(output, os.path.join(output, folder)):
        raise InvalidInput(f"filename_prefix must stay inside the output folder; got {filename_prefix[:80]!r}.")
    try:
        os.lstat(os.path.join(output, folder, name + ADDED_TO_NAME * "_"))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InvalidInput(
            f"filename_prefix leads to a path that cannot be written ({error.strerror}); got {filename_prefix[:80]!r}."
        ) from None
