"""fal's storage: the REST host's uploads (`/fal/rest`) and the CDN (`/fal/cdn`), with its multipart uploads.

A file's address holds an id that nobody guesses, as at fal, and needs no key. What may be written without one carries
a signature: upload URLs, the CDN's tokens, and the ids of multipart uploads.
"""

import hmac
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...contract.errors import JobError
from ...store.content_types import content_type_of
from ...store.object_store import ObjectNotFoundError, StoreError
from ...store.signed_paths import PathSigner, SignatureError
from ..desk import Desk
from ..draft import Draft
from ..files import FOR_EVERY_ANSWER, PREFLIGHT, file_answer
from ..http import base_url, json_object, read_body
from ..keys import Caller
from ..refusal import Refusal
from ..uploads import FOLDER, new_upload_id, safe_name
from .fal_webhooks import key_set

CDN = "/fal/cdn"
WHOSE = "fal"
UPLOAD_S = 3600.0
TOKEN_S = 3600.0
MAX_PART = 1000
_TOKEN_PATH = "/fal/cdn/files/upload"
_FILE = re.compile(r"/fal/cdn/files/(?P<id>[0-9a-f]{32})/(?P<name>[A-Za-z0-9._-]{1,100})")


def caller_of_fal(request: Request, desk: Desk) -> Caller:
    """`Key K`, `Key id:K` of those who set FAL_KEY_ID and FAL_KEY_SECRET, or `Bearer K`. Raises Refusal."""
    authorization = request.headers.get("authorization") or ""
    try:
        return desk.caller(authorization)
    except Refusal:
        if ":" not in authorization:
            raise
        return desk.caller(authorization.rpartition(":")[2])


def with_signed_links(draft: Draft, desk: Desk, base: str) -> Draft:
    """The draft with the CDN's addresses as links that the gateway knows for its own, and does not dial."""
    changes = {}
    hosts = {urlsplit(each).netloc.lower() for each in (base, desk.links.base(base))}
    for field in ("image_url", "end_image_url"):
        url = getattr(draft.request, field)
        found = _FILE.fullmatch(unquote(urlsplit(url.strip()).path)) if url and _netloc(url) in hosts else None
        if found:
            changes[field] = desk.links.link(_key(found["id"], found["name"]), UPLOAD_S, base)
    return replace(draft, request=draft.request.model_copy(update=changes)) if changes else draft


def _netloc(url: str) -> str:
    try:
        return urlsplit(url.strip()).netloc.lower()
    except ValueError:
        return ""


def _base(desk: Desk, request: Request) -> str:
    return desk.links.base(base_url(request))


def _key(upload_id: str, name: str) -> str:
    return f"{FOLDER}/{WHOSE}/{upload_id}/{name}"


async def rest(desk: Desk, request: Request, path: str) -> Response:
    """The REST host: upload URLs, tokens of the CDN, and the keys of the webhooks."""
    method = request.method
    if path == ".well-known/jwks.json" and method == "GET":
        return JSONResponse(key_set(desk.secret(WHOSE)), headers={"Cache-Control": "public, max-age=3600"})
    if path == "storage/auth/token" and method == "POST":
        caller_of_fal(request, desk)
        return JSONResponse(_token(desk, _base(desk, request)))
    if path in ("storage/upload/initiate", "storage/upload/initiate-multipart") and method == "POST":
        caller_of_fal(request, desk)
        wish = json_object(await read_body(request, 100_000))
        return JSONResponse(_initiated(desk, _base(desk, request), wish, path.endswith("-multipart")))
    raise Refusal("NOT_FOUND", "there is nothing at this address")


def _initiated(desk: Desk, base: str, wish: dict[str, Any], is_multipart: bool) -> dict[str, str]:
    name = safe_name(str(wish.get("file_name") or ""), str(wish.get("content_type") or ""))
    upload_id = new_upload_id()
    file_url = f"{base}{CDN}/files/{upload_id}/{name}"
    if is_multipart:
        return {"upload_url": f"{file_url}/multipart/{_permit(desk, upload_id, name)}", "file_url": file_url}
    return {"upload_url": desk.links.upload_link(_key(upload_id, name), UPLOAD_S, base), "file_url": file_url}


def _token(desk: Desk, base: str) -> dict[str, str]:
    """For the CDN, which sees no key."""
    expires_s = time.time() + TOKEN_S
    return {
        "token": PathSigner(desk.secret(WHOSE)).sign(_TOKEN_PATH, expires_s, "POST"),
        "token_type": "Bearer",
        "base_url": f"{base}{CDN}",
        "expires_at": datetime.fromtimestamp(expires_s - 60, UTC).isoformat(timespec="seconds"),
    }


def _check_token(desk: Desk, request: Request) -> None:
    """Raises Refusal."""
    token = (request.headers.get("authorization") or "").partition(" ")[2].strip()
    try:
        PathSigner(desk.secret(WHOSE)).check(_TOKEN_PATH, token, "POST", time.time())
    except SignatureError:
        caller_of_fal(request, desk)


def _permit(desk: Desk, upload_id: str, name: str) -> str:
    """The id of a multipart upload, which only who began it knows."""
    return hmac.digest(desk.secret(WHOSE), f"multipart {upload_id}/{name}".encode(), "sha256").hex()


