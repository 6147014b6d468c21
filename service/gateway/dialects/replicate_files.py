"""Replicate's files: what a client uploads to name in an input. Each belongs to the key that sent it."""

import hashlib
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...contract.errors import JobError
from ...store.content_types import content_type_of
from ...store.object_store import ObjectNotFoundError
from ..desk import Desk
from ..http import base_url, caller_of, read_form
from ..keys import Caller
from ..refusal import Refusal
from ..uploads import FOLDER, new_upload_id, safe_name

KEPT_S = 24 * 3600.0
MAX_METADATA = 10_000
_ID = re.compile(r"[0-9a-f]{32}")


def render(about: dict[str, Any], desk: Desk, base: str) -> dict[str, Any]:
    """`urls.get` is the file itself, by a link that an input may carry and that needs no key."""
    left_s = about["created_at_s"] + KEPT_S - time.time()
    shown = {name: about[name] for name in ("id", "name", "content_type", "size", "etag", "checksums", "metadata")}
    return {
        **shown,
        "created_at": _iso(about["created_at_s"]),
        "expires_at": _iso(about["created_at_s"] + KEPT_S),
        "urls": {"get": desk.links.link(about["key"], left_s, base)},
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def file_routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    async def kept(caller: Caller, file_id: str) -> dict[str, Any]:
        """Raises Refusal."""
        try:
            if not _ID.fullmatch(file_id):
                raise ObjectNotFoundError(file_id)
            about: dict[str, Any] = json.loads(await desk.store.get(_about_key(caller, file_id)))
        except ObjectNotFoundError:
            raise Refusal("NOT_FOUND", "there is no such file for this key") from None
        if time.time() >= about["created_at_s"] + KEPT_S:
            raise Refusal("NOT_FOUND", "the file is kept no longer")
        return about

    @router.post("/files", status_code=201)
    async def create(request: Request) -> Response:
        caller = caller_of(request, desk)
        content, name, content_type, metadata = await _upload(request, desk.max_upload_bytes)
        file_id = new_upload_id()
        stored_as = safe_name(name, content_type)
        key = f"{FOLDER}/{caller.id}/{file_id}/{stored_as}"
        stored = await desk.keep(key, content, content_type_of(stored_as))
        about = {
            "id": file_id,
            "name": name,
            "content_type": content_type,
            "size": len(content),
            "etag": stored.etag.strip('"'),
            "checksums": {
                "sha256": hashlib.sha256(content).hexdigest(),
                "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            },
            "metadata": metadata,
            "created_at_s": time.time(),
            "key": key,
        }
        await desk.keep(_about_key(caller, file_id), json.dumps(about).encode(), "application/json")
        return JSONResponse(render(about, desk, base_url(request)), 201)

    @router.get("/files")
    async def listed(request: Request) -> Response:
        """The newest first."""
        caller = caller_of(request, desk)
        folder = f"{FOLDER}/{caller.id}"
        ids = [
            stored.key.rpartition("/")[2].removesuffix(".json")
            async for stored in desk.store.list(folder)
            if stored.key.endswith(".json") and stored.key.count("/") == 2
        ]
        found = []
        for file_id in ids:
            try:
                found.append(await kept(caller, file_id))
            except Refusal:
                continue  # it went meanwhile
        found.sort(key=lambda about: -about["created_at_s"])
        results = [render(about, desk, base_url(request)) for about in found]
        return JSONResponse({"previous": None, "next": None, "results": results})

    @router.get("/files/{file_id}")
    async def one(request: Request, file_id: str) -> Response:
        return JSONResponse(render(await kept(caller_of(request, desk), file_id), desk, base_url(request)))

    @router.delete("/files/{file_id}", status_code=204)
    async def delete(request: Request, file_id: str) -> Response:
        caller = caller_of(request, desk)
        about = await kept(caller, file_id)
        await desk.store.delete(about["key"])
        await desk.store.delete(_about_key(caller, file_id))
        return Response(status_code=204)

    return router


def _about_key(caller: Caller, file_id: str) -> str:
    return f"{FOLDER}/{caller.id}/{file_id}.json"


async def _upload(request: Request, limit: int) -> tuple[bytes, str, str, dict[str, Any]]:
    """The part `content` with its name and type, and `metadata`, which comes as text or as a JSON part."""
    async with read_form(request, limit, max_files=2, max_fields=10) as form:
        content, metadata = form.get("content"), form.get("metadata")
        if not isinstance(content, UploadFile):
            raise JobError("MISSING_FIELD", "content must be a file in a multipart form", "content")
        said = await metadata.read() if isinstance(metadata, UploadFile) else (metadata or "{}").encode()
        name, content_type = content.filename or "file", content.content_type or "application/octet-stream"
        return await content.read(), name[:200], content_type[:100], _metadata(said)


def _metadata(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if len(text) <= MAX_METADATA else None
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}
