import asyncio
import json
import math
import re
from pathlib import Path

import av
import folder_paths
import pytest
import torch
from comfy.cli_args import args
from comfy.model_management import InterruptProcessingException, interrupt_current_processing
from comfy_api.latest import io
from PIL import Image
from wan_relay.nodes.rules.errors import InvalidInput, VideoNotSaved
from wan_relay.nodes.save_video import SaveVideo
from wan_relay.tests.engine.video.read_video import read_images, read_sound

pytestmark = pytest.mark.comfy

PROMPT = {
    "9": {"class_type": "WanRelay_SaveVideo", "inputs": {"filename_prefix": "a } b { c"}},
    "4": {"class_type": "WanRelay_Sample", "inputs": {"seed": 2**63 + 11, "scheduler": "../simple"}},
    "5": {"class_type": "PrimitiveString", "inputs": {"value": "夜" * 300}, "_meta": {"title": "Scene"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 9, "type": "WanRelay_SaveVideo", "title": 'quoted " and \\ brace {'},
        {"id": 4, "type": "WanRelay_Sample", "properties": {"Node name for S&R": "my sampler"}},
    ],
    "version": 0.4,
}
REPORT = {"seed": 2**63 + 11, "switch_step": 2, "sigmas": [1.0, 0.9375, 0.8333, 0.625, 0.0]}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def save(num_frames: int = 5, images: torch.Tensor | None = None, **inputs):
    """Run the node as ComfyUI does, with the hidden values of a prompt."""
    hidden = {
        io.Hidden.prompt: PROMPT,
        io.Hidden.extra_pnginfo: {"workflow": WORKFLOW},
        io.Hidden.unique_id: "9",
    }
    images = torch.rand(num_frames, 32, 48, 3) if images is None else images
    defaults = {"fps": 16.0, "filename_prefix": "video/clip", "format": "mp4 h264", "crf": 19, "bit_depth": "8"}
    return SaveVideo.PREPARE_CLASS_CLONE({"hidden_inputs": hidden}).execute(images=images, **(defaults | inputs))


def files(output: Path) -> list[str]:
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


def tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key.lower(): text for key, text in container.metadata.items()}


def test_the_history_item_says_all_about_the_file(output):
    result = save(fps=23.976, report=json.dumps(REPORT))
    path = output / "video" / "clip_00001_.mp4"
    assert files(output) == ["video/clip_00001_.mp4"]
    assert result.ui == {
        "images": [
            {
                "filename": "clip_00001_.mp4",
                "subfolder": "video",
                "type": "output",
                "format": "video/mp4",
                "fps": 24000 / 1001,
                "frame_count": 5,
                "width": 48,
                "height": 32,
                "duration": 5 * 1001 / 24000,
                "seed": REPORT["seed"],
            }
        ],
        "animated": (True,),
        "wan_relay": [
            {
                "codec": "h264",
                "crf": 19,
                "bytes": path.stat().st_size,
                "warnings": [],
                "last_frame": {"filename": "wan_relay_last_frame_00001_.png", "subfolder": "", "type": "temp"},
            }
        ],
    }
    json.dumps(result.ui)


def test_names_of_any_language_are_kept(output):
    save(filename_prefix="视频　夜景/👩‍🚀")
    assert files(output) == ["视频　夜景/👩‍🚀_00001_.mp4"]


def test_the_date_is_filled_in(output):
    save(filename_prefix="video/%date:yyyy%/%width%")
    [path] = files(output)
    assert re.fullmatch(r"video/20\d\d/48_00001_\.mp4", str(path))


@pytest.mark.parametrize("node", ["my sampler", "WanRelay_Sample", "Sample"])
def test_widgets_of_the_graph_are_filled_in(output, node):
    result = save(filename_prefix=f"%{node}.scheduler%/%{node}.seed%_%Scene.none%_%width%")
    assert files(output) == ["../simple".replace("/", "_") + f"/{2**63 + 11}_%Scene.none%_48_00001_.mp4"]
    assert result.ui["wan_relay"][0]["warnings"] == []


def test_a_widget_that_makes_the_name_too_long_is_cut_and_the_video_is_saved(output):
    result = save(filename_prefix="video/%Scene.value%")
    assert files(output) == [f"video/{'夜' * 66}_00001_.mp4"]
    assert result.ui["wan_relay"][0]["warnings"] == [f"filename_prefix was cut to 200 bytes at '{'夜' * 40}'."]


@pytest.mark.parametrize("hidden", [{}, {io.Hidden.prompt: {}, io.Hidden.extra_pnginfo: "not a graph"}])
def test_without_a_graph_the_widgets_names_stay(output, hidden):
    node = SaveVideo.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "9", **hidden}})
    images = torch.rand(2, 32, 48, 3)
    node.execute(images, fps=16.0, filename_prefix="%Sample.seed%", format="mp4 h264", crf=19, bit_depth="8")
    assert files(output) == ["%Sample.seed%_00001_.mp4"]


