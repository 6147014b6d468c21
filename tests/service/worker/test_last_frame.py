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
from wan_relay.service.worker import last_frame
from wan_relay.service.worker.last_frame import NODE_ID, deliver_last_frame, find_last_frame
from wan_relay.service.worker.load_balancer import http_face
from wan_relay.service.worker.output_files import OutputFile
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


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    taken: list[tuple[Any, ...]] = []

    async def upload(bucket: Bucket, key: str, content: bytes, mime_type: str, timeout_s: float) -> str:
        if bucket.name == "full":
            raise UploadFailed("it answered 507")
        taken.append((key.partition("/")[2], content, mime_type))
        return "https://bucket.example/a.png"

    monkeypatch.setattr(last_frame, "upload_video", upload)
    return taken


def test_it_is_base64_where_it_fits_and_goes_to_the_bucket_else(uploads: list[tuple[Any, ...]]) -> None:
    inline = delivered(800, BUCKET)
    assert base64.b64decode(inline.last_frame or "") == FRAME.content
    assert (inline.last_frame_url, inline.warnings, uploads) == (None, [], [])
    for there in (delivered(799, BUCKET), delivered(800, BUCKET, delivery="url")):
        assert (there.last_frame, there.last_frame_url) == (None, "https://bucket.example/a.png")
    (key, content, mime_type), _ = uploads
    assert key.startswith("job/")
    assert key.endswith(".png")
    assert (content, mime_type) == (FRAME.content, "image/png")


@pytest.mark.parametrize(
    ("bucket", "fields", "budget", "warning"),
    [
        (None, {}, 799, "left out: no bucket is configured on this worker"),
        (None, {"delivery": "base64"}, 799, "last_frame has 0.0 MB as base64 and was left out"),
        (None, {"delivery": "url"}, 800, "last_frame came as base64: no bucket is configured on this worker"),
        (
            Bucket("https://b.example", "i", "s", "full"),
            {},
            799,
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
    assert delivered(800, frame=None).warnings == ["return_last_frame: ComfyUI saved no last frame"]
    assert delivered(800, frame=None, return_last_frame=False) == ANSWER


def test_the_picture_is_found_without_the_workflow_in_it(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("prompt", "{}")
    (tmp_path / "output" / "job").mkdir(parents=True)
    Image.new("RGB", (4, 2), (1, 2, 3)).save(tmp_path / "output" / "job" / "a.png", pnginfo=notes)
    Image.new("RGB", (4, 2)).save(tmp_path / "outside.png")

    def found(**item: str) -> OutputFile | None:
        return find_last_frame({NODE_ID: {"images": [item]}}, tmp_path / "output")

    frame = found(filename="a.png", subfolder="job")
    assert frame is not None
    with Image.open(io.BytesIO(frame.content)) as picture:
        assert (picture.size, picture.info, picture.getpixel((0, 0))) == ((4, 2), {}, (1, 2, 3))
    assert found(filename="b.png", subfolder="job") is None
    assert found(filename="outside.png", subfolder="..") is None
    assert find_last_frame({}, tmp_path) is None


def test_the_workflow_saves_it_only_where_it_is_asked_for() -> None:
    plan = build_plan(request(), 7, "a.png", None, "own/video", Settings())
    node = plan.graph[NODE_ID]
    assert node["inputs"] == {"images": [plan.node_id(SAVE), 1], "filename_prefix": "own/video_last_frame"}
    assert NODE_ID not in build_plan(request(return_last_frame=False), 7, "a.png", None, "p", Settings()).graph


def test_the_last_frame_of_another_workflow_is_refused(bench: Bench) -> None:
    sentence = "return_last_frame is for the bundled workflows; this one answers with what its own nodes save"
    [answer] = bench.answer(bench.graph_job(return_last_frame=True))
    assert answer == {"error": f"CONFLICT: {sentence} (return_last_frame)"}


def test_a_file_alone_is_no_answer_to_who_wants_the_last_frame_too() -> None:
    output = {"video": "AAAA", "format": "video/mp4", "seed": 1}
    answer = http_face._file(output)
    assert answer is not None
    assert answer.body == b"\0\0\0"
    for more in ("last_frame", "last_frame_url", "videos"):
        assert http_face._file(output | {more: "x"}) is None
