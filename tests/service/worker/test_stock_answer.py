"""Files in the stock worker's shape, within the platform's limits."""

import asyncio
import base64
from pathlib import Path

import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.graph_answer import GraphAnswer
from wan_relay.service.contract.graph_request import GraphFields
from wan_relay.service.contract.video_answer import Timings
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.bucket import Bucket
from wan_relay.service.worker.delivery import answer_size
from wan_relay.service.worker.graph_answer import first_seed, video_facts
from wan_relay.service.worker.output_files import OutputFile, find_files
from wan_relay.service.worker.stock_answer import VIDEO_ONCE, deliver_files
from wan_relay.tests.service.media.fake_s3 import FakeS3
from wan_relay.tests.service.worker.conftest import make_mp4

PICTURE = OutputFile(b"\x89PNG" + bytes(500), ".png", {}, "frame_00001_.png")
SMALL = OutputFile(make_mp4(), ".mp4", {}, "small.mp4")
LARGE = OutputFile(make_mp4(frames=16, size=128, noise=200), ".mp4", {}, "large.mp4")
EMPTY = GraphAnswer(images=[], workflow="request", warnings=[], timings=Timings())


def delivered(files, budget=10_000_000, is_named=False, bucket=None, **fields) -> dict:
    work = deliver_files(files, EMPTY, GraphFields(**fields), is_named, budget, bucket, "job", 10)
    return asyncio.run(work).to_wire()


def item(file: OutputFile) -> dict:
    return {"filename": file.filename, "type": "base64", "data": base64.b64encode(file.content).decode()}


def size_with(*items: dict, **more) -> int:
    return answer_size(EMPTY.model_copy(update={"images": list(items), **more}))


def test_every_file_in_order_and_the_first_video_once_more():
    answer = delivered([PICTURE, SMALL, LARGE])
    assert answer["images"] == [item(PICTURE), item(SMALL), item(LARGE)]
    assert answer["video"] == item(SMALL)["data"]
    assert answer["warnings"] == []
    assert "video" not in delivered([PICTURE])


def test_video_that_fits_once_goes_where_its_client_looks():
    once = size_with(item(PICTURE), item(SMALL), warnings=[VIDEO_ONCE])
    by_object = delivered([PICTURE, SMALL], once)
    assert by_object["images"] == [item(PICTURE), item(SMALL)]
    assert ("video" in by_object, by_object["warnings"]) == (False, [VIDEO_ONCE])
    by_name = delivered([PICTURE, SMALL], once, is_named=True)
    assert (by_name["images"], by_name["video"]) == ([item(PICTURE)], item(SMALL)["data"])
    assert by_name["warnings"] == []


@pytest.mark.parametrize("is_named", [False, True])
def test_large_video_is_re_encoded_once(is_named):
    budget = len(LARGE.content)
    answer = delivered([LARGE, PICTURE], budget, is_named)
    found = answer["video"] if is_named else answer["images"][0]["data"]
    assert 5_000 < len(base64.b64decode(found)) < len(LARGE.content)
    assert answer["warnings"][0].startswith("the video was re-encoded from ")


def test_what_does_not_fit_is_an_error_with_its_size():
    for files, fields in (([LARGE], {"shrink": False}), ([PICTURE] * 100, {})):
        with pytest.raises(JobError) as caught:
            delivered(files, 20_000, **fields)
        assert caught.value.code == "RESULT_TOO_LARGE"
        assert "this call carries 0.0 MB" in str(caught.value)


async def through(s3: FakeS3, **fields) -> dict:
    async with s3.serving() as endpoint:
        bucket = Bucket(endpoint, "id", "secret", "bucket", trusted_hosts=TrustedHosts.of(endpoint))
        work = deliver_files([PICTURE, SMALL], EMPTY, GraphFields(**fields), False, 10_000_000, bucket, "job", 10)
        return (await work).to_wire()


