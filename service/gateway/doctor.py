"""`gateway doctor`: tries everything that a gateway with these settings would need, and says what is wrong.

It starts nothing, and leaves nothing but tables of its own that were missing: it may run beside the gateway, from the
same environment variables.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Literal, NamedTuple

import aiohttp
import sqlalchemy as sa

from ..contract.video_request import parse_request
from ..store.object_store import ObjectStore, StoreError
from ..store.open_store import open_store
from ..store.signed_paths import PathSigner
from ..tasks.database import database_url, own_engine
from ..tasks.heartbeats import BEAT_S, Heartbeats
from ..tasks.names import LOCAL_QUEUE, RUNPOD_QUEUE
from .draft import Draft
from .files import FileLinks
from .keys import Keys
from .link_secret import kept_secret
from .prompt_expander import NOT_CONFIGURED, PromptExpander
from .settings import GatewaySettings

DATABASE_S = 15.0
LINK_S = 10.0
MIN_POSTGRESQL = 13

Verdict = Literal["ok", "note", "fault"]


class Finding(NamedTuple):
    """One thing that was tried. Only a `fault` keeps the gateway from working."""

    verdict: Verdict
    what: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict:5}  {self.what}: {self.sentence}"


async def findings(settings: GatewaySettings) -> AsyncIterator[Finding]:
    """Each as soon as it is known."""
    engine = own_engine(database_url(settings.database))
    database = await _database_in_time(engine)
    yield database
    store = None
    try:
        store = open_store(
            settings.store,
            endpoint_url=settings.store_endpoint_url,
            region=settings.store_region,
            access_key_id=settings.store_key_id,
            secret_access_key=settings.store_secret,
        )
        await store.check()
        yield Finding("ok", "store", "it takes, gives back and deletes a file")
    except StoreError as error:
        store = None
        yield Finding("fault", "store", error.sentence)
    yield await _expander(settings)
    if database.verdict == "fault":
        return
    yield await asyncio.to_thread(_keys, Keys(engine, settings.api_keys))
    yield await _executors(settings, Heartbeats(engine))
    if store is not None:
        yield await _public_url(settings, store, engine)


async def _database_in_time(engine: sa.Engine) -> Finding:
    try:
        async with asyncio.timeout(DATABASE_S):
            return await asyncio.to_thread(_database, engine)
    except TimeoutError:
        return Finding("fault", "database", f"it did not answer within {DATABASE_S:g} s")


def _database(engine: sa.Engine) -> Finding:
    """Writes in a transaction that it then takes back."""
    is_sqlite = engine.dialect.name == "sqlite"
    try:
        with engine.connect() as connection:
            version = connection.execute(
                sa.text("select sqlite_version()" if is_sqlite else "show server_version")
            ).scalar_one()
            name = f"probe_{secrets.token_hex(6)}"
            connection.execute(sa.text(f"create table {name} (n integer)"))
            connection.execute(sa.text(f"insert into {name} values (1)"))
            connection.rollback()
            connection.execute(sa.text(f"drop table if exists {name}"))
            connection.commit()
            has_tasks = sa.inspect(connection).has_table("workflow_status", schema=None if is_sqlite else "dbos")
    except (sa.exc.SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
        return Finding("fault", "database", f"it cannot be written to: {reason[:200]}")
    kind = "SQLite" if is_sqlite else "PostgreSQL"
    major = int(str(version).partition(".")[0])
    if not is_sqlite and major < MIN_POSTGRESQL:
        return Finding("fault", "database", f"PostgreSQL must be {MIN_POSTGRESQL} or newer, and this is {version}")
    tables = "has the tasks' tables" if has_tasks else "has no tasks yet; the gateway's first start makes the tables"
    return Finding("ok", "database", f"{kind} {version} can be written to, and {tables}")


def _keys(keys: Keys) -> Finding:
    if keys.is_open:
        return Finding(
            "note", "keys", "there is none, so the gateway serves this machine only; `keys add NAME` makes one"
        )
    return Finding("ok", "keys", f"{keys.count} may ask for videos")


async def _executors(settings: GatewaySettings, heartbeats: Heartbeats) -> Finding:
    """Looks twice: alive is whose heart beat meanwhile."""
    queue = {"local": LOCAL_QUEUE, "runpod": RUNPOD_QUEUE}[settings.backend]
    before = {executor.id: executor.beats for executor in await asyncio.to_thread(heartbeats.all)}
    await asyncio.sleep(BEAT_S * 1.5)
    alive = [
        executor
        for executor in await asyncio.to_thread(heartbeats.all)
        if executor.about.get("queue") in (LOCAL_QUEUE, RUNPOD_QUEUE) and executor.beats != before.get(executor.id)
    ]
    of_use = [executor.id for executor in alive if executor.about["queue"] == queue]
    if of_use:
        return Finding("ok", "executors", f"{len(of_use)} alive: {', '.join(of_use)}")
    if alive:
        sentence = f"those that are alive take other tasks than WAN_RELAY_BACKEND={settings.backend} makes"
        return Finding("fault", "executors", sentence)
    sentence = f"none is alive, so tasks wait: start python -m service.executors.{settings.backend} on this database"
    return Finding("fault", "executors", sentence)


async def _public_url(settings: GatewaySettings, store: ObjectStore, engine: sa.Engine) -> Finding:
    """A file of the store, by a link as clients get it."""
    if settings.public_url is None:
        return Finding(
            "note", "public URL", "WAN_RELAY_PUBLIC_URL is not set; links begin with what each client called"
        )
    secret = settings.link_secret.encode() if settings.link_secret else kept_secret(engine, "links")
    key, content = f"probes/{secrets.token_hex(8)}.txt", secrets.token_hex(16).encode()
    await store.put(key, content, "text/plain")
    try:
        link = FileLinks(PathSigner(secret), settings.public_url).link(key, 60)
        timeout = aiohttp.ClientTimeout(total=LINK_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(link, allow_redirects=False) as answer,
        ):
            came = await answer.content.read(1000)
    except TimeoutError:
        return Finding("fault", "public URL", f"{settings.public_url} did not answer within {LINK_S:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Finding("fault", "public URL", f"{settings.public_url} cannot be reached: {type(error).__name__}")
    finally:
        await store.delete(key)
    if answer.status == 200 and came == content:
        return Finding("ok", "public URL", f"a link under {settings.public_url} gives the file")
    what = f"answers {answer.status}" if answer.status != 200 else "gives something else"
    return Finding("fault", "public URL", f"{settings.public_url} {what} where this gateway's file should be")


async def _expander(settings: GatewaySettings) -> Finding:
    expander = PromptExpander(
        settings.expander_url, settings.expander_model, settings.expander_key, settings.expander_language, False
    )
    request, _ = parse_request({"workflow": "wan22_t2v_4step", "prompt": "a lighthouse at dusk"})
    started = time.monotonic()
    text, why_not = await expander.expand(Draft(request))
    if text:
        return Finding("ok", "prompt expander", f"it answers in {time.monotonic() - started:.1f} s")
    if why_not == NOT_CONFIGURED:
        return Finding("note", "prompt expander", "WAN_RELAY_EXPANDER_URL is not set; prompts are used as they are")
    sentence = "it does not answer as /chat/completions of an OpenAI-compatible endpoint should"
    return Finding("fault", "prompt expander", sentence)