@pytest.mark.parametrize(
    ("frame_order", "drop_last_frame", "expected"),
    [
        ("reverse", False, [4, 3, 2, 1, 0]),
        ("ping-pong", False, [0, 1, 2, 3, 4, 3, 2, 1]),
        ("forward", True, [0, 1, 2, 3]),
        ("reverse", True, [3, 2, 1, 0]),
    ],
)
def test_the_order_of_the_frames(output, frame_order, drop_last_frame, expected):
    images = torch.linspace(0.1, 0.9, 5).reshape(5, 1, 1, 1).expand(5, 32, 48, 3)
    saved = save(images=images, fps=10.0, frame_order=frame_order, drop_last_frame=drop_last_frame)
    read = read_images(output / "video" / "clip_00001_.mp4").mean(dim=(1, 2, 3))
    assert read.tolist() == pytest.approx(images[expected, 0, 0, 0].tolist(), abs=0.01)
    (item,) = saved.ui["images"]
    assert (item["frame_count"], item["fps"], item["duration"]) == (len(expected), 10.0, len(expected) / 10)


def test_sound_runs_forward_under_a_reversed_video_and_is_cut_to_its_length(output):
    rising = torch.linspace(-0.5, 0.5, 44100).repeat(1, 1, 1)
    save(frame_order="reverse", drop_last_frame=True, audio={"waveform": rising, "sample_rate": 44100})
    sound, rate = read_sound(output / "video" / "clip_00001_.mp4")
    half = sound.shape[1] // 2
    assert sound.shape[1] / rate == pytest.approx(4 / 16, abs=0.05)
    assert sound[0, :half].mean() < sound[0, half : round(rate / 4)].mean()


def test_a_single_image_is_no_loop(output):
    with pytest.raises(InvalidInput, match="drop_last_frame needs at least 2 images; got 1"):
        save(1, drop_last_frame=True)
    assert files(output) == []


def test_the_output_is_the_saved_file_as_a_video(output):
    images = torch.full((5, 32, 48, 3), 0.25)
    video, last_frame = save(images=images).result
    assert torch.equal(last_frame, images[-1:])
    assert video.get_dimensions() == (48, 32)
    components = video.get_components()
    assert components.images.shape == images.shape
    assert (components.images - images).abs().max() < 0.01
    assert components.frame_rate == 16


def test_a_second_save_takes_the_next_number(output):
    for _ in range(2):
        save()
    save(format="webm vp9", crf=30)
    assert files(output) == ["video/clip_00001_.mp4", "video/clip_00002_.mp4", "video/clip_00003_.webm"]


@pytest.mark.parametrize("chosen", ["mp4 h264", "webm vp9"])
def test_the_workflow_and_the_report_travel_with_the_file(output, chosen):
    save(format=chosen, report=json.dumps(REPORT))
    found = tags(output / files(output)[0])
    assert json.loads(found["workflow"]) == WORKFLOW
    assert json.loads(found["prompt"]) == PROMPT
    assert json.loads(found["wan_relay"]) == REPORT
    # the frontend's webm reader counts braces without looking at quotes
    assert found["workflow"].count("{") == found["workflow"].count("}") == 4


def test_disable_metadata_leaves_the_file_bare(output, monkeypatch):
    monkeypatch.setattr(args, "disable_metadata", True)
    result = save(report=json.dumps(REPORT))
    assert not {"workflow", "prompt", "wan_relay"} & set(tags(output / "video" / "clip_00001_.mp4"))
    assert result.ui["images"][0]["seed"] == REPORT["seed"]


@pytest.mark.parametrize("report", ["", "seed 5", "[1, 2]", "null"])
def test_a_report_that_cannot_be_read_costs_a_warning_only(output, report):
    result = save(report=report)
    assert result.ui["images"][0]["seed"] is None
    assert result.ui["wan_relay"][0]["warnings"] == [
        "report was not the JSON text of Wan Relay: Sample and was left out; seed is unknown."
    ]
    assert "wan_relay" not in tags(output / "video" / "clip_00001_.mp4")


def test_what_was_changed_is_said(output):
    result = save(images=torch.rand(2, 31, 47, 4))
    assert result.ui["wan_relay"][0]["warnings"] == [
        "images of 47x31 were padded to 48x32: sides must be even.",
        "the transparency of images was dropped: mp4 h264 has none, webm vp9 keeps it.",
    ]
    assert (result.ui["images"][0]["width"], result.ui["images"][0]["height"]) == (48, 32)


