"""A host of LoRAs on this machine, well-behaved on some paths and not on others, that remembers who asked for what."""

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.worker.url_loras.access import LoraAccess


def lora(seed: int = 1, num_bytes: int = 4000) -> bytes:
    """A safetensors file whose content no other seed has."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + seed.to_bytes(1) * num_bytes


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


Answer = Callable[[web.BaseRequest], Any]


@dataclass
class LoraServer:
    """`files` are served by their paths, with an ETag; `answers` are other ways to answer a path."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, int | None, str | None]] = field(default_factory=list)
    """(path, port, Authorization) of every call."""
    sent: dict[str, int] = field(default_factory=dict)
    """path -> how often its whole file went out."""
    ports: tuple[int, ...] = ()
    has_etags: bool = True

    def url(self, path: str, port: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def access(self, **limits: Any) -> LoraAccess:
        """That allows the first port alone, and trusts both."""
        hosts = TrustedHosts.parse(f"127.0.0.1:{self.ports[0]}")
        return LoraAccess(hosts, TrustedHosts.parse("127.0.0.1"), **limits)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.path, request.url.port, request.headers.get("Authorization")))
        if request.path in self.answers:
            made = self.answers[request.path](request)
            return await made if asyncio.iscoroutine(made) else made
        content = self.files.get(request.path)
        if content is None:
            return web.Response(status=404)
        etag = f'"{sha256(content)[:16]}"' if self.has_etags else ""
        if etag and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        self.sent[request.path] = self.sent.get(request.path, 0) + 1
        return web.Response(body=content, headers={"ETag": etag} if etag else {})


@asynccontextmanager
async def lora_server(**files: bytes) -> AsyncIterator[LoraServer]:
    """Listens on two ports, which are two hosts to a client. `a=content` is served as /a.safetensors."""
    server = LoraServer({f"/{name}.safetensors": content for name, content in files.items()})
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.ports = tuple(address[1] for address in runner.addresses)
    try:
        yield server
    finally:
        await runner.cleanup()
