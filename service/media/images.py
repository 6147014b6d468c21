"""Images from base64, a URL or the network volume, checked and made plain before ComfyUI sees them."""

import asyncio
import base64
import binascii
import hashlib
import io
import ipaddress
import os
import re
import socket
import stat
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from PIL import Image, ImageCms, ImageOps
from yarl import URL

from ..contract.errors import JobError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
PLAIN_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
MIN_SIDE = 16
MAX_ASPECT = 8
MAX_REDIRECTS = 5
# What Pillow's decoders raise on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    zlib.error,
    struct.error,
)

# Public by the registry, yet inside a cloud: Azure's wire server, and tunnels that carry an IPv4 address.
_NOT_PUBLIC = [ipaddress.ip_network(net) for net in ("168.63.129.16/32", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")]
_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: bytes, pixels and seconds; and the one folder that paths may point into."""

    max_bytes: int
    max_pixels: int
    download_timeout_s: float
    volume: Path


@dataclass(frozen=True)
class PlainImage:
    """An upright 8-bit RGB picture in a file format that every ComfyUI reads."""

    content: bytes
    extension: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Named by its content, so that the same picture in the next job meets a warm node cache."""
        return f"wan_relay_{hashlib.sha256(self.content).hexdigest()[:24]}.{self.extension}"


async def load_image(field: str, value: str, limits: ImageLimits) -> PlainImage:
    """The image that a request field names. Raises JobError with that field."""
    limit = limits.max_bytes
    if field.endswith("base64") or (field.endswith("url") and value.lstrip()[:5].lower() == "data:"):
        content = await asyncio.to_thread(decode_base64, value, limit, field)
    elif field.endswith("url"):
        content = await fetch(value, limit, limits.download_timeout_s, field)
    else:
        content = await asyncio.to_thread(read_from_volume, value, limits.volume, limit, field)
    return await asyncio.to_thread(make_plain, content, limits.max_pixels, field)


def decode_base64(text: str, limit: int, field: str) -> bytes:
    """Takes a data URI, the URL-safe alphabet, white space and missing padding; rejects anything else."""
    text = text.strip()
    if text[:5].lower() == "data:":
        prefix = _DATA_URI.match(text[:300])
        if not prefix or not prefix[1]:
            raise JobError("INVALID_IMAGE", f"{field} is a data URI that is not base64", field)
        text = text[prefix.end() :]
    if len(text) > limit * 3 // 2:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise JobError("INVALID_IMAGE", f"{field} is not valid base64", field) from None
    if len(content) > limit:
        raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    return content


def read_from_volume(path: str, volume: Path, limit: int, field: str) -> bytes:
    """A regular file that is inside the volume after every link is followed."""
    root = os.path.realpath(volume)
    target = os.path.realpath(path)
    if not path.startswith("/") or os.path.commonpath((root, target)) != root:
        raise JobError("INVALID_PATH", f"{field} must be a file under the network volume", field)
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise JobError("FILE_NOT_FOUND", f"{field} names no file on the network volume", field) from None
    except OSError:
        raise JobError("INVALID_PATH", f"{field} cannot be opened", field) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise JobError("INVALID_PATH", f"{field} must be a regular file", field)
        if facts.st_size > limit:
            raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1)
    except OSError:
        raise JobError("INVALID_PATH", f"{field} cannot be read", field) from None
    finally:
        os.close(descriptor)


def is_public_address(address: str) -> bool:
    """True for a unicast address that the whole internet routes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not any(ip.version == n.version and ip in n for n in _NOT_PUBLIC)


class _PublicResolver(AbstractResolver):
    """Resolves a name once and hands out only checked addresses: the connection dials exactly those."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [(entry[0], str(entry[4][0])) for entry in found]
        if not addresses or not all(self._is_allowed(address) for _, address in addresses):
            raise _BlockedHost
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        pass


class _BlockedHost(Exception):
    pass


async def fetch(
    url: str, limit: int, timeout_s: float, field: str, is_allowed: Callable[[str], bool] = is_public_address
) -> bytes:
    """GET a client's URL: public addresses only, on every redirect too, within one deadline and byte cap."""
    connector = aiohttp.TCPConnector(resolver=_PublicResolver(is_allowed), use_dns_cache=False, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, connect=min(10.0, timeout_s))
    headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "wan-relay"}
    try:
        async with (
            asyncio.timeout(timeout_s),
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, headers=headers, auto_decompress=False, trust_env=False
            ) as session,
        ):
            return await _follow(session, url, limit, field, is_allowed)
    except _BlockedHost:
        raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
    except TimeoutError:
        raise JobError("DOWNLOAD_TIMEOUT", f"{field} was not downloaded within {timeout_s:g} s", field) from None
    except aiohttp.InvalidURL:
        raise JobError("INVALID_URL", f"{field} is not a valid http(s) URL", field) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error.__cause__ or error.__context__, _BlockedHost):
            raise JobError("BLOCKED_URL", f"the host of {field} is not allowed", field) from None
        raise JobError("DOWNLOAD_FAILED", f"{field} could not be downloaded", field) from None


