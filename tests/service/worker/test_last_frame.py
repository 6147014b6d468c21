"""The last frame on its way out: in the answer where it fits, and never in the video's way."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.contract.video_request import VideoRequest, parse_request
from wan_relay.service.media.bucket import Bucket, UploadFailed
from wan_relay.service.worker import delivery, last_frame
from wan_relay.service.worker.delivery import answer_size
from wan_relay.service.worker.last_frame import NODE_ID, deliver_last_frame, find_last_frame
from wan_relay.service.worker.load_balancer import http_face
from wan_relay.service.worker.output_files import OutputFile
from wan_relay.service.worker.series_job import one_answer
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import SAVE, build_plan
from wan_relay.tests.service.worker.conftest import Bench

ANSWER = VideoAnswer(
    seed=1,
    width=64,
    height=64,
    length=5,
    fps=16,
    duration=0.3125,
    workflow="wan22_i2v_4step",
    format="video/mp4",
    warnings=[],
    timings=Timings(),
)
FRAME = OutputFile(b"p" * 300, ".png", {}, "last_frame.png")
BUCKET = Bucket("https://bucket.example", "id", "secret", "name")


def request(**fields: Any) -> VideoRequest:
    given = {"prompt": "x", "image_url": "https://example.com/a.png", "return_last_frame": True}
    return parse_request(given | fields)[0]


def delivered(
    budget: int, bucket: Bucket | None = None, frame: OutputFile | None = FRAME, **fields: Any
) -> VideoAnswer:
    return asyncio.run(deliver_last_frame(frame, ANSWER, request(**fields), budget, bucket, "job", 1))


LEAST = answer_size(ANSWER.model_copy(update={"last_frame": "cHBw" * 100})) + last_frame.WORDS


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    taken: list[tuple[Any, ...]] = []

    async def upload(bucket: Bucket, key: str, content: bytes, mime_type: str, timeout_s: float) -> str:
        if bucket.name == "full":
            raise UploadFailed("it answered 507")
        taken.append((key.partition("/")[2], content, mime_type))
        return "https://bucket.example/a.png"

    monkeypatch.setattr(delivery, "upload_video", upload)
    return taken


def test_it_is_base64_where_it_fits_and_goes_to_the_bucket_else(uploads: list[tuple[Any, ...]]) -> None:
    inline = delivered(LEAST, BUCKET)
    assert base64.b64decode(inline.last_frame or "") == FRAME.content
    assert (inline.last_frame_url, inline.warnings, uploads) == (None, [], [])
    for there in (delivered(LEAST - 1, BUCKET), delivered(LEAST, BUCKET, delivery="url")):
        assert (there.last_frame, there.last_frame_url) == (None, "https://bucket.example/a.png")
    (key, content, mime_type), _ = uploads
    assert key.startswith("job/")
    assert key.endswith(".png")
    assert (content, mime_type) == (FRAME.content, "image/png")


@pytest.mark.parametrize(
    ("bucket", "fields", "budget", "warning"),
    [
        (None, {}, LEAST - 1, "left out: no bucket is configured on this worker"),
        (None, {"delivery": "base64"}, LEAST - 1, "last_frame has 0.0 MB as base64 and was left out"),
        (None, {"delivery": "url"}, LEAST, "last_frame came as base64: no bucket is configured on this worker"),
        (
            Bucket("https://b.example", "i", "s", "full"),
            {},
            LEAST - 1,
            "left out: the bucket did not take it: it answered 507",
        ),
    ],
)
def test_what_cannot_be_delivered_is_a_warning(
    uploads: list[tuple[Any, ...]], bucket: Bucket | None, fields: dict[str, Any], budget: int, warning: str
) -> None:
    answer = delivered(budget, bucket, **fields)
    (said,) = answer.warnings
    assert said.endswith(warning)
    assert (answer.last_frame is not None) == ("came as base64" in warning)


def test_none_is_said_where_it_was_asked_for_alone() -> None:
    assert delivered(LEAST, frame=None).warnings == ["return_last_frame: ComfyUI saved no last frame"]
    assert delivered(LEAST, frame=None, return_last_frame=False) == ANSWER


def test_the_picture_is_found_without_the_workflow_in_it(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("prompt", "{}")
    (tmp_path / "output" / "job").mkdir(parents=True)
    Image.new("RGB", (4, 2), (1, 2, 3)).save(tmp_path / "output" / "job" / "a.png", pnginfo=notes)
    Image.new("RGB", (4, 2)).save(tmp_path / "outside.png")

    def found(**item: str) -> OutputFile | None:
        return find_last_frame({NODE_ID: {"images": [{"type": "output", **item}]}}, tmp_path / "output")

    frame = found(filename="a.png", subfolder="job")
    assert frame is not None
    with Image.open(io.BytesIO(frame.content)) as picture:
        assert (picture.size, picture.info, picture.getpixel((0, 0))) == ((4, 2), {}, (1, 2, 3))
    assert found(filename="b.png", subfolder="job") is None
    assert found(filename="outside.png", subfolder="..") is None
    assert find_last_frame({}, tmp_path) is None
    content = bytearray((tmp_path / "output" / "job" / "a.png").read_bytes())
    content[content.index(b"IDAT") + 1] = 0
    (tmp_path / "output" / "broken.png").write_bytes(content)
    assert found(filename="broken.png") is None


def test_the_workflow_saves_it_only_where_it_is_asked_for() -> None:
    plan = build_plan(request(), 7, "a.png", None, "own/video", Settings())
    assert plan.graph[NODE_ID]["inputs"]["filename_prefix"] == "own/video_last_frame"
    without = build_plan(request(return_last_frame=False), 7, "a.png", None, "own/video", Settings())
    assert without.graph == {key: node for key, node in plan.graph.items() if not key.startswith(NODE_ID)}


@pytest.mark.comfy
def test_the_picture_has_the_nearest_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By core's own nodes, the last of which cuts off what is below a whole level."""
    import folder_paths
    import torch
    from comfy_extras.nodes_dataset import NormalizeImagesNode

    import nodes

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    plan = build_plan(request(), 7, "a.png", None, "own", Settings())
    levels = torch.cat([torch.arange(256.0), torch.rand(256 * 47) * 255]).view(1, 64, 64, 3)
    run = {
        "ImageInvert": nodes.ImageInvert().invert,
        "NormalizeImages": lambda **inputs: NormalizeImagesNode.execute(**inputs).result,
        "SaveImage": nodes.SaveImage().save_images,
    }

    def made(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if value == [plan.node_id(SAVE), 1]:
            return levels / 255
        node = plan.graph[value[0]]
        return run[node["class_type"]](**{name: made(each) for name, each in node["inputs"].items()})[value[1]]

    run["SaveImage"](**{name: made(each) for name, each in plan.graph[NODE_ID]["inputs"].items()})
    with Image.open(next(tmp_path.glob("*.png"))) as picture:
        saved = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(levels.shape)
    assert (saved - levels).abs().max() <= 0.5 + 1e-3


def test_the_last_frame_of_another_workflow_is_refused(bench: Bench) -> None:
    sentence = "return_last_frame is for the bundled workflows; this one answers with what its own nodes save"
    [answer] = bench.answer(bench.graph_job(return_last_frame=True))
    assert answer == {"error": f"CONFLICT: {sentence} (return_last_frame)"}


def test_a_file_alone_is_no_answer_to_who_wants_the_last_frame_too() -> None:
    output = {"video": "AAAA", "format": "video/mp4", "seed": 1}
    answer = http_face._file(output)
    assert answer is not None
    assert answer.body == b"\0\0\0"
    frames: list[dict[str, Any]] = [
        {"last_frame": "x"},
        {"last_frame_url": "x"},
        {"warnings": ["last_frame was left out"]},
    ]
    for more in (*frames, {"videos": []}):
        assert http_face._file(output | more) is None


def test_a_series_lets_the_frame_go_before_the_video() -> None:
    answer = ANSWER.model_copy(update={"video": "v" * 2000, "last_frame": "f" * 1000})
    whole = answer_size(one_answer([1], [answer], None, 1.0, 100_000))
    for budget, left in ((whole, (True, True)), (whole - 1, (True, False)), (whole - 2000, (False, False))):
        told = one_answer([1], [answer], None, 1.0, budget)
        assert (told.video is not None, told.last_frame is not None) == left
        assert len(told.warnings) == 2 - sum(left)
        assert told.videos is not None
        assert (told.videos[0].video, told.videos[0].last_frame) == (answer.video, answer.last_frame)
