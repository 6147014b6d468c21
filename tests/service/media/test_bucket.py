"""Videos into a bucket."""

import asyncio
import datetime

import boto3
import pytest
from botocore.config import Config
from wan_relay.service.media import bucket as bucket_module
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.bucket import LINK_LIFE_S, UPLOAD_LIFE_S, Bucket, UploadFailed, region_in, upload_video
from wan_relay.service.media.guarded_http import guarded_session
from wan_relay.tests.service.media.fake_s3 import FakeS3

VIDEO = bytes(range(256)) * 4000
KEY = "2026-01-02/sync-1/ab c+é.mp4"


def uploaded(s3: FakeS3, timeout_s: float = 30.0, folder: str = "", trusted: TrustedHosts | None = None) -> str:
    """The link, or why there is none."""

    async def main() -> str:
        async with s3.serving() as endpoint:
            hosts = TrustedHosts.of(endpoint) if trusted is None else trusted
            bucket = Bucket(endpoint + folder, "KEYID", "SECRETKEY", "videos", trusted_hosts=hosts)
            try:
                return await upload_video(bucket, KEY, VIDEO, "video/mp4", timeout_s)
            except UploadFailed as error:
                return str(error)

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_video_is_put_and_its_link_opens():
    s3 = FakeS3()

    async def main() -> None:
        async with s3.serving() as endpoint:
            bucket = Bucket(
                f"{endpoint}/base/", "KEYID", "SECRETKEY", "videos", trusted_hosts=TrustedHosts.of(endpoint)
            )
            link = await upload_video(bucket, KEY, VIDEO, "video/mp4", 30)
            async with guarded_session(bucket.trusted_hosts) as session, session.get(link) as response:
                assert response.status == 200

    asyncio.run(main())
    put = s3.requests[0]
    path = "/base/videos/2026-01-02/sync-1/ab%20c%2B%C3%A9.mp4"
    assert [(request.method, request.raw_path.partition("?")[0]) for request in s3.requests] == [
        ("PUT", path),
        ("GET", path),
    ]
    assert put.headers["Content-Type"] == "video/mp4"
    assert put.headers["Content-Length"] == str(len(VIDEO))
    assert not any("checksum" in name.lower() or name.lower().startswith("x-amz") for name in put.headers)
    assert s3.bodies == [VIDEO, b""]


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "videos"),
        ("https://videos.s3.eu-central-1.amazonaws.com", None),
        ("https://0123abcd.r2.cloudflarestorage.com", "videos"),
        ("https://videos.0123abcd.r2.cloudflarestorage.com/", None),
        ("https://storage.googleapis.com", "my.videos"),
        ("http://127.0.0.1:9000", "videos"),
        ("http://127.0.0.1:9000", None),
        ("http://[fd00::1]:9000", "videos"),
        ("https://minio.example/base/", "videos"),
    ],
)
def test_links_are_those_of_boto3(monkeypatch, endpoint, name):
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: moment)
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path" if name else "auto"},
    )
    keys = {"aws_access_key_id": "KEYID", "aws_secret_access_key": "SECRETKEY"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name=region_in(endpoint), config=config, **keys)
    place = dict(zip(("Bucket", "Key"), (name, KEY) if name else KEY.split("/", 1), strict=True))
    put = client.generate_presigned_url("put_object", place | {"ContentType": "video/mp4"}, UPLOAD_LIFE_S)
    get = client.generate_presigned_url("get_object", place, LINK_LIFE_S)

    bucket = Bucket(endpoint, "KEYID", "SECRETKEY", name)
    url = bucket_module._object_url(bucket, KEY)
    own_put = bucket_module.signed_url(bucket, "PUT", url, UPLOAD_LIFE_S, {"Content-Type": "video/mp4"})
    assert (own_put, bucket_module.signed_url(bucket, "GET", url, LINK_LIFE_S)) == (put, get)


@pytest.mark.parametrize("moods", [(503, 200), (500, "cut", 200), ("cut", 200), (429, 502, 200)])
def test_fault_that_goes_away(monkeypatch, moods):
    monkeypatch.setattr(bucket_module, "PAUSES_S", (0.01, 0.02))
    s3 = FakeS3(*moods)
    assert "X-Amz-Expires=604800" in uploaded(s3)
    assert s3.bodies == [VIDEO] * len(moods)


@pytest.mark.parametrize(
    ("mood", "reason", "tries"),
    [
        (403, "AccessDenied", 1),
        ("hasty", "AccessDenied", 1),
        (404, "HTTP 404", 1),
        (307, "HTTP 307", 1),
        (503, "HTTP 503", 3),
        ("cut", "ServerDisconnectedError", 6),  # aiohttp itself repeats a PUT whose connection was dropped
    ],
)
def test_bucket_that_refuses(monkeypatch, mood, reason, tries):
    monkeypatch.setattr(bucket_module, "PAUSES_S", (0.01, 0.02))
    s3 = FakeS3(mood)
    assert uploaded(s3) == reason
    assert len(s3.requests) == tries


def test_one_deadline_for_all_tries():
    assert uploaded(FakeS3("mute"), timeout_s=0.4) == "it took longer than 0.4 s"
    assert uploaded(FakeS3(503), timeout_s=0.4) == "it took longer than 0.4 s"


def test_endpoint_that_is_not_allowed_is_not_dialled():
    s3 = FakeS3()
    assert uploaded(s3, trusted=TrustedHosts()) == "its host is not allowed"
    assert s3.requests == []


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("minio:9000", "its endpoint must be an http or https URL"),
        ("ftp://minio", "its endpoint must be an http or https URL"),
        ("http://mi nio", "its endpoint has a blank or a line break inside; a blank in a URL is written %20"),
        ("http://[::1", "its endpoint is not a valid http(s) URL"),
        ("http://169.254.169.254", "its host is not allowed"),
        ("http://[::127.0.0.1]:9000", "its host is not allowed"),
    ],
)
def test_endpoint_that_is_none(endpoint, reason):
    with pytest.raises(UploadFailed) as caught:
        asyncio.run(upload_video(Bucket(endpoint, "id", "secret"), KEY, VIDEO, "video/mp4", 10))
    assert str(caught.value) == reason


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