async def _follow(
    session: aiohttp.ClientSession, url: str, limit: int, field: str, is_allowed: Callable[[str], bool]
) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        _check_url(url, field, is_allowed)
        async with session.get(url, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise JobError("DOWNLOAD_FAILED", f"the server of {field} answered HTTP {response.status}", field)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise JobError("DOWNLOAD_FAILED", f"the server of {field} sent a compressed body", field)
            content = bytearray()
            if (response.content_length or 0) <= limit:
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > limit:
                        break
                else:
                    if not content:
                        raise JobError("DOWNLOAD_FAILED", f"the server of {field} sent an empty body", field)
                    return bytes(content)
            raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {limit // 1_000_000} MB", field)
    raise JobError("DOWNLOAD_FAILED", f"{field} redirects more than {MAX_REDIRECTS} times", field)


def _check_url(url: str, field: str, is_allowed: Callable[[str], bool]) -> None:
    try:
        # The parser that aiohttp dials by, so that no other reading of the host can slip past.
        parts = URL(url)
        host = parts.raw_host
    except (ValueError, UnicodeError):
        raise JobError("INVALID_URL", f"{field} is not a valid http(s) URL", field) from None
    if parts.scheme not in ("http", "https") or not host or len(url) > 8000 or any(c.isspace() for c in url.strip()):
        raise JobError("INVALID_URL", f"{field} must be an http or https URL", field)
    numeric = re.fullmatch(r"[\d.]+|0x[0-9a-f.x]+", host) is not None or ":" in host
    if parts.raw_user is not None or parts.raw_password is not None or (numeric and not is_allowed(host)):
        raise _BlockedHost


def make_plain(content: bytes, max_pixels: int, field: str) -> PlainImage:
    """Decodes the whole file once; a file that is plain already goes on byte for byte."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, max_pixels, field)
            return _plain(image, content)
    except Image.DecompressionBombError:
        raise JobError("IMAGE_TOO_LARGE", f"{field} has too many pixels", field) from None
    except Image.UnidentifiedImageError:
        raise JobError(
            "INVALID_IMAGE", f"{field} is not an image that can be read: {_what_is(content)}", field
        ) from None
    except _DAMAGE:
        raise JobError("INVALID_IMAGE", f"{field} is truncated or damaged", field) from None


def _check_size(image: Image.Image, max_pixels: int, field: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        sentence = f"{field} has {width} x {height} pixels, at most {max_pixels / 1e6:g} million are taken"
        raise JobError("IMAGE_TOO_LARGE", sentence, field)
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        sentence = (
            f"{field} is {width} x {height}; each side must be at least {MIN_SIDE} pixels "
            f"and the longer one at most {MAX_ASPECT} times the shorter"
        )
        raise JobError("IMAGE_TOO_SMALL", sentence, field)


def _plain(image: Image.Image, content: bytes) -> PlainImage:
    warnings = []
    if getattr(image, "n_frames", 1) > 1:
        if image.format != "MPO":
            warnings.append("the image is animated; its first frame is used")
        image.seek(0)
    image.load()
    upright = image.getexif().get(0x0112, 1) in (0, 1)
    profile = image.info.get("icc_profile")
    if (
        image.format in PLAIN_FORMATS
        and image.mode == "RGB"
        and upright
        and not profile
        and not warnings
        and "transparency" not in image.info
    ):
        return PlainImage(content, PLAIN_FORMATS[image.format])
    picture = ImageOps.exif_transpose(image)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").histogram()[255] < picture.width * picture.height:
            warnings.append("the image has transparency; it was laid over white")
        background = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(background, picture).convert("RGB")
    elif picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value / 257).convert("L")
    picture = _to_srgb(picture, profile)
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return PlainImage(out.getvalue(), "png", tuple(warnings))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            converted.info.clear()
            return converted
    return picture.convert("RGB")


def _what_is(content: bytes) -> str:
    head = content[:400].lstrip().lower()
    if not content:
        return "it is empty"
    if b"<svg" in head:
        return "SVG is not supported"
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is text/html"
    for magic, kind in ((b"%pdf", "application/pdf"), (b"pk\x03\x04", "a zip archive")):
        if head.startswith(magic):
            return f"it is {kind}"
    if content[4:8] == b"ftyp":
        return "it is AVIF or HEIC" if content[8:12] in (b"avif", b"heic", b"heix", b"mif1") else "it is a video"
    return "its content is not a known format"
