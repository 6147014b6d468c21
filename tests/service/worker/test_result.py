"""Results found, measured and delivered: rows 44 and 46 of the list of bad inputs."""

import asyncio
import base64
import io
import json
import re

import av
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.contract.video_request import parse_request
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.bucket import Bucket
from wan_relay.service.worker.delivery import answer_size, deliver
from wan_relay.service.worker.interpolation import InterpolationModel
from wan_relay.service.worker.result import describe_video
from wan_relay.service.worker.saved_video import Video, find_video
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import build_plan
from wan_relay.tests.service.media.fake_s3 import FakeS3


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


ANSWER = VideoAnswer(
    **{"seed": 1, "width": 64, "height": 64, "length": 17, "fps": 16, "duration": 1.0625},
    **{"workflow": "wan22_i2v_4step", "format": "video/mp4", "warnings": [], "timings": Timings()},
)


def request(**fields):
    return parse_request({"prompt": "p", "image_base64": "AAAA", **fields})[0]


def delivered(video: Video, budget: int, bucket: Bucket | None = None, **fields):
    work = deliver(video, ANSWER, request(**fields), budget, bucket, "sync-1", 30)
    return asyncio.run(asyncio.wait_for(work, 60)).to_wire()


def exact_size(video: bytes) -> int:
    body = {"output": ANSWER.to_wire() | {"video": base64.b64encode(video).decode()}}
    return len(json.dumps(body, ensure_ascii=False).encode())


def test_budget_is_the_json_to_the_byte(mp4):
    size = exact_size(mp4)
    answer = delivered(Video(mp4, ".mp4"), size)
    assert base64.b64decode(answer["video"]) == mp4
    assert answer_size(VideoAnswer(**answer)) == size
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
    assert answer_size(VideoAnswer(**answer)) <= 400_000
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


def delivered_over(
    s3: FakeS3, video: Video, budget: int, bucket_name: str | None, region: str | None = None, **fields
) -> dict:
    async def main() -> dict:
        async with s3.serving() as endpoint:
            bucket = Bucket(endpoint, "KEYID", "SECRETKEY", bucket_name, region, TrustedHosts.of(endpoint))
            work = deliver(video, ANSWER, request(**fields), budget, bucket, "sync-1", s3.patience_s)
            return (await work).to_wire()

    return asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("bucket_name", [None, "videos"])
def test_large_result_goes_to_the_bucket(mp4, bucket_name):
    s3 = FakeS3()
    answer = delivered_over(s3, Video(mp4, ".mp4"), 400_000, bucket_name)
    assert set(answer) == {*ANSWER.to_wire(), "video_url"}
    [put] = s3.requests
    path = put.path
    first = "/videos" if bucket_name else ""
    assert re.fullmatch(first + r"/\d{4}-\d\d-\d\d/sync-1/[0-9a-f]{12}\.mp4", path)
    assert (put.headers["Content-Type"], s3.bodies) == ("video/mp4", [mp4])
    assert path in answer["video_url"]
    assert "X-Amz-Expires=604800" in answer["video_url"]
    assert "SECRETKEY" not in answer["video_url"]


def test_small_result_goes_to_the_bucket_when_asked(mp4):
    s3 = FakeS3()
    assert "video_url" in delivered_over(s3, Video(mp4, ".mp4"), 10**7, None, delivery="url")
    assert "video" in delivered_over(s3, Video(mp4, ".mp4"), 10**7, None)
    assert len(s3.requests) == 1


def test_broken_bucket_falls_back_to_base64_if_it_fits(mp4):
    answer = delivered_over(FakeS3(403), Video(mp4, ".mp4"), 10**7, None, delivery="url")
    assert base64.b64decode(answer["video"]) == mp4
    assert answer["warnings"] == ["the bucket did not take the video: AccessDenied, so it came as base64"]
    with pytest.raises(JobError) as caught:
        delivered_over(FakeS3(403), Video(mp4, ".mp4"), 400_000, None, shrink=False)
    assert re.fullmatch(
        r"UPLOAD_FAILED: the bucket did not take the video: AccessDenied, and 1\.\d MB is too large for the answer",
        str(caught.value),
    )


def test_broken_bucket_falls_back_to_a_smaller_video(mp4):
    answer = delivered_over(FakeS3(403), Video(mp4, ".mp4"), 400_000, None)
    assert answer["video"]
    assert answer["warnings"] == [
        "the bucket did not take the video: AccessDenied",
        "the video was re-encoded from 0.8 MB to fit the answer; its quality is lower",
    ]


def test_link_is_signed_for_the_region_that_is_set(mp4):
    answer = delivered_over(FakeS3(), Video(mp4, ".mp4"), 400_000, "videos", region="eu-ro-1")
    assert "%2Feu-ro-1%2Fs3%2Faws4_request" in answer["video_url"]


def test_bucket_that_never_answers_costs_its_time_and_no_video(mp4):
    answer = delivered_over(FakeS3("mute", patience_s=0.5), Video(mp4, ".mp4"), 10**7, None, delivery="url")
    assert base64.b64decode(answer["video"]) == mp4
    assert answer["warnings"] == ["the bucket did not take the video: it took longer than 0.5 s, so it came as base64"]
    answer = delivered_over(FakeS3("mute", patience_s=0.5), Video(mp4, ".mp4"), 400_000, None)
    assert answer["video"]
    assert answer["warnings"] == [
        "the bucket did not take the video: it took longer than 0.5 s",
        "the video was re-encoded from 0.8 MB to fit the answer; its quality is lower",
    ]


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "http://[::1]:9", "http://localhost:9", "http://2130706433:9"]
)
def test_bucket_at_a_host_that_is_not_allowed(mp4, endpoint):
    answer = delivered(Video(mp4, ".mp4"), 10**7, Bucket(endpoint, "id", "secret"), delivery="url")
    assert base64.b64decode(answer["video"]) == mp4
    assert answer["warnings"] == ["the bucket did not take the video: its host is not allowed, so it came as base64"]


