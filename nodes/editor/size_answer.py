"""GET /wan_relay/size: what Prepare Latent would render, and Long Video of it, asked before anything runs."""

from collections.abc import Sequence
from typing import Any

import folder_paths

from ..engine.files.model_files import expert_file, maps_files
from ..rules.errors import FileRefused
from ..rules.files.safetensors_header import read_header
from ..rules.files.vae_file import is_ti2v_5b_vae
from ..rules.frames.batch_videos import MAX_VIDEOS
from ..rules.frames.frame_count import MAX_FPS, NATIVE_FPS, plan_length
from ..rules.frames.frame_size import (
    A14B_MULTIPLE,
    BUDGETS,
    TI2V_5B_BUDGETS,
    TI2V_5B_MULTIPLE,
    place_image,
    placement_changes,
    plan_size,
)
from ..rules.frames.interpolated_frames import MAX_FACTOR
from ..rules.frames.timeline import FramePlan, Given, Span, linked_frames, plan_frames
from ..rules.long_video.segment_plan import (
    LONGEST_SEGMENT,
    MAX_SEED,
    LongVideoPlan,
    check_prepared,
    plan_long_video,
    whole_numbers,
)
from ..rules.long_video.segment_timeline import plan_segments
from ..rules.relay.mistakes import latent_mistakes
from .questions import Query, kind_of, listed, number, read_inputs, required

MAX_IMAGE_SIDE = 65536
MAX_KEYFRAMES = 1025
MAX_PROMPTS = 65536  # more than MAX_SEGMENTS are refused in Long Video's own words
FIRST_FRAMES = ("start_image", "previous", "previous_latent", "anchor", "keyframes")


def size(query: Query) -> dict[str, Any]:
    """What WanRelay_PrepareLatent would render; image_width and image_height are those of the linked image.

    `changes` says what its report says in English sentences, for the panel to say in the user's language; `mistakes`
    what goes ill with the expert in `high_noise`, the VAE file in `vae`, the linked inputs, whose names the query has,
    the number of files that `videos` says are made, and that of the videos that Interpolate Frames takes the batch for,
    `interpolated_videos`. `keyframes` are frame numbers with commas between them; `drop_last_frame` is Save Video's.
    `crop` is the part of the image that stays where `fit` cuts some off: left, top, width and height in percent of it.
    With `segment_length` and `segment_overlap` of Long Video, its `lengths` and `seeds` and the number of its prompts,
    `segments` has the frames of each segment, and the length is that of all. `fps` is the rate of these frames alone:
    that of the file without the factor of Interpolate Frames.
    """
    names = ("sizing", "width", "height", "fit", "length", "batch_size", "crop_position")
    asked = read_inputs({"crop_position": "center", **query}, "WanRelay_PrepareLatent", names)
    videos = number(query.get("videos", "1"), "videos", int, 1, MAX_VIDEOS)
    interpolated = query.get("interpolated_videos")
    interpolated_videos = number(interpolated, "interpolated_videos", int, 1, MAX_VIDEOS) if interpolated else None
    fps = number(query.get("fps", str(NATIVE_FPS)), "fps", float, 1 / MAX_FACTOR, MAX_FPS)
    image_size = None
    if "image_width" in query or "image_height" in query:
        of_image = ("image_width", "image_height")
        sides = [number(required(query, name), name, int, 1, MAX_IMAGE_SIDE) for name in of_image]
        image_size = sides[0], sides[1]
    is_5b_vae = _is_5b_vae(query["vae"]) if "vae" in query else None
    multiple = TI2V_5B_MULTIPLE if is_5b_vae else A14B_MULTIPLE
    frame = plan_size(asked["width"], asked["height"], asked["sizing"], image_size, multiple)
    given, is_5b = _given(query), bool(is_5b_vae) and "end_image" not in query
    long_video = _long_video(query, asked["length"], asked["batch_size"], given) if "segment_length" in query else None
    count = plan_length(long_video.num_frames if long_video else asked["length"], fps)
    if long_video and whole_numbers("lengths", query.get("lengths", ""), LONGEST_SEGMENT):
        asked["length"] = count["length"]  # Long Video says it, and Prepare Latent's does not count
    frames, spans = _planned(long_video, given, count["length"], is_5b)
    used = {"width": frame["width"], "height": frame["height"], "length": count["length"]}
    snapped = ("length",) if asked["sizing"] == "match image" and image_size else ("width", "height", "length")
    changes: list[dict[str, Any]] = [
        {"change": name, "asked": asked[name], "used": used[name], "multiple": multiple}
        for name in snapped
        if asked[name] != used[name]
    ]
    changes += frames.changes
    crop = None
    if image_size:
        placed = place_image(*image_size, used["width"], used["height"], asked["fit"], asked["crop_position"])
        crop = placed.crop_percent(used["width"], used["height"])
        for change, percent in placement_changes(image_size, used["width"], used["height"], asked["fit"]):
            changes.append({"change": change, "percent": round(percent, 1)})
    return {
        "image_width": image_size and image_size[0],
        "image_height": image_size and image_size[1],
        **used,
        "fit": asked["fit"],
        "batch_size": asked["batch_size"],
        "duration_s": count["duration_s"],
        "fps": fps,
        "timeline": spans,
        "segments": [segment.length for segment in long_video.segments] if long_video else [],
        "overlap": long_video.overlap if long_video else 0,
        "budgets": TI2V_5B_BUDGETS if is_5b_vae else BUDGETS,
        "crop": crop,
        "changes": changes,
        "mistakes": latent_mistakes(
            kind_of(listed(expert_file, "high_noise", query["high_noise"])) if "high_noise" in query else None,
            is_5b_vae,
            any(name in query for name in FIRST_FRAMES),
            "end_image" in query,
            int(asked["batch_size"]),
            query.get("loop") == "true" and query.get("drop_last_frame") == "false",
            videos,
            interpolated_videos,
        ),
    }


