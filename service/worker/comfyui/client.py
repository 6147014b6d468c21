"""ComfyUI over HTTP: upload, queue, follow by websocket and history together, interrupt, forget.

Slow is not dead. What a job needs (upload, queue, history) is waited for while ComfyUI lives and is not silent
altogether; the job's deadline is the only other limit. What only helps (the planned switch, the websocket, forgetting,
freeing memory) is given ADVICE_S, and fails no job.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import aiohttp

from ...contract.errors import JobError
from ...media.plain_image import PlainImage
from ..exported_graph import NodeFacts
from ..graph_nodes import Graph
from .failures import failed_execution, refused_prompt
from .process import ComfyGoneError, ComfyProcess, ComfySilentError

POLL_S = 1.0
RECONNECT_S = 0.5
ABSENT_POLLS = 3
# How long a needed call takes before ComfyUI is asked for a sign of life, and how long one that only helps may take.
PATIENCE_S = 5.0
ADVICE_S = 5.0
# An interrupt is heard between two parts of a step. With the default budget of 570 s the answer still comes before the
# platform's own limit of 600 s.
ABANDON_S = 15.0

# (node id, step, steps) of whatever reports progress
OnProgress = Callable[[str, int, int], None]


class BrokenCallError(Exception):
    """The connection broke although the process lives: it may have heard the call, or not."""


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
        polling interval. Raises JobError for a failed run or a silent ComfyUI, ComfyGoneError when the process died.
        """
        tried = asyncio.Event()
        listener = asyncio.create_task(self._listen(tried))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), ADVICE_S)
            await self._queue()
            entry = await self._poll()
            self.is_done = True
            return self._checked(entry)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _queue(self) -> None:
        """The prompt's id is ours: after a broken call ComfyUI is asked for it, so that no prompt is queued twice."""
        body = {"prompt": self._graph, "prompt_id": self.prompt_id, "client_id": self._client_id}
        while True:
            try:
                status, answer = await ask_once(self._session, self._process, "POST", "/prompt", json=body)
                break
            except BrokenCallError:
                await asyncio.sleep(RECONNECT_S)
                if await self._is_known():
                    return
        answer = answer if isinstance(answer, dict) else {}
        if status != 200 or answer.get("node_errors"):
            await self._complete_lists(answer.get("node_errors"))
            raise refused_prompt(answer, self._graph)
        if answer.get("prompt_id") != self.prompt_id:
            raise JobError("COMFYUI_UNAVAILABLE", "ComfyUI did not take the job under its own id", refresh_worker=True)

    async def _complete_lists(self, node_errors: Any) -> None:
        """Adds the lists of files that ComfyUI leaves out of a refusal when they are longer than 20."""
        for node in node_errors.values() if isinstance(node_errors, dict) else ():
            for fault in node.get("errors") or ():
                extra = fault.get("extra_info") or {}
                if fault.get("type") != "value_not_in_list" or extra.get("input_config"):
                    continue
                class_type, name = str(node.get("class_type")), str(extra.get("input_name"))
                known: Any = await advice(self._session, self._process, "GET", f"/object_info/{class_type}")
                with contextlib.suppress(KeyError, TypeError):
                    extra["input_config"] = known[class_type]["input"]["required"][name]

    async def _is_known(self) -> bool:
        """Queue first: what leaves it between the two questions is in the history."""
        return await is_active(self._session, self._process, self.prompt_id) or await self._history() is not None

    async def _listen(self, tried: asyncio.Event) -> None:
        url = f"{self._process.url}/ws?clientId={self._client_id}"
        while True:
            try:
                async with self._session.ws_connect(url, max_msg_size=0, heartbeat=30) as socket:
                    tried.set()
                    async for message in socket:
                        if message.type == aiohttp.WSMsgType.TEXT:
                            self._hear(message.data)
            except (aiohttp.ClientError, OSError):
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
        while absent < ABSENT_POLLS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), POLL_S)
            self._look.clear()
            entry = await self._history()
            if entry is not None:
                return entry
            absent = 0 if await is_active(self._session, self._process, self.prompt_id) else absent + 1
        raise JobError("NO_OUTPUT", "ComfyUI has neither a result nor the job any more")

    async def _history(self) -> dict[str, Any] | None:
        _, body = await ask(self._session, self._process, "GET", f"/history/{self.prompt_id}")
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
        with contextlib.suppress(ComfyGoneError, JobError, TimeoutError):
            async with asyncio.timeout(ABANDON_S):
                await ask(self._session, self._process, "POST", "/queue", json={"delete": [self.prompt_id]})
                await ask(self._session, self._process, "POST", "/interrupt", json={"prompt_id": self.prompt_id})
                while await is_active(self._session, self._process, self.prompt_id):
                    await asyncio.sleep(0.05)
                return True
        return not self._process.is_running

    async def forget(self) -> None:
        """Removes the history entry, so that a long life costs no memory."""
        await advice(self._session, self._process, "POST", "/history", json={"delete": [self.prompt_id]})


