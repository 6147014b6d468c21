"""The gateway put together: one engine, one board, one desk, and an application for each dialect under its prefix."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..store.object_store import ObjectStore
from ..store.open_store import open_store
from ..store.signed_paths import PathSigner
from ..tasks.database import database_url, own_engine
from ..tasks.heartbeats import Heartbeats
from ..tasks.names import LOCAL_QUEUE, RUNPOD_QUEUE
from .board import Board
from .desk import Desk
from .dialects import api, fal, replicate
from .engine import Engine
from .files import FileLinks, file_routes
from .http import WatchDelivery, dialect_app
from .keys import Keys
from .link_secret import kept_secret
from .prompt_expander import PromptExpander
from .settings import GatewaySettings
from .toy_size import at_toy_size
from .upkeep import Upkeep
from .webhook_news import WebhookNews
from .webhooks import Webhooks

DIALECTS: tuple[Any, ...] = (api, fal, replicate)
STALE_S = 10.0
API_TEXT = {
    "title": "Wan Relay",
    "version": "1",
    "description": "Videos from a picture and words. Send `Authorization: Bearer KEY`.",
}


class Gateway:
    """Everything that lives as long as the process."""

    def __init__(self, settings: GatewaySettings, executor_id: str) -> None:
        url = database_url(settings.database)
        queue = {"local": LOCAL_QUEUE, "runpod": RUNPOD_QUEUE}[settings.backend]
        self.settings = settings
        self.store: ObjectStore = open_store(
            settings.store,
            endpoint_url=settings.store_endpoint_url,
            region=settings.store_region,
            access_key_id=settings.store_key_id,
            secret_access_key=settings.store_secret,
        )
        self.webhooks = Webhooks(settings.trusted_hosts)
        self.engine = Engine(url, executor_id, queue)
        self.engine.launch()
        tables = own_engine(url)
        self.keys = Keys(tables, settings.api_keys)
        self.heartbeats = Heartbeats(tables)
        secret = settings.link_secret.encode() if settings.link_secret else kept_secret(tables, "links")
        self.signer = PathSigner(secret)
        self.links = FileLinks(self.signer, settings.public_url)
        self.board = Board(self.engine)
        expander = PromptExpander(
            settings.expander_url,
            settings.expander_model,
            settings.expander_key,
            settings.expander_language,
            settings.expander_sees_pictures,
        )
        adapt = at_toy_size if settings.toy_size else lambda draft: draft
        self.desk = Desk(
            self.engine,
            self.board,
            self.store,
            self.links,
            self.keys,
            expander,
            adapt,
            secret=lambda name: kept_secret(tables, name),
            max_upload_bytes=settings.max_upload_mb * 1_000_000,
        )
        self.upkeep = Upkeep(
            self.engine, self.board, self.keys, self.heartbeats, self.store, int(settings.max_store_gb * 1e9)
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.webhooks.use(self.desk, {dialect.NAME: dialect for dialect in DIALECTS})
        self.board.on_end = self.webhooks.ended
        news = WebhookNews(self.webhooks, self.desk, {dialect.NAME: dialect for dialect in DIALECTS})
        self.board.on_change = news.changed
        await self.board.update()
        await self.webhooks.catch_up(await self.engine.ended_since(time.time() - 24 * 3600))
        work = [asyncio.create_task(self.board.run()), asyncio.create_task(self.upkeep.run())]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await asyncio.to_thread(self.engine.close)


def application(gateway: Gateway) -> ASGIApp:
    """All that the gateway serves."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    for dialect in DIALECTS:
        options = API_TEXT if dialect is api else {}
        app.mount(dialect.PREFIX, dialect_app(dialect, gateway.desk, **options))
    app.include_router(file_routes(gateway.store, gateway.signer, gateway.desk.max_upload_bytes))

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process serves HTTP."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz(_: Request) -> Response:
        """It can take tasks: the database answers, and somebody renders."""
        faults = list(_not_ready(gateway))
        return JSONResponse({"status": "not ready" if faults else "ready", "faults": faults}, 503 if faults else 200)

    return RequestIds(WatchDelivery(app))


def _not_ready(gateway: Gateway) -> Iterable[str]:
    if time.monotonic() - gateway.board.answered_at > STALE_S:
        yield "the database does not answer"
    if not gateway.upkeep.executors:
        yield "no executor is alive"


class RequestIds:
    """ASGI middleware: gives every request an id, which answers and log lines carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["wan_relay_request_id"] = str(uuid.uuid4())
        await self._app(scope, receive, send)
