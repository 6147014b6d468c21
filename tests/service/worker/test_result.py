"""Results found, measured and delivered: rows 44 and 46 of the list of bad inputs."""

import asyncio
import base64
import io
import json
import re

import av
import pytest
from aiohttp import web
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.request import parse_request
from wan_relay.service.media.bucket import Bucket, region_in
from wan_relay.service.worker.result import Video, answer_size, deliver, find_video, resolved_values
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import build_plan


@pytest.fixture(scope="module")
def mp4():
    """About 0.8 MB of noise."""
    out = io.BytesIO()
    import numpy as np

    random = np.random.default_rng(0)
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width = stream.height = 192
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "8", "preset": "ultrafast"}
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = 1
        for _ in range(17):
            picture = random.integers(0, 256, (192, 192, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


ANSWER = {"seed": 1, "warnings": []}
BUCKET = Bucket("http://127.0.0.1:9", "id", "secret")


def request(**fields):
    return parse_request({"prompt": "p", "image_base64": "AAAA", **fields})[0]


def delivered(video: Video, budget: int, bucket: Bucket | None = None, **fields):
    work = deliver(video, dict(ANSWER), request(**fields), budget, bucket, "sync-1")
    return asyncio.run(asyncio.wait_for(work, 60))


def exact_size(video: bytes) -> int:
    body = {"output": ANSWER | {"video": base64.b64encode(video).decode()}}
    return len(json.dumps(body, ensure_ascii=False).encode())


def test_budget_is_the_json_to_the_byte(mp4):
    size = exact_size(mp4)
    answer = delivered(Video(mp4, ".mp4"), size)
    assert base64.b64decode(answer["video"]) == mp4
    assert answer_size(answer) == size
    with pytest.raises(JobError) as caught:
        delivered(Video(mp4, ".mp4"), size - 1, shrink=False)
    assert re.fullmatch(
        r"RESULT_TOO_LARGE: the answer would be 1\.\d MB and this call carries 1\.\d MB; lower the size or the length, "
        r"raise crf, or configure a bucket",
        str(caught.value),
    )


def test_sync_jobs_have_the_larger_budget():
    settings = Settings.from_environment({})
    assert settings.result_budget("sync-79164ff4") == 20_000_000
    assert settings.result_budget("79164ff4-sync-") == 10_000_000


def test_large_result_is_shrunk_once_and_says_so(mp4):
    answer = delivered(Video(mp4, ".mp4"), 400_000)
    assert answer_size(answer) <= 400_000
    [warning] = answer["warnings"]
    assert re.fullmatch(r"the video was re-encoded from 0\.8 MB to fit the answer; its quality is lower", warning)
    with av.open(io.BytesIO(base64.b64decode(answer["video"]))) as video:
        stream = video.streams.video[0]
        context = stream.codec_context
        assert (stream.frames, stream.average_rate, context.width, context.height) == (17, 16, 192, 192)
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)


def test_result_that_cannot_shrink_enough(mp4):
    with pytest.raises(JobError, match="RESULT_TOO_LARGE: the answer would be 1"):
        delivered(Video(mp4, ".mp4"), 8_000)
    with pytest.raises(JobError, match=r"RESULT_TOO_LARGE: the answer would be 0\.0 MB"):
        delivered(Video(b"\x00\x00\x00\x20ftyp" + bytes(30_000), ".mp4"), 20_000)


class FakeS3:
    """Takes PUTs; `status` is its mood."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.puts: list[tuple[str, str, bytes, set[str]]] = []

    async def put(self, request: web.Request) -> web.Response:
        names = {name.lower() for name in request.headers}
        self.puts.append((request.path, request.headers.get("Content-Type", ""), await request.read(), names))
        return web.Response(
            status=self.status, text="<Error><Code>AccessDenied</Code></Error>" if self.status > 299 else ""
        )

    async def deliver(
        self, video: Video, budget: int, bucket_name: str | None, region: str | None = None, **fields
    ) -> dict:
        app = web.Application(client_max_size=100_000_000)
        app.router.add_put("/{tail:.*}", self.put)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            bucket = Bucket(f"http://127.0.0.1:{runner.addresses[0][1]}", "KEYID", "SECRETKEY", bucket_name, region)
            return await asyncio.wait_for(deliver(video, dict(ANSWER), request(**fields), budget, bucket, "sync-1"), 60)
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("bucket_name", [None, "videos"])
def test_large_result_goes_to_the_bucket(mp4, bucket_name):
    s3 = FakeS3()
    answer = asyncio.run(s3.deliver(Video(mp4, ".mp4"), 400_000, bucket_name))
    assert set(answer) == {"seed", "warnings", "video_url"}
    [(path, content_type, content, headers)] = s3.puts
    first = "/videos" if bucket_name else ""
    assert re.fullmatch(first + r"/\d{4}-\d\d-\d\d/sync-1/[0-9a-f]{12}\.mp4", path)
    assert (content_type, content) == ("video/mp4", mp4)
    assert not any("checksum" in name or "x-amz-sdk" in name for name in headers)
    assert path in answer["video_url"]
    assert "X-Amz-Expires=604800" in answer["video_url"]
    assert "SECRETKEY" not in answer["video_url"]


def test_small_result_goes_to_the_bucket_when_asked(mp4):
    s3 = FakeS3()
    assert "video_url" in asyncio.run(s3.deliver(Video(mp4, ".mp4"), 10**7, None, delivery="url"))
    assert "video" in asyncio.run(s3.deliver(Video(mp4, ".mp4"), 10**7, None))
    assert len(s3.puts) == 1


def test_broken_bucket_falls_back_to_base64_if_it_fits(mp4):
    answer = asyncio.run(FakeS3(403).deliver(Video(mp4, ".mp4"), 10**7, None, delivery="url"))
    assert base64.b64decode(answer["video"]) == mp4
    assert answer["warnings"] == ["the bucket did not take the video: AccessDenied, so it came as base64"]
    with pytest.raises(JobError) as caught:
        asyncio.run(FakeS3(403).deliver(Video(mp4, ".mp4"), 400_000, None, shrink=False))
    assert re.fullmatch(
        r"UPLOAD_FAILED: the bucket did not take the video: AccessDenied, and 1\.\d MB is too large for the answer",
        str(caught.value),
    )


def test_broken_bucket_falls_back_to_a_smaller_video(mp4):
    answer = asyncio.run(FakeS3(403).deliver(Video(mp4, ".mp4"), 400_000, None))
    assert answer["video"]
    assert answer["warnings"] == [
        "the bucket did not take the video: AccessDenied",
        "the video was re-encoded from 0.8 MB to fit the answer; its quality is lower",
    ]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://videos.s3.eu-central-1.amazonaws.com/folder", "eu-central-1"),
        ("https://s3.dualstack.us-west-2.amazonaws.com", "us-west-2"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://videos.s3.amazonaws.com", "us-east-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://s3.fr-par.scw.cloud:443", "fr-par"),
        ("https://0123abcd.r2.cloudflarestorage.com", "auto"),
        ("https://s3.example.com", "auto"),
        ("http://127.0.0.1:9000", "auto"),
    ],
)
def test_region_is_the_one_that_the_host_names(url, region):
    assert region_in(url) == region


def test_link_is_signed_for_the_region_that_is_set(mp4):
    answer = asyncio.run(FakeS3().deliver(Video(mp4, ".mp4"), 400_000, "videos", region="eu-ro-1"))
    assert "%2Feu-ro-1%2Fs3%2Faws4_request" in answer["video_url"]


def test_no_bucket_although_asked(mp4):
    answer = delivered(Video(mp4, ".mp4"), 10**7, delivery="url")
    assert answer["warnings"] == ["no bucket is configured on this worker, so it came as base64"]


def test_bucket_of_the_worker_and_of_the_job():
    settings = Settings.from_environment(
        {"BUCKET_ENDPOINT_URL": "http://s3", "BUCKET_ACCESS_KEY_ID": "a", "BUCKET_SECRET_ACCESS_KEY": "b"}
        | {"BUCKET_REGION": "r"}
    )
    assert settings.bucket() == Bucket("http://s3", "a", "b", region="r")
    own = {"endpointUrl": "http://x", "accessId": "c", "accessSecret": "d", "bucketName": "n"}
    assert settings.bucket(own) == Bucket("http://x", "c", "d", "n")
    assert Settings.from_environment({}).bucket(own | {"accessId": 5}) is None
    assert settings.bucket("nonsense") == Bucket("http://s3", "a", "b", region="r")
    assert "secret" not in repr(Bucket("http://s3", "a", "secret"))


FTYP = b"\x00\x00\x00\x20ftypisom"


@pytest.mark.parametrize("key", ["images", "gifs", "videos", "video"])
def test_video_under_every_key(tmp_path, key):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.mp4").write_bytes(FTYP)
    items = [
        {"filename": "x.png", "subfolder": "", "type": "output"},
        {"filename": "a.mp4", "subfolder": "sub", "type": "output"},
    ]
    assert find_video({"1": {}, "9": {key: items}}, tmp_path).content == FTYP


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"9": {"images": []}},
        {"9": {"images": [{"filename": "a.mp4", "subfolder": "", "type": "temp"}]}},
        {"9": {"images": [{"filename": "../secret.mp4", "subfolder": "", "type": "output"}]}},
        {"9": {"images": [{"filename": "secret.mp4", "subfolder": "..", "type": "output"}]}},
        {"9": {"images": [{"filename": "gone.mp4", "subfolder": "", "type": "output"}]}},
        {"9": {"images": ["a.mp4"]}, "10": None},
    ],
)
def test_no_video(tmp_path, outputs):
    (tmp_path / "secret.mp4").write_bytes(FTYP)
    (tmp_path / "out").mkdir()
    with pytest.raises(JobError, match="NO_OUTPUT"):
        find_video(outputs, tmp_path / "out")


def test_values_fall_back_to_what_was_sent_and_are_finite():
    wanted = request(steps=3, fps=24, length=9)
    plan = build_plan(wanted, 5, "a.png", None, "x/video", Settings.from_environment({}))
    sampler = plan.node_id("WanRelay_Sample")
    outputs = {sampler: {"wan_relay": [{"shift": float("nan"), "switch_step": 1, "seconds": {"high_noise": 1.5}}]}}
    values = resolved_values(outputs, plan, wanted, Video(FTYP, ".mp4"))
    assert values == {
        "workflow": "wan22_i2v_4step",
        "seed": 5,
        "width": 528,
        "height": 768,
        "length": 9,
        "fps": 24,
        "duration": 0.375,
        "steps": 3,
        "switch": "step",
        "switch_step": 1,
        "boundary": 0.9,
        "sampler": "euler",
        "scheduler": "simple",
        "shift": None,
        "high_noise_cfg": 1,
        "low_noise_cfg": 1,
        "sizing": "fixed",
        "fit": "crop",
        "format": "video/mp4",
        "warnings": [],
        "timings": {"high_noise_s": 1.5},
    }