def test_no_bucket_although_asked(mp4):
    answer = delivered(Video(mp4, ".mp4"), 10**7, delivery="url")
    assert answer["warnings"] == ["no bucket is configured on this worker, so it came as base64"]


def test_warning_about_the_bucket_counts_in_the_budget(mp4):
    """The video alone fits to the byte; with the sentence that it came as base64 it does not."""
    size = exact_size(mp4)
    with pytest.raises(JobError) as caught:
        delivered(Video(mp4, ".mp4"), size, delivery="url", shrink=False)
    sentence = r"UPLOAD_FAILED: no bucket is configured on this worker, and 1\.\d MB is too large for the answer"
    assert re.fullmatch(sentence, str(caught.value))
    room = len(json.dumps("no bucket is configured on this worker, so it came as base64"))
    answer = delivered(Video(mp4, ".mp4"), size + room, delivery="url", shrink=False)
    assert answer_size(VideoAnswer(**answer)) == size + room


def test_bucket_of_the_worker_and_of_the_job():
    settings = Settings.from_environment(
        {"BUCKET_ENDPOINT_URL": "http://s3", "BUCKET_ACCESS_KEY_ID": "a", "BUCKET_SECRET_ACCESS_KEY": "b"}
        | {"BUCKET_REGION": "r"}
    )
    operators = Bucket("http://s3", "a", "b", region="r", trusted_hosts=TrustedHosts.parse("s3:80"))
    assert settings.bucket() == operators
    own = {"endpointUrl": "http://x", "accessId": "c", "accessSecret": "d", "bucketName": "n"}
    assert settings.bucket(own) == Bucket("http://x", "c", "d", "n")
    assert Settings.from_environment({}).bucket(own | {"accessId": 5}) is None
    for nonsense in ("nonsense", {}, own | {"endpointUrl": "x" * 2001}, own | {"accessSecret": ["d"]}):
        assert settings.bucket(nonsense) == operators
    trusting = Settings.from_environment({"WAN_RELAY_TRUSTED_HOSTS": "minio:9000"})
    assert trusting.bucket(own) == Bucket("http://x", "c", "d", "n", trusted_hosts=TrustedHosts.parse("minio:9000"))
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
    values = describe_video(Video(FTYP, ".mp4"), outputs, plan, wanted).to_wire()
    assert values == {
        "workflow": "wan22_i2v_4step",
        "prompt": "p",
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


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (None, {}, {"interpolation": "minterpolate", "interpolation_factor": 2, "fps": 32}),
        (
            InterpolationModel("nets/film_net_fp16.safetensors", "film"),
            {"slow_motion": True, "interpolation_factor": 4, "frame_order": "reverse"},
            {
                "interpolation": "nets/film_net_fp16.safetensors",
                "interpolation_factor": 4,
                "fps": 16,
                "frame_order": "reverse",
            },
        ),
        (None, {"interpolation": "none", "loop": True}, {"loop": True, "fps": 16}),
    ],
)
def test_what_came_after_the_sampler_is_told_where_there_was_any(model, fields, expected):
    wanted = request(**{"interpolation": "film"} | fields)
    plan = build_plan(wanted, 5, "a.png", "a.png", "x/video", Settings.from_environment({}), model)
    answer = describe_video(Video(FTYP, ".mp4"), {}, plan, wanted).to_wire()
    names = ("interpolation", "interpolation_factor", "frame_order", "loop", "fps")
    assert {name: answer[name] for name in names if name in answer} == expected


def test_a_loop_says_nothing_of_an_end_image_that_nobody_sent():
    wanted = request(loop=True)
    plan = build_plan(wanted, 5, "a.png", "a.png", "x/video", Settings.from_environment({}))
    said = [f"{name} of 600x400 loses 3.4% of its height to fill 224x144." for name in ("start_image", "end_image")]
    outputs = {plan.node_id("WanRelay_PrepareLatent"): {"wan_relay": [{"warnings": said}]}}
    answer = describe_video(Video(FTYP, ".mp4"), outputs, plan, wanted).to_wire()
    assert answer["warnings"] == said[:1]


def test_an_opening_leg_and_nag_are_told_where_there_were_any():
    wanted = request(opening_steps=2, nag_scale=8)
    plan = build_plan(wanted, 5, "a.png", None, "x/video", Settings.from_environment({}))
    legs = [
        {"leg": "opening", "steps": 2, "cfg": 3.5, "from_sigma": 1.0, "nag_scale": 0.0},
        {"leg": "low_noise", "steps": 2, "cfg": 1.0, "from_sigma": 0.8333, "nag_scale": 8.0},
    ]
    report = {"legs": legs, "seconds": {"opening": 4.0, "high_noise": 0.0, "low_noise": 2.0}}
    nag = {"warnings": ["negative holds 2 prompts; NAG uses the first, over the whole run."]}
    outputs = {plan.node_id("WanRelay_Sample"): {"wan_relay": [report]}, "wan_relay_nag": {"wan_relay": [nag]}}
    answer = describe_video(Video(FTYP, ".mp4"), outputs, plan, wanted).to_wire()
    assert (answer["opening_steps"], answer["opening_cfg"], answer["nag_scale"]) == (2, 3.5, 8.0)
    assert answer["timings"] == {"opening_s": 4.0, "high_noise_s": 0.0, "low_noise_s": 2.0}
    assert answer["warnings"] == nag["warnings"]