def test_bucket_is_used_wherever_there_is_one():
    s3 = FakeS3()
    answer = asyncio.run(through(s3))
    assert [each["type"] for each in answer["images"]] == ["s3_url", "s3_url"]
    assert answer["video_url"] == answer["images"][1]["data"]
    assert s3.bodies == [PICTURE.content, SMALL.content]
    assert [request.headers["Content-Type"] for request in s3.requests] == ["image/png", "video/mp4"]
    assert "video" not in answer
    s3 = FakeS3()
    answer = asyncio.run(through(s3, delivery="base64"))
    assert (answer["images"], s3.bodies) == ([item(PICTURE), item(SMALL)], [])


def test_bucket_that_takes_the_first_file_alone():
    answer = asyncio.run(through(FakeS3(200, 403)))
    assert [each["type"] for each in answer["images"]] == ["s3_url", "base64"]
    assert answer["video"] == item(SMALL)["data"]
    assert answer["warnings"] == ["the bucket did not take the video: AccessDenied, so it came as base64"]


def test_no_bucket_where_a_link_is_wanted():
    assert delivered([SMALL], delivery="url")["warnings"] == [
        "no bucket is configured on this worker, so it came as base64"
    ]
    with pytest.raises(JobError, match=r"UPLOAD_FAILED: no bucket is configured on this worker, and .* too large"):
        delivered([PICTURE] * 100, 20_000, delivery="url")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.mp4").write_bytes(SMALL.content)
    (folder / "b.png").write_bytes(PICTURE.content)
    (folder / "c.flac").write_bytes(b"fLaC")
    (tmp_path / "secret.png").write_bytes(PICTURE.content)
    return folder


def listed(filename: str, subfolder: str = "", kind: str = "output") -> dict:
    return {"filename": filename, "subfolder": subfolder, "type": kind}


def test_files_of_every_key_once_and_none_of_the_temp_folder(output):
    outputs = {
        "1": {"gifs": [listed("a.mp4", "sub") | {"fps": 16}], "animated": [True]},
        "2": {"images": [listed("b.png"), listed("p.png", kind="temp"), listed("b.png")], "text": ["said"]},
        "3": {"audio": [listed("c.flac")], "videos": [listed("a.mp4", "sub")], "odd": 5},
        "4": {
            "images": [listed("secret.png", ".."), listed("secret.png", "../"), {"filename": None, "type": "output"}]
        },
        "5": None,
    }
    files = find_files(outputs, output)
    assert [(file.filename, file.mime_type, file.is_video) for file in files] == [
        ("a.mp4", "video/mp4", True),
        ("b.png", "image/png", False),
        ("c.flac", "audio/flac", False),
    ]
    assert files[0].item["fps"] == 16
    assert find_files({}, output) == []


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.png", None, "the file x.png is not there"),
        ("x.png", b"", "the file x.png is empty"),
        ("x.mp4", None, "the video file is not there"),
        ("x.mp4", b"<html>", "the file it saved is not a video"),
    ],
)
def test_file_that_is_missing(output, name, content, what):
    if content is not None:
        (output / name).write_bytes(content)
    with pytest.raises(JobError) as caught:
        find_files({"1": {"images": [listed(name)]}}, output)
    assert str(caught.value) == f"NO_OUTPUT: ComfyUI finished, but {what}"


def test_facts_of_a_video_and_the_seed_of_a_graph():
    expected = {"format": "video/mp4", "width": 64, "height": 64, "length": 5, "fps": 16, "duration": 0.3125}
    assert video_facts(SMALL) == expected
    assert video_facts(OutputFile(b"0000ftyp", ".webm", {}, "x")) == {"format": "video/webm"}
    graph = {
        "1": {"inputs": {"seed": ["2", 0]}},
        "2": {"inputs": {"seed": True, "noise_seed": 12}},
        "3": {"inputs": {"seed": 5}},
    }
    assert first_seed(graph) == 12
    assert first_seed({"1": {"inputs": {}}}) is None