def _given(query: Query) -> Given:
    """What Prepare Latent is given, as far as the editor can tell."""
    asked = query["keyframes"].split(",")[:MAX_KEYFRAMES] if query.get("keyframes") else []
    keyframes = tuple(int(number(frame, "keyframes", int, -MAX_IMAGE_SIDE, MAX_IMAGE_SIDE)) for frame in asked)
    names = tuple(name for name in ("overlap", "padding") if name in query)
    settings = read_inputs(query, "WanRelay_PrepareLatent", names) | linked_frames(query)
    return Given(keyframes=keyframes, loop=query.get("loop") == "true", **settings)


def _planned(
    long_video: LongVideoPlan | None, given: Given, length: int, is_5b: bool
) -> tuple[FramePlan, Sequence[Span]]:
    if long_video:
        return plan_segments(long_video, given, is_5b)
    frames = plan_frames(given, length, is_5b)
    return frames, frames.spans


def _long_video(query: Query, length: int, batch_size: int, given: Given) -> LongVideoPlan:
    """The segments that Long Video would make of it: prompts and seeds do not count, only how many there are."""
    check_prepared(batch_size, bool(given.keyframes))
    num_prompts = number(query.get("num_prompts", "0"), "num_prompts", int, 0, MAX_PROMPTS)
    return plan_long_video(
        length,
        number(query["segment_length"], "segment_length", int, 5, LONGEST_SEGMENT),
        number(required(query, "segment_overlap"), "segment_overlap", int, 1, 33),
        0,
        [""] * num_prompts,
        whole_numbers("seeds", query.get("seeds", ""), MAX_SEED),
        whole_numbers("lengths", query.get("lengths", ""), LONGEST_SEGMENT),
    )


def _is_5b_vae(file: str) -> bool | None:
    """Whether the VAE file is TI2V-5B's; None where nothing tells: the VAELoader also offers names of no files."""
    if file not in folder_paths.get_filename_list("vae"):
        return None
    try:
        return is_ti2v_5b_vae(read_header(folder_paths.get_full_path_or_raise("vae", file), maps_files()))
    except FileRefused:
        return None
