"""The operator's (or the job's) S3 bucket, for videos that an answer cannot carry."""

import asyncio
import io
import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from .addresses import TrustedHosts
from .guarded_http import BadUrl, dialled_url, guarded_session, is_blocked

LINK_LIFE_S = 7 * 24 * 3600
UPLOAD_LIFE_S = 3600
PAUSES_S = (0.5, 2.0)
_BUSY = (429, 500, 502, 503, 504)
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True)
class Bucket:
    """Without `name`, the endpoint's host carries the bucket, as in RunPod's documentation.

    An endpoint that is neither public nor one of `trusted_hosts` is not dialled.
    """

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    name: str | None = None
    region: str | None = None
    trusted_hosts: TrustedHosts = field(default_factory=TrustedHosts)


class UploadFailed(Exception):
    """Why the bucket did not take a file, in a few words."""


async def upload_video(bucket: Bucket, key: str, content: bytes, mime_type: str, timeout_s: float) -> str:
    """Puts the file within `timeout_s`, whatever is tried, and returns a link that lives seven days.

    Raises UploadFailed.
    """
    try:
        url = _object_url(bucket, key)
        target = signed_url(bucket, "PUT", url, UPLOAD_LIFE_S, {"Content-Type": mime_type})
        no_other_limit = aiohttp.ClientTimeout(total=None)
        async with asyncio.timeout(timeout_s), guarded_session(bucket.trusted_hosts, timeout=no_other_limit) as session:
            await _put_until_taken(session, dialled_url(target), content, mime_type)
        return signed_url(bucket, "GET", url, LINK_LIFE_S)
    except BadUrl as error:
        raise UploadFailed(f"its endpoint {error}") from None
    except TimeoutError:
        raise UploadFailed(f"it took longer than {timeout_s:.3g} s") from None
    except aiohttp.ClientError as error:
        raise UploadFailed("its host is not allowed" if is_blocked(error) else type(error).__name__) from None


def signed_url(bucket: Bucket, method: str, url: str, life_s: int, headers: dict[str, str] | None = None) -> str:
    """A link that carries its own permission (AWS Signature Version 4 in the query): the host, this method and these
    headers are signed, the content is not.
    """
    from botocore.auth import S3SigV4QueryAuth  # a slow import that most jobs never need
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, url, headers=headers)
    keys = Credentials(bucket.access_key_id, bucket.secret_access_key)
    S3SigV4QueryAuth(keys, "s3", bucket.region or region_in(bucket.endpoint_url), life_s).add_auth(request)
    return str(request.url)


def region_in(endpoint_url: str) -> str:
    """The region that an S3 host names, as in `s3.eu-central-1.amazonaws.com` or `name.s3.us-west-004.backblazeb2.com`.

    `auto` is what R2 and most others take. AWS checks it: a link that is signed for another region cannot be opened.
    """
    _, _, rest = f".{urlsplit(endpoint_url).hostname or ''}".partition(".s3.")
    labels = rest.removeprefix("dualstack.").split(".")
    if labels[:2] == ["amazonaws", "com"]:
        return "us-east-1"
    return labels[0] if len(labels) > 2 else "auto"


def _object_url(bucket: Bucket, key: str) -> str:
    """In the path style, which every S3 server takes."""
    endpoint = dialled_url(bucket.endpoint_url)
    folder = endpoint.raw_path.rstrip("/") + (f"/{quote(bucket.name, safe='')}" if bucket.name else "")
    authority = endpoint.host_port_subcomponent or ""
    return str(URL.build(scheme=endpoint.scheme, authority=authority, path=f"{folder}/{quote(key)}", encoded=True))


async def _put_until_taken(session: aiohttp.ClientSession, url: URL, content: bytes, mime_type: str) -> None:
    """Tries again what may go away by itself: a busy server, a lost connection."""
    for pause_s in (*PAUSES_S, None):
        try:
            status, reason = await _put(session, url, content, mime_type)
            if status < 300:
                return
            if status not in _BUSY or pause_s is None:
                raise UploadFailed(reason)
        except aiohttp.ClientConnectionError as error:
            if is_blocked(error) or pause_s is None:
                raise
        await asyncio.sleep(pause_s)


async def _put(session: aiohttp.ClientSession, url: URL, content: bytes, mime_type: str) -> tuple[int, str]:
    """The status, and S3's own name for what is wrong."""
    body, headers = io.BytesIO(content), {"Content-Type": mime_type}
    async with session.put(url, data=body, headers=headers, allow_redirects=False) as response:
        named = _ERROR_CODE.search(await response.content.read(4096))
        return response.status, named[1].decode() if named else f"HTTP {response.status}"