def test_sound_is_saved_beside_the_frames(output):
    save(audio={"waveform": torch.rand(1, 2, 44100) - 0.5, "sample_rate": 44100})
    with av.open(str(output / "video" / "clip_00001_.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_a_cancelled_prompt_leaves_no_file(output):
    interrupt_current_processing()
    with pytest.raises(InterruptProcessingException):
        save()
    assert files(output) == []


def test_a_folder_that_cannot_be_made_is_said_in_words(output):
    (output / "video").symlink_to(output / "nowhere")
    with pytest.raises(VideoNotSaved, match="The video was not saved in video: "):
        save()


@pytest.mark.parametrize("inputs", [{"crf": 0}, {"bit_depth": "10"}])
def test_h264_that_browsers_cannot_play_is_said(output, inputs):
    (warning,) = save(**inputs).ui["wan_relay"][0]["warnings"]
    assert "does not play in browsers" in warning


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"filename_prefix": "../out"}, "filename_prefix must stay inside the output folder; got '../out'."),
        ({"filename_prefix": "/etc/clip"}, "filename_prefix must stay inside the output folder; got '/etc/clip'."),
        ({"filename_prefix": "a\ud800"}, "filename_prefix must not hold control characters; got 'a\\ud800'."),
        ({"filename_prefix": "a\n"}, "filename_prefix must not hold control characters; got 'a\\n'."),
        (
            {"filename_prefix": "%Sample.seed%\0"},
            "filename_prefix must not hold control characters; got '%Sample.seed%\\x00'.",
        ),
        ({"filename_prefix": ""}, "filename_prefix must end in a file name of 1 to 200 bytes; got ''."),
        (
            {"filename_prefix": "夜" * 67},
            f"filename_prefix must end in a file name of 1 to 200 bytes; got '{'夜' * 67}'.",
        ),
        (
            {"filename_prefix": f"{'夜' * 86}/clip"},
            f"filename_prefix must have folder names of at most 255 bytes; got one of 258, '{'夜' * 40}'.",
        ),
        (
            {"filename_prefix": "folder/" * 600 + "clip"},
            f"filename_prefix leads to a path that cannot be written (File name too long); got '{'folder/' * 11}fol'.",
        ),
        (
            {"filename_prefix": "a_file/more/clip"},
            "filename_prefix leads to a path that cannot be written (Not a directory); got 'a_file/more/clip'.",
        ),
    ],
)
def test_names_that_cannot_work_are_refused_at_queue_time_and_when_linked(output, inputs, words):
    (output / "a_file").touch()
    assert SaveVideo.validate_inputs("video/clip") is True
    assert SaveVideo.validate_inputs(**inputs) == words
    assert SaveVideo.validate_inputs(None) is True
    assert SaveVideo.validate_inputs(3) is True
    with pytest.raises(InvalidInput) as raised:
        save(**inputs)
    assert str(raised.value) == words
    assert files(output) == ["a_file"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"fps": math.nan}, "fps must be 1 to 480; got nan."),
        ({"fps": 481.0}, "fps must be 1 to 480; got 481.0."),
        ({"format": "avi"}, "format must be one of mp4 h264, mp4 h265, mp4 av1, webm vp9, webm av1; got 'avi'."),
        ({"encoder_preset": "slow"}, "encoder_preset must be one of fast, balanced, small; got 'slow'."),
        ({"frame_order": "back"}, "frame_order must be one of forward, reverse, ping-pong; got 'back'."),
        ({"bit_depth": "12"}, "bit_depth must be 8 or 10; got '12'."),
    ],
)
def test_linked_values_that_cannot_work_are_refused_when_they_arrive(output, inputs, words):
    with pytest.raises(InvalidInput) as raised:
        save(**inputs)
    assert str(raised.value) == words
    assert files(output) == []


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"fps": 481.0}, "fps"),
        ({"crf": 64}, "crf"),
        ({"format": "avi"}, "format"),
        ({"bit_depth": "12"}, "bit_depth"),
        ({"encoder_preset": "slow"}, "encoder_preset"),
        ({"frame_order": "back"}, "frame_order"),
        ({"videos": 0}, "videos"),
        ({"filename_prefix": "../out"}, "filename_prefix"),
    ],
)
def test_a_refusal_at_queue_time_is_one_and_names_the_field_at_fault(output, monkeypatch, inputs, field):
    import execution

    import nodes

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "WanRelay_SaveVideo", SaveVideo)
    given = {"fps": 16.0, "filename_prefix": "clip", "format": "mp4 h264", "crf": 19, "bit_depth": "8"}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
        "2": {"class_type": "WanRelay_SaveVideo", "inputs": given | {"images": ["1", 0]} | inputs},
    }
    is_valid, errors, _ = asyncio.run(execution.validate_inputs("job", prompt, "2", {}))
    assert not is_valid
    assert [error["extra_info"]["input_name"] for error in errors] == [field]


