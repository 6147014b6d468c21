"""The operator's (or the job's) S3 bucket, for videos that an answer cannot carry."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

LINK_LIFE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Bucket:
    """Without `name`, the endpoint's host carries the bucket, as in RunPod's documentation."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    name: str | None = None
    region: str | None = None


def upload_video(bucket: Bucket, key: str, content: bytes, mime_type: str) -> str:
    """Puts the file and returns a link that lives seven days. Raises botocore's errors."""
    import boto3  # a slow import that most jobs never need
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        # R2, GCS and MinIO refuse the checksum headers that boto3 adds by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if bucket.name else "auto"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        region_name=bucket.region or region_in(bucket.endpoint_url),
        config=config,
    )
    # With the bucket in the host, a path-style request's first segment is the first folder of the key.
    name, _, rest = (bucket.name, "", key) if bucket.name else key.partition("/")
    client.put_object(Bucket=name, Key=rest, Body=content, ContentType=mime_type)
    url: str = client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": rest}, ExpiresIn=LINK_LIFE_S)
    return url


def region_in(endpoint_url: str) -> str:
    """The region that an S3 host names, as in `s3.eu-central-1.amazonaws.com` or `name.s3.us-west-004.backblazeb2.com`.

    `auto` is what R2 and most others take. AWS checks it: a link that is signed for another region cannot be opened.
    """
    _, _, rest = f".{urlsplit(endpoint_url).hostname or ''}".partition(".s3.")
    labels = rest.removeprefix("dualstack.").split(".")
    if labels[:2] == ["amazonaws", "com"]:
        return "us-east-1"
    return labels[0] if len(labels) > 2 else "auto"