async def upload(session: aiohttp.ClientSession, process: ComfyProcess, image: PlainImage) -> str:
    """Puts the image into ComfyUI's input folder; returns the name that LoadImage takes."""
    form = aiohttp.FormData()
    form.add_field("image", image.content, filename=image.name, content_type="application/octet-stream")
    form.add_field("overwrite", "true")
    status, body = await ask(session, process, "POST", "/upload/image", data=form)
    if status == 413:
        raise JobError("IMAGE_TOO_LARGE", "ComfyUI refused the image because of its size", "image")
    if status != 200 or not isinstance(body, dict) or not body.get("name"):
        raise JobError("DISK_FULL", "ComfyUI could not store the image", refresh_worker=True)
    return str(body["name"])


async def class_facts(
    session: aiohttp.ClientSession, process: ComfyProcess, classes: Iterable[str]
) -> dict[str, NodeFacts]:
    """By class, those that ComfyUI has."""
    found = {}
    for class_type in sorted(set(classes)):
        _, body = await ask(session, process, "GET", f"/object_info/{quote(class_type, safe='')}")
        info = body.get(class_type) if isinstance(body, dict) else None
        if isinstance(info, dict):
            found[class_type] = NodeFacts.of(info)
    return found


async def planned_switch(
    session: aiohttp.ClientSession, process: ComfyProcess, inputs: dict[str, Any], opening_steps: int
) -> int | None:
    """The first low-noise step of a sampling node with these inputs behind an opening leg of so many steps, as the
    pack plans it; None if it does not say."""
    query = {name: str(value) for name, value in inputs.items() if not isinstance(value, list)}
    if opening_steps:
        query["opening"] = str(opening_steps)
    plan = await advice(session, process, "GET", "/wan_relay/schedule", params=query)
    step = plan.get("switch_step") if isinstance(plan, dict) else None
    return step if isinstance(step, int) else None


async def is_active(session: aiohttp.ClientSession, process: ComfyProcess, prompt_id: str) -> bool:
    """True while the prompt waits or runs."""
    _, body = await ask(session, process, "GET", "/queue")
    lists = [*(body.get("queue_running") or ()), *(body.get("queue_pending") or ())] if isinstance(body, dict) else []
    return any(item[1] == prompt_id for item in lists)


async def free_memory(session: aiohttp.ClientSession, process: ComfyProcess) -> None:
    await advice(session, process, "POST", "/free", json={"unload_models": True, "free_memory": True})


async def advice(
    session: aiohttp.ClientSession, process: ComfyProcess, method: str, path: str, **options: Any
) -> Any | None:
    """The JSON body of a call that only helps; None if it fails or takes longer than ADVICE_S."""
    with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
        async with asyncio.timeout(ADVICE_S):
            status, body = await _exchange(session, method, process.url + path, options)
            return body if status == 200 else None
    return None


async def ask(
    session: aiohttp.ClientSession, process: ComfyProcess, method: str, path: str, **options: Any
) -> tuple[int, Any]:
    """(status, JSON body or None) of a call that the job needs and may make twice. Raises as `ask_once` does."""
    while True:
        with contextlib.suppress(BrokenCallError):
            return await ask_once(session, process, method, path, **options)
        await asyncio.sleep(RECONNECT_S)
        await _wait_answer(process)


async def ask_once(
    session: aiohttp.ClientSession, process: ComfyProcess, method: str, path: str, **options: Any
) -> tuple[int, Any]:
    """(status, JSON body or None) of a call that the job needs, made once and waited for without a limit.

    Raises ComfyGoneError once the process is dead, JobError once it is silent (see SILENCE_S), BrokenCallError.
    """
    exchange = asyncio.create_task(_exchange(session, method, process.url + path, options))
    try:
        while not (await asyncio.wait({exchange}, timeout=PATIENCE_S))[0]:
            await _wait_answer(process)
        return exchange.result()
    except (aiohttp.ClientError, OSError):
        # A reset connection comes a moment before the kernel reports a death.
        await asyncio.sleep(0.1)
        raise (BrokenCallError if process.is_running else ComfyGoneError) from None
    finally:
        exchange.cancel()
        await asyncio.gather(exchange, return_exceptions=True)


async def _wait_answer(process: ComfyProcess) -> None:
    try:
        await process.wait_answer()
    except ComfySilentError:
        raise JobError("COMFYUI_UNAVAILABLE", process.last_words(), refresh_worker=True) from None


async def _exchange(session: aiohttp.ClientSession, method: str, url: str, options: dict[str, Any]) -> tuple[int, Any]:
    async with session.request(method, url, **options) as response:
        content = await response.read()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None
