"""The gateway put together: one engine, one board, one desk, and an application for each dialect under its prefix."""

import asyncio
import contextlib
import functools
import hmac
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from ..contract.failure import Failure
from ..store.object_store import ObjectStore
from ..store.open_store import open_store
from ..store.signed_paths import PathSigner
from ..tasks.database import database_url, own_engine
from ..tasks.heartbeats import Heartbeats
from ..tasks.names import GATEWAY_QUEUE, LOCAL_QUEUE, RUNPOD_QUEUE
from ..tasks.task import Task
from .board import Board
from .cross_origin import OwnCallers
from .desk import Desk
from .dialects import api, cerebrium, fal, modelverse, openai, replicate, runpod, runway
from .duplicates import KEY_WINDOW_S, MAX_KNOWN
from .engine import Engine
from .files import FileLinks, file_routes
from .http import code_of, dialect_app, refused
from .journal import note
from .keys import Keys, bare_key
from .link_secret import kept_secret
from .metrics import Metrics, stages_s
from .page_routes import page_routes
from .prompt_expander import PromptExpander
from .settings import GatewaySettings
from .socket_state import WatchDelivery
from .toy_size import at_toy_size
from .upkeep import Upkeep
from .visits import Visits
from .webhook_news import WebhookNews
from .webhooks import Webhooks

DIALECTS: tuple[Any, ...] = (api, cerebrium, fal, modelverse, openai, replicate, runpod, runway)
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
        self.store: ObjectStore = open_store(settings.store, **settings.store_options)
        self.engine = Engine(url, executor_id, queue)
        self.webhooks = Webhooks(self.engine, settings.trusted_hosts)
        tables = own_engine(url)
        self.heartbeats = Heartbeats(tables)
        self.heartbeats.beat(executor_id, {"queue": GATEWAY_QUEUE})  # before it takes up any work
        self.engine.launch()
        self.id = executor_id
        self.keys = Keys(tables, settings.api_keys)
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
            self.store,
        )
        toy_size = functools.partial(at_toy_size, max_frames=settings.toy_frames)
        adapt = toy_size if settings.toy_size else lambda draft: draft
        self.desk = Desk(
            self.engine,
            self.board,
            self.store,
            self.links,
            self.keys,
            expander,
            adapt,
            models=settings.models,
            secret=lambda name: kept_secret(tables, name),
            max_upload_bytes=settings.max_upload_mb * 1_000_000,
        )
        self.upkeep = Upkeep(
            executor_id,
            self.engine,
            self.board,
            self.keys,
            self.heartbeats,
            self.store,
            int(settings.max_store_gb * 1e9),
            settings.silent_s,
        )
        self.metrics = Metrics(lambda: self.board.live, self.upkeep.executor_ages_s, settings.silent_s)
        self.desk.count_executors = lambda: len(self.upkeep.executors)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.webhooks.use(self.desk, {dialect.NAME: dialect for dialect in DIALECTS})
        self.board.on_end = self._ended
        news = WebhookNews(self.webhooks, self.desk, {dialect.NAME: dialect for dialect in DIALECTS})
        self.board.on_change = news.changed
        await self.board.update()
        self.desk.recall(reversed(await self.engine.ordered_since(time.time() - KEY_WINDOW_S, MAX_KNOWN // 10)))
        await self.webhooks.catch_up(await self.engine.ended_since(time.time() - 24 * 3600))
        work = [asyncio.create_task(self.board.run()), asyncio.create_task(self.upkeep.run())]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self.heartbeats.leave, self.id)
            await asyncio.to_thread(self.engine.close)

    async def _ended(self, task: Task) -> None:
        await self.webhooks.ended(task)
        self.metrics.ended(task)
        failure = task.outcome.failure
        note(
            "task_ended",
            task_id=task.id,
            dialect=task.order.dialect,
            key=self.keys.name_of(task.order.owner),
            state=task.state,
            code=failure.code if failure else None,
            executor=task.executor,
            **{f"{stage}_s": seconds for stage, seconds in stages_s(task).items()},
        )

    def may_read_metrics(self, authorization: str | None) -> bool:
        own = self.settings.metrics_key
        is_own = own is not None and hmac.compare_digest(own.encode(), bare_key(authorization or "").encode())
        return is_own or self.keys.caller(authorization) is not None


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

    app.include_router(page_routes(gateway.settings.public_url))

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process serves HTTP."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz(_: Request) -> Response:
        """It can take tasks: the database answers, and somebody renders."""
        faults = list(_not_ready(gateway))
        return JSONResponse({"status": "not ready" if faults else "ready", "faults": faults}, 503 if faults else 200)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """The figures, for whoever has a key, if there is any."""
        if not gateway.may_read_metrics(request.headers.get("authorization")):
            return JSONResponse({"error": "a key of this gateway is needed: Authorization: Bearer KEY"}, 401)
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(HTTPException)
    async def nowhere(request: Request, error: HTTPException) -> Response:
        """An address that no dialect's own routes are asked for, such as one with a line feed."""
        failure = Failure(code=code_of(error), sentence="there is nothing at this address for this method")
        for dialect in DIALECTS:
            if request.url.path.startswith(f"{dialect.PREFIX}/"):
                return refused(dialect, failure, request.scope)
        return JSONResponse({"error": failure.sentence}, error.status_code)

    own_callers = OwnCallers(WatchDelivery(app), lambda: gateway.keys.is_open, gateway.settings.public_url)
    return Visits(own_callers, gateway.metrics)


def _not_ready(gateway: Gateway) -> Iterable[str]:
    if time.monotonic() - gateway.board.answered_at > STALE_S:
        yield "the database does not answer"
    if not gateway.upkeep.executors:
        yield "no executor is alive"
