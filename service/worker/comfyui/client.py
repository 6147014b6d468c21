"""ComfyUI over HTTP: upload, queue, follow by websocket and history together, interrupt, forget."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from ...contract.errors import JobError
from ...media.plain_image import PlainImage
from ..workflow import Graph
from .failures import failed_execution, refused_prompt
from .process import ComfyGoneError, ComfyProcess

POLL_S = 1.0
RECONNECT_S = 0.5
ABSENT_POLLS = 3
REQUEST_TIMEOUT_S = 15.0
ABANDON_S = 10.0

# (node id, step, steps) of whatever reports progress
OnProgress = Callable[[str, int, int], None]


class Run:
    """One prompt in ComfyUI, with an id and a websocket of its own."""

    def __init__(
        self, session: aiohttp.ClientSession, process: ComfyProcess, graph: Graph, on_progress: OnProgress
    ) -> None:
        self.prompt_id = str(uuid.uuid4())
        self._client_id = uuid.uuid4().hex
        self._session = session
        self._process = process
        self._graph = graph
        self._on_progress = on_progress
        self._look = asyncio.Event()
        self.is_done = False

    async def finish(self) -> dict[str, Any]:
        """Queues the prompt and waits for its history entry.

        Neither source is enough alone: the websocket can drop for good, and history alone would cost a
        polling interval. Raises JobError for a failed run, ComfyGoneError when the process died.
        """
        tried = asyncio.Event()
        listener = asyncio.create_task(self._listen(tried))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), 2.0)
            await self._queue()
            entry = await self._poll()
            self.is_done = True
            return self._checked(entry)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _queue(self) -> None:
        body = {"prompt": self._graph, "prompt_id": self.prompt_id, "client_id": self._client_id}
        status, answer = await request(self._session, self._process, "POST", "/prompt", json=body)
        answer = answer if isinstance(answer, dict) else {}
        if status != 200 or answer.get("node_errors"):
            raise refused_prompt(answer, self._graph)
        if answer.get("prompt_id") != self.prompt_id:
            raise JobError("COMFYUI_UNAVAILABLE", "ComfyUI did not take the job under its own id", refresh_worker=True)

    async def _listen(self, tried: asyncio.Event) -> None:
        url = f"{self._process.url}/ws?clientId={self._client_id}"
        while True:
            try:
                async with self._session.ws_connect(url, max_msg_size=0, heartbeat=30) as socket:
                    tried.set()
                    async for message in socket:
                        if message.type == aiohttp.WSMsgType.TEXT:
                            self._hear(message.data)
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            # A lost connection may be the first sign of a death.
            tried.set()
            self._look.set()
            await asyncio.sleep(RECONNECT_S)

    def _hear(self, text: str) -> None:
        try:
            event = json.loads(text)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != self.prompt_id:
                return
            if kind == "executing" and data.get("node") is None:
                # Only this one comes after the history entry is there.
                self._look.set()
            elif kind == "progress":
                self._on_progress(str(data["node"]), int(data["value"]), int(data["max"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return

    async def _poll(self) -> dict[str, Any]:
        absent = 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), POLL_S)
            self._look.clear()
            try:
                entry = await self._history()
                if entry is not None:
                    return entry
                absent = 0 if await is_active(self._session, self._process, self.prompt_id) else absent + 1
            except TimeoutError:
                continue
            if absent >= ABSENT_POLLS:
                raise JobError("NO_OUTPUT", "ComfyUI has neither a result nor the job any more")

    async def _history(self) -> dict[str, Any] | None:
        _, body = await request(self._session, self._process, "GET", f"/history/{self.prompt_id}")
        entry = body.get(self.prompt_id) if isinstance(body, dict) else None
        return entry if isinstance(entry, dict) else None

    def _checked(self, entry: dict[str, Any]) -> dict[str, Any]:
        status = entry.get("status") or {}
        messages = dict(status.get("messages") or ())
        if "execution_error" in messages:
            raise failed_execution(messages["execution_error"], self._graph)
        if "execution_interrupted" in messages:
            raise JobError("INTERRUPTED", "the job was interrupted inside ComfyUI")
        if status.get("status_str") == "error":
            raise JobError("EXECUTION_FAILED", "ComfyUI reports an error without saying which")
        return entry

    async def abandon(self) -> bool:
        """Takes this prompt, and no other, out of ComfyUI. False if it is still there after ABANDON_S."""
        with contextlib.suppress(ComfyGoneError, TimeoutError):
            async with asyncio.timeout(ABANDON_S):
                await request(self._session, self._process, "POST", "/queue", json={"delete": [self.prompt_id]})
                await request(self._session, self._process, "POST", "/interrupt", json={"prompt_id": self.prompt_id})
                while await is_active(self._session, self._process, self.prompt_id):
                    await asyncio.sleep(0.05)
                return True
        return not self._process.is_running

    async def forget(self) -> None:
        """Removes the history entry, so that a long life costs no memory."""
        with contextlib.suppress(ComfyGoneError, TimeoutError):
            await request(self._session, self._process, "POST", "/history", json={"delete": [self.prompt_id]})


async def upload(session: aiohttp.ClientSession, process: ComfyProcess, image: PlainImage) -> str:
    """Puts the image into ComfyUI's input folder; returns the name that LoadImage takes."""
    form = aiohttp.FormData()
    form.add_field("image", image.content, filename=image.name, content_type="application/octet-stream")
    form.add_field("overwrite", "true")
    status, body = await request(session, process, "POST", "/upload/image", data=form)
    if status == 413:
        raise JobError("IMAGE_TOO_LARGE", "ComfyUI refused the image because of its size", "image")
    if status != 200 or not isinstance(body, dict) or not body.get("name"):
        raise JobError("DISK_FULL", "ComfyUI could not store the image", refresh_worker=True)
    return str(body["name"])


async def planned_switch(session: aiohttp.ClientSession, process: ComfyProcess, inputs: dict[str, Any]) -> int | None:
    """The first low-noise step of a sampling node with these inputs, as the pack plans it; None if it does not say."""
    query = {name: str(value) for name, value in inputs.items() if not isinstance(value, list)}
    status, plan = await request(session, process, "GET", "/wan_relay/schedule", params=query)
    return plan.get("switch_step") if status == 200 and isinstance(plan, dict) else None


async def is_active(session: aiohttp.ClientSession, process: ComfyProcess, prompt_id: str) -> bool:
    """True while the prompt waits or runs."""
    _, body = await request(session, process, "GET", "/queue")
    lists = [*(body.get("queue_running") or ()), *(body.get("queue_pending") or ())] if isinstance(body, dict) else []
    return any(item[1] == prompt_id for item in lists)


async def free_memory(session: aiohttp.ClientSession, process: ComfyProcess) -> None:
    with contextlib.suppress(ComfyGoneError, TimeoutError):
        await request(session, process, "POST", "/free", json={"unload_models": True, "free_memory": True})


async def request(
    session: aiohttp.ClientSession, process: ComfyProcess, method: str, path: str, **options: Any
) -> tuple[int, Any]:
    """(status, JSON body or None). Raises ComfyGoneError once the process is dead, TimeoutError if it is mute."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    try:
        async with session.request(method, process.url + path, timeout=timeout, **options) as response:
            content = await response.read()
    except (aiohttp.ClientError, OSError):
        # TimeoutError is an OSError too. A reset connection comes a moment before the kernel reports a death.
        await asyncio.sleep(0.1)
        if not process.is_running:
            raise ComfyGoneError from None
        raise TimeoutError from None
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None


@contextlib.asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """New for each job: a worker that was frozen and revived meets no stale connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