def storage_routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.api_route("/rest/{path:path}", methods=["GET", "POST"])
    async def rest_route(request: Request, path: str) -> Response:
        return await rest(desk, request, path)

    @router.post("/cdn/files/upload")
    async def upload(request: Request) -> Response:
        _check_token(desk, request)
        upload_id, name = new_upload_id(), _file_name(request)
        content = await read_body(request, desk.max_upload_bytes)
        await desk.keep(_key(upload_id, name), content, content_type_of(name))
        return JSONResponse({"access_url": f"{_base(desk, request)}{CDN}/files/{upload_id}/{name}"})

    @router.post("/cdn/files/upload/multipart")
    async def begin(request: Request) -> Response:
        _check_token(desk, request)
        upload_id, name = new_upload_id(), _file_name(request)
        access_url = f"{_base(desk, request)}{CDN}/files/{upload_id}/{name}"
        return JSONResponse({"access_url": access_url, "uploadId": _permit(desk, upload_id, name)})

    @router.put("/cdn/files/{upload_id}/{name}/multipart/{permit}/{number}")
    async def part(request: Request, upload_id: str, name: str, permit: str, number: int) -> Response:
        _check_permit(desk, upload_id, name, permit)
        if not 1 <= number <= MAX_PART:
            raise JobError("OUT_OF_RANGE", f"a part's number must be from 1 to {MAX_PART}", "part_number")
        content = await read_body(request, desk.max_upload_bytes)
        kept = await desk.keep(_part_key(upload_id, number), content, "application/octet-stream")
        return JSONResponse({"partNumber": number, "etag": kept.etag}, headers={"ETag": kept.etag, **FOR_EVERY_ANSWER})

    @router.post("/cdn/files/{upload_id}/{name}/multipart/{permit}/complete")
    async def complete(request: Request, upload_id: str, name: str, permit: str) -> Response:
        _check_permit(desk, upload_id, name, permit)
        parts = json_object(await read_body(request, 1_000_000)).get("parts")
        keys = [_part_key(upload_id, number) for number in _numbers(parts)]
        try:
            sizes = [(await desk.store.stat(key)).size for key in keys]
        except ObjectNotFoundError:
            raise JobError("INVALID_VALUE", "parts names one that was not uploaded", "parts") from None
        if sum(sizes) > desk.max_upload_bytes:
            limit = desk.max_upload_bytes // 1_000_000
            raise Refusal("BODY_TOO_LARGE", f"the file must be at most {limit} MB")
        await desk.keep(_key(upload_id, name), _joined(desk, keys), content_type_of(name))
        for key in keys:
            await desk.store.delete(key)
        return JSONResponse({"access_url": f"{_base(desk, request)}{CDN}/files/{upload_id}/{name}"})

    @router.api_route("/cdn/files/{upload_id}/{name}", methods=["GET", "HEAD"])
    async def read(request: Request, upload_id: str, name: str) -> Response:
        if not _FILE.fullmatch(f"{CDN}/files/{upload_id}/{name}"):
            raise Refusal("NOT_FOUND", "there is no such file")
        try:
            return await file_answer(desk.store, await desk.store.stat(_key(upload_id, name)), request)
        except ObjectNotFoundError:
            raise Refusal("NOT_FOUND", "there is no such file, or no longer") from None
        except StoreError:
            raise Refusal("STORE_UNAVAILABLE", "the gateway's store does not answer", retry_after_s=5) from None

    @router.options("/cdn/files/{path:path}")
    async def preflight(path: str) -> Response:
        return Response(status_code=204, headers={**FOR_EVERY_ANSWER, **PREFLIGHT})

    return router


def _file_name(request: Request) -> str:
    return safe_name(request.headers.get("x-fal-file-name", ""), request.headers.get("content-type", ""))


def _part_key(upload_id: str, number: int) -> str:
    return f"{FOLDER}/{WHOSE}/{upload_id}/part-{number:04}.bin"


def _check_permit(desk: Desk, upload_id: str, name: str, permit: str) -> None:
    is_named = _FILE.fullmatch(f"{CDN}/files/{upload_id}/{name}") is not None
    if not is_named or not hmac.compare_digest(_permit(desk, upload_id, name).encode(), permit.encode()):
        raise Refusal("NOT_FOUND", "there is no such upload")


def _numbers(parts: Any) -> list[int]:
    """The parts in their order. Raises JobError."""
    if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_PART:
        raise JobError("INVALID_VALUE", f"parts must be a list of 1 to {MAX_PART} parts", "parts")
    numbers = [part.get("partNumber") if isinstance(part, dict) else None for part in parts]
    whole = [number for number in numbers if isinstance(number, int) and 1 <= number <= MAX_PART]
    if len(set(whole)) != len(parts):
        raise JobError("INVALID_VALUE", "each of parts must have a partNumber of its own", "parts")
    return sorted(whole)


async def _joined(desk: Desk, keys: list[str]) -> AsyncIterator[bytes]:
    for key in keys:
        async for piece in desk.store.read(key):
            yield piece