def test_a_crf_or_bit_depth_that_the_format_lacks_costs_a_warning_only(output):
    details = save(crf=60).ui["wan_relay"][0]
    assert (details["crf"], details["warnings"][0]) == (51, "crf for mp4 h264 is 0 to 51, not 60: 51 is used.")
    details = save(format="webm vp9", crf=30, bit_depth="10").ui["wan_relay"][0]
    assert details["warnings"] == [
        "bit_depth 10 is not possible with webm vp9 here (libvpx-vp9 takes 8 bit only): 8 is used."
    ]


def test_each_video_of_a_batch_is_a_file_of_its_own(output):
    grey = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    images = grey.reshape(6, 1, 1, 1).expand(6, 32, 48, 3)
    saved = save(images=images, videos=2, frame_order="reverse", report=json.dumps(REPORT))
    assert files(output) == ["video/clip_00001_.mp4", "video/clip_00002_.mp4"]
    for name, expected in zip(files(output), ([0.3, 0.2, 0.1], [0.8, 0.7, 0.6]), strict=True):
        assert read_images(output / name).mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected, abs=0.01)
        assert json.loads(tags(output / name)["wan_relay"]) == REPORT
    told = [(item["filename"], item["frame_count"], item["seed"]) for item in saved.ui["images"]]
    assert told == [(f"clip_0000{n}_.mp4", 3, REPORT["seed"]) for n in (1, 2)]
    assert saved.ui["wan_relay"][0]["bytes"] == sum((output / name).stat().st_size for name in files(output))
    video, last_frames = saved.result
    assert video.get_frame_count() == 3
    assert last_frames[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.6])


@pytest.mark.parametrize("frame", [1, 4])
def test_a_batch_of_which_one_video_cannot_be_saved_leaves_no_file(output, frame):
    images = torch.rand(6, 32, 48, 3)
    images[frame, 0, 0, 0] = math.nan
    with pytest.raises(InvalidInput) as raised:
        save(images=images, videos=2)
    assert files(output) == []
    assert str(raised.value) == f"images: frame {frame + 1} of 6 holds NaN or infinite values; nothing was saved."


def test_frames_that_are_not_that_many_videos_stay_one_file_and_it_is_said(output):
    saved = save(5, videos=2)
    assert files(output) == ["video/clip_00001_.mp4"]
    assert saved.ui["wan_relay"][0]["warnings"] == [
        "videos is 2, and 5 frames are not 2 videos of equal length: they stay one video."
    ]


def test_the_last_frame_that_is_shown_lies_in_the_temp_folder_for_the_editor_alone(output):
    grey = torch.tensor([0.2, 0.5]).reshape(2, 1, 1, 1).expand(2, 32, 48, 3)
    picture = save(images=grey).ui["wan_relay"][0]["last_frame"]
    with Image.open(Path(folder_paths.get_temp_directory()) / picture["filename"]) as image:
        assert (image.size, image.getpixel((0, 0))) == ((48, 32), (128, 128, 128))
    node = SaveVideo.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "9", io.Hidden.prompt: {}}})
    given = {"fps": 16.0, "filename_prefix": "clip", "format": "mp4 h264", "crf": 19, "bit_depth": "8"}
    assert "last_frame" not in node.execute(images=grey, **given).ui["wan_relay"][0]
    assert len(list(Path(folder_paths.get_temp_directory()).iterdir())) == 1


@pytest.mark.parametrize(
    "prefix", ["%Scene.value%" * 40, "f" * 255 + "/" + "n" * 200, "%WanRelay_Sample.seed%/" * 50 + "x"]
)
def test_names_are_measured_without_what_only_the_run_fills_in(output, prefix):
    assert SaveVideo.validate_inputs(filename_prefix=prefix) is True
    save(filename_prefix=prefix)
    assert len(files(output)) == 1


def test_images_are_checked_before_the_encoder_starts(output):
    with pytest.raises(InvalidInput, match="images must be"):
        save(images=torch.rand(2, 32, 48, 2))
    assert files(output) == []


def test_a_cached_result_counts_only_while_its_file_is_there(output):
    node = SaveVideo.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "9"}})
    other = SaveVideo.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "10"}})
    first, elsewhere = node.fingerprint_inputs(fps=16.0), other.fingerprint_inputs(fps=16.0)
    save()
    assert node.fingerprint_inputs(fps=16.0) == first
    (output / "video" / "clip_00001_.mp4").unlink()
    second = node.fingerprint_inputs(fps=16.0)
    assert second != first
    save()
    assert node.fingerprint_inputs(fps=16.0) == second
    assert other.fingerprint_inputs(fps=16.0) == elsewhere
