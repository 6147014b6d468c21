"""The page at `/`: the files of gateway/page, read once, and nothing else of the disk.

The page makes no element from a text, and its headers hold it to that: no inline script or style, nothing from another
origin but the videos of a public URL.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    content: bytes
    content_type: str
    etag: str


def page_files(folder: Path = PAGE) -> dict[str, PageFile]:
    """Path below the folder -> what is served of it: only files of the page's own types."""
    return {
        path.relative_to(folder).as_posix(): PageFile(
            content := path.read_bytes(), TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        )
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES and path.is_file()
    }


def content_security_policy(files_origin: str | None) -> str:
    """`files_origin` is where links to videos begin, when that is not the page's own origin."""
    files = f" {files_origin}" if files_origin else ""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            f"media-src 'self' blob:{files}",
            f"connect-src 'self'{files}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def page_routes(files_origin: str | None = None) -> APIRouter:
    router = APIRouter()
    files = page_files()
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": content_security_policy(files_origin),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    def answer(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise HTTPException(404)
        known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        if file.etag in known:
            return Response(status_code=304, headers=headers | {"ETag": file.etag})
        return Response(file.content, media_type=file.content_type, headers=headers | {"ETag": file.etag})

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        return answer(request, "index.html")

    @router.api_route("/page/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page_file(request: Request, name: str) -> Response:
        return answer(request, name)

    return router
