"""Tells a task's owner of its end: durably, at addresses that a client's words may lead to.

One workflow of the gateway's own queue for each telling. Its id is made of the task's, so that however many gateways
and restarts notice the end, it is told by one; and a gateway that dies between two tries goes on where it was.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from dbos import DBOS, StepOptions

from ..media.addresses import TrustedHosts
from ..media.guarded_http import BadUrl, dialled_url, guarded_session, is_blocked
from ..tasks.task import Task
from .desk import Desk
from .engine import Engine
from .journal import note, trace, warn
from .refusal import Refusal

WORKFLOW = "tell_webhook"
POST_S = 20.0
START_S = 300.0
PAUSES_STEP: StepOptions = {"name": "pauses", "retries_allowed": True, "max_attempts": 10}  # 8 minutes


class Webhooks:
    """Registers its workflow when it is made, which must be before the engine is launched."""

    def __init__(self, engine: Engine, trusted_hosts: TrustedHosts) -> None:
        self._engine = engine
        self._trusted_hosts = trusted_hosts
        self._is_in_use = threading.Event()
        self._dialects: Mapping[str, Any] = {}
        self._desk: Desk
        self._loop: asyncio.AbstractEventLoop

        @DBOS.workflow(name=WORKFLOW)
        async def tell_webhook(task_id: str) -> str:
            pauses = await DBOS.run_step_async(PAUSES_STEP, self._pauses, task_id)
            for pause_s in (0.0, *pauses):
                if pause_s:
                    await DBOS.sleep_async(pause_s)
                said = await DBOS.run_step_async({"name": "post"}, self._post, task_id)
                if said in ("told", "refused", "blocked", "gone"):
                    return said
            return "given up"

    def use(self, desk: Desk, dialects: Mapping[str, Any]) -> None:
        """What it tells of. Called on the loop that serves HTTP."""
        self._desk = desk
        self._dialects = dialects
        self._loop = asyncio.get_running_loop()
        self._is_in_use.set()

    async def ended(self, task: Task) -> None:
        """Queues the telling of a task that has ended; the same task again changes nothing."""
        dialect: Any = self._dialects.get(task.order.dialect)
        if task.order.webhook is None or not hasattr(dialect, "webhook"):
            return
        if hasattr(dialect, "is_news") and not dialect.is_news(None, task):
            return
        await self._engine.tell(WORKFLOW, task)

    async def _pauses(self, task_id: str) -> list[float]:
        """Seconds between its tries, as the task's provider makes them."""
        await self._serving()
        task = await self._on_own_loop(self._desk.find(task_id))
        return list(self._dialects[task.order.dialect].WEBHOOK_PAUSES_S) if task else []

    async def _serving(self) -> None:
        """What another gateway began is taken up as soon as the engine is launched, before there is a desk."""
        if not await asyncio.to_thread(self._is_in_use.wait, START_S):
            raise TimeoutError("the gateway does not serve")

    async def _post(self, task_id: str) -> str:
        await self._serving()
        said = await self._posted(task_id)
        (note if said == "told" else warn)("webhook", task_id=task_id, said=said)
        return said

    async def _posted(self, task_id: str) -> str:
        """`told`, `blocked`, `gone`, or what went wrong for this time."""
        try:
            task = await self._on_own_loop(self._desk.find(task_id))
            if task is None or task.order.webhook is None:
                return "gone"
            body, headers = await self._on_own_loop(self._dialects[task.order.dialect].webhook(task, self._desk))
        except Refusal as refusal:
            return refusal.code
        except Exception as error:
            warn("fault", task_id=task_id, error=trace(error))
            return type(error).__name__
        return await self._call(task, task.order.webhook.url, body, headers)

    async def tell_once(self, task: Task) -> None:
        """The task as it is, without a second try. Called on the loop that serves HTTP."""
        if task.order.webhook is not None:
            body, headers = await self._dialects[task.order.dialect].webhook(task, self._desk)
            await self._call(task, task.order.webhook.url, body, headers)

    async def _call(self, task: Task, url: str, body: bytes, headers: dict[str, str]) -> str:
        timeout = aiohttp.ClientTimeout(total=POST_S)
        try:
            async with (
                guarded_session(self._trusted_hosts, timeout=timeout) as session,
                session.post(
                    dialled_url(url),
                    data=body,
                    headers={"Content-Type": "application/json", **headers},
                    allow_redirects=False,
                ) as response,
            ):
                if 200 <= response.status < 300:
                    return "told"
                retried = getattr(self._dialects[task.order.dialect], "WEBHOOK_RETRY_STATUSES", None)
                return f"HTTP {response.status}" if retried is None or response.status in retried else "refused"
        except BadUrl:
            return "blocked"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return "blocked" if is_blocked(error) else type(error).__name__

    async def _on_own_loop(self, work: Any) -> Any:
        """DBOS runs workflows on a loop of its own."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def catch_up(self, tasks: list[Task]) -> None:
        """Tasks that ended while no gateway was there to notice."""
        for task in tasks:
            if task.finished_at_s and time.time() - task.finished_at_s < 24 * 3600:
                await self.ended(task)
