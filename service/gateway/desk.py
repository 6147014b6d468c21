"""Where every dialect hands its drafts in and asks for its tasks: the one thing of the gateway that a dialect knows."""

import asyncio
import base64
import functools
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from dbos import error as dbos_error
from sqlalchemy.exc import SQLAlchemyError

from ..contract.errors import JobError
from ..contract.failure import Failure
from ..contract.seeds import drawn
from ..contract.video_request import VideoRequest
from ..media.base64_text import decode_base64
from ..media.guarded_http import BadUrl, dialled_url
from ..store.object_store import Content, ObjectNotFoundError, ObjectStore, StoredObject, StoreError, StoreFullError
from ..store.signed_paths import SignatureError
from ..tasks.task import Order, Task
from ..tasks.task_id import new_task_id
from .board import Board
from .draft import Draft
from .duplicates import Duplicates, Submit
from .engine import Engine
from .files import FileLinks
from .journal import note
from .keys import Caller, Keys
from .limits import Limits
from .refusal import Refusal, no_such_task

DATABASE_S = 8.0
TAKE_BACK_PAUSES_S = (0.5, 1, 2, 5, 10, 30, 60, 60, 120, 300)
DATABASE_ERRORS = (TimeoutError, OSError, SQLAlchemyError, dbos_error.DBOSException)
MAX_PICTURE_BYTES = 40_000_000
# field of a request -> that of a picture which lies in the store
PICTURE_FIELDS = {
    "image_base64": "image_base64",
    "image_url": "image_base64",
    "end_image_base64": "end_image_base64",
    "end_image_url": "end_image_base64",
}

T = TypeVar("T")


class Expander(Protocol):
    async def expand(self, draft: Draft, stored: str | None = None) -> tuple[str | None, str | None]:
        """The longer prompt, and a sentence that says why there is none or what it lacks. `stored` is the start
        picture's key where the store has it.
        """


class Desk:
    """Submits, shows, cancels and deletes tasks for the callers that they belong to."""

    def __init__(
        self,
        engine: Engine,
        board: Board,
        store: ObjectStore,
        links: FileLinks,
        keys: Keys,
        expander: Expander,
        adapt: Callable[[Draft], Draft] = lambda draft: draft,
        *,
        models: dict[str, tuple[str, str]],
        secret: Callable[[str], bytes],
        max_upload_bytes: int,
    ) -> None:
        """`adapt` makes of a draft what this gateway's backend can do, such as the toy size. `models` are the
        operator's own names, each with the workflow for a picture and that for words alone. `secret` gives 32 bytes
        for a name, always the same ones.
        """
        self.models = models
        self._engine = engine
        self._board = board
        self.store = store
        self.links = links
        self._keys = keys
        self._expander = expander
        self._adapt = adapt
        self.secret = functools.cache(secret)
        self.max_upload_bytes = max_upload_bytes
        self._limits = Limits()
        self._duplicates = Duplicates()
        self._submitting: dict[str, asyncio.Task[Task]] = {}
        self._num_coming: Counter[str] = Counter()
        self._taking_back: set[asyncio.Task[None]] = set()
        self.count_executors: Callable[[], int] = lambda: 0

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return self._keys.is_open

    def caller(self, authorization: str | None) -> Caller:
        """Raises Refusal UNAUTHORIZED."""
        caller = self._keys.caller(authorization)
        if caller is None:
            what = "is not known" if authorization else "is needed in the header Authorization"
            raise Refusal("UNAUTHORIZED", f"a key of this gateway {what}")
        return caller

    async def submit(self, dialect: str, draft: Draft, caller: Caller, submit: Submit) -> Task:
        """The new task, or the one that this submit repeats. Raises JobError, before anything is queued.

        What was begun is finished although the client went: it may come again for it.
        """
        known = self._duplicates.task_of(caller.id, submit)
        if known is not None:
            self._duplicates.remember(caller.id, submit, known)
            if known in self._submitting:
                return await asyncio.shield(self._submitting[known])
            if (task := await self.find(known)) is not None:
                return task
        task_id = new_task_id()
        is_held = self._must_hold(caller)
        self._duplicates.remember(caller.id, submit, task_id)
        work = asyncio.create_task(self._submit(task_id, dialect, draft, caller, submit, is_held))
        self._submitting[task_id] = work
        self._num_coming[caller.id] += 1
        work.add_done_callback(lambda _: self._submitted(task_id, caller))
        try:
            return await asyncio.shield(work)
        except JobError:
            self._duplicates.forget(caller.id, submit)
            raise

    def _must_hold(self, caller: Caller) -> bool:
        """Whether the caller's next task must wait for its own to end. Raises Refusal where it may have none."""
        own = [task for task in self._board.live if task.order.owner == caller.id]
        return self._limits.admit(caller, own, self._num_coming[caller.id])

    def _submitted(self, task_id: str, caller: Caller) -> None:
        del self._submitting[task_id]
        self._num_coming[caller.id] -= 1

    async def _submit(
        self, task_id: str, dialect: str, draft: Draft, caller: Caller, submit: Submit, is_held: bool
    ) -> Task:
        draft = self._adapt(draft)
        expanded = None
        wire, pictures = await self._without_pictures(task_id, draft.request, submit.base_url)
        if draft.is_expansion_wanted:
            expanded, why_not = await self._expander.expand(draft, pictures.get("image_base64"))
            draft = draft.warned(*([why_not] if why_not else []))
        if expanded:
            wire["prompt"] = expanded
        if draft.request.seed < 0:
            wire["seed"] = drawn(draft.request.first_seed)  # whoever takes it over makes the same video
        order = Order(
            dialect=dialect,
            owner=caller.id,
            request=wire,
            pictures=pictures,
            model=draft.model,
            warnings=draft.warnings,
            expanded_prompt=expanded,
            ordered_at_s=round(time.time(), 3),
            webhook=draft.webhook,
            base_url=submit.base_url,
            retention_s=draft.retention_s,
            deadline_s=draft.deadline_s,
            start_deadline_s=draft.start_deadline_s,
            end_deadline_s=draft.end_deadline_s,
            digest=submit.name,
            extras=draft.extras,
        )
        queueing = asyncio.create_task(
            self._engine.submit(task_id, order, is_held=is_held, priority=draft.priority), name=task_id
        )
        try:
            await self._ask(asyncio.shield(queueing))
            [task] = await self._ask(self._engine.get([task_id]))
        except Refusal:
            work = asyncio.create_task(self._take_back(queueing))
            self._taking_back.add(work)
            work.add_done_callback(self._taking_back.discard)
            raise
        self._board.put(task)
        note("task_ordered", request_id=submit.request_id, task_id=task_id, dialect=dialect, key=caller.name)
        return await self._board.get(task_id) or task

    async def _take_back(self, queueing: "asyncio.Task[None]") -> None:
        """The client was told that its task was not taken, and may send it again: it must not run."""
        task_id = queueing.get_name()
        for pause_s in TAKE_BACK_PAUSES_S:
            try:
                await asyncio.wait([queueing])
                await self._engine.cancel(task_id)
                await self._engine.delete([task_id])
                self._board.forget(task_id)
                return
            except DATABASE_ERRORS:
                await asyncio.sleep(pause_s)

    async def _ask(self, question: Awaitable[T]) -> T:
        """What the database says. Raises Refusal QUEUE_UNAVAILABLE where it says nothing."""
        try:
            async with asyncio.timeout(DATABASE_S):
                return await question
        except DATABASE_ERRORS:
            raise Refusal("QUEUE_UNAVAILABLE", "the gateway's database does not answer", retry_after_s=5) from None

    async def _without_pictures(
        self, task_id: str, request: VideoRequest, base_url: str
    ) -> tuple[dict[str, object], dict[str, str]]:
        """The request without what is too large for a queue, and where that lies now."""
        wire = request.to_wire()
        pictures: dict[str, str] = {}
        for field, stored_as in PICTURE_FIELDS.items():
            text = wire.get(field)
            if not text:
                continue
            if not field.endswith("url") or text.lstrip()[:5].lower() == "data:":
                content = decode_base64(text, MAX_PICTURE_BYTES, field)
                key = f"inputs/{task_id}/{hashlib.sha256(content).hexdigest()[:16]}.bin"
                await self.keep(key, content, "application/octet-stream")
            elif own_key := self.links.key_of(text, [base_url.partition("://")[2]]):
                key = own_key
            else:
                _check_url(text, field)
                continue
            del wire[field]
            pictures[stored_as] = key
        return wire, pictures

    def check_upload(self, key: str, query: str) -> None:
        """Raises Refusal where the query is not what an upload link of that key ends in."""
        try:
            self.links.check_upload(key, query)
        except SignatureError as error:
            raise Refusal("UNAUTHORIZED", error.sentence) from None

    async def pictures(self, task: Task) -> dict[str, str]:
        """The stored pictures of a task as base64, by their fields. Raises Refusal NOT_FOUND."""
        try:
            contents = {field: await self.store.get(key) for field, key in task.order.pictures.items()}
        except ObjectNotFoundError:
            raise _pictures_gone() from None
        except StoreError:
            raise _store_unavailable() from None
        return {field: base64.b64encode(content).decode("ascii") for field, content in contents.items()}

    async def keep(self, key: str, content: Content, content_type: str) -> StoredObject:
        """Stores a file. Raises Refusal."""
        try:
            return await self.store.put(key, content, content_type)
        except StoreFullError:
            raise Refusal("STORE_FULL", "the gateway's store is full", retry_after_s=60) from None
        except StoreError:
            raise _store_unavailable() from None

    async def get(self, task_id: str, caller: Caller) -> Task:
        """Raises Refusal NOT_FOUND, also for somebody else's task."""
        task = await self.find(task_id)
        if task is None or task.order.owner != caller.id:
            raise no_such_task(task_id)
        return task

    async def get_own(self, task_id: str, caller: Caller, dialect: str) -> Task:
        """One that came in by this dialect, and can be shown in its words. Raises Refusal NOT_FOUND."""
        task = await self.get(task_id, caller)
        if task.order.dialect != dialect:
            raise no_such_task(task_id)
        return task

    async def find(self, task_id: str) -> Task | None:
        """Of any owner."""
        return await self._ask(self._board.get(task_id))

    async def page(self, caller: Caller, dialect: str, limit: int, offset: int = 0) -> list[Task]:
        """The caller's tasks of one dialect, the newest first."""
        found: list[Task] = []
        skipped = 0
        start = 0
        while len(found) < limit:
            page = await self._ask(self._engine.of_owner(caller.id, 200, start))
            for task in page:
                if task.order.dialect == dialect:
                    skipped += 1
                    if skipped > offset and len(found) < limit:
                        found.append(await self._board.get(task.id) or task)
            if len(page) < 200:
                break
            start += 200
        return found

    async def cancel(self, task_id: str, caller: Caller) -> Task:
        """The task as it is then; one that has ended stays as it ended."""
        task = await self.get(task_id, caller)
        if not task.is_final:
            await self._ask(self._engine.cancel(task_id))
            [task] = await self._ask(self._engine.get([task_id])) or [task]
            self._board.put(task)
        return task

    async def cancel_waiting(self, tasks: Sequence[Task]) -> int:
        """Cancels those of them that still wait; how many that were."""
        ids = [task.id for task in tasks]
        waiting = [task.id for task in await self._engine.get(ids) if task.state in ("queued", "throttled")]
        await self._engine.cancel_all(waiting)
        now = await self._engine.get(waiting)
        for task in now:
            self._board.put(task)
        return sum(task.state == "cancelled" for task in now)

    async def again(self, task: Task, caller: Caller) -> Task:
        """A task that has ended, queued anew under its id, with all its time again; its webhook is told again.

        Raises Refusal, NOT_FOUND where its pictures are kept no longer.
        """
        for key in task.order.pictures.values():
            try:
                await self.store.stat(key)
            except ObjectNotFoundError:
                raise _pictures_gone() from None
            except StoreError:
                raise _store_unavailable() from None
        is_held = self._must_hold(caller)
        anew = {"attempt": task.order.attempt + 1, "ordered_at_s": round(time.time(), 3)}
        order = task.order.model_copy(update=anew)
        await self._ask(self._engine.submit_again(task.id, order, is_held=is_held))
        [task] = await self._ask(self._engine.get([task.id]))
        self._board.put(task)
        return task

    async def delete(self, task_id: str, caller: Caller) -> None:
        """Cancels it if it lives; its files and its record go."""
        task = await self.cancel(task_id, caller)
        await self.remove_files(task)
        await self._ask(self._engine.delete_all_of([task]))
        self._board.forget(task_id)

    async def remove_files(self, task: Task) -> None:
        """The video and what was stored of the order."""
        for key in (*task.order.pictures.values(), *([task.outcome.video.key] if task.outcome.video else [])):
            if key.split("/")[1] == task.id:  # an uploaded file is its uploader's
                try:
                    await self.store.delete(key)
                except StoreError:
                    raise _store_unavailable() from None

    async def wait(self, task_id: str, caller: Caller, timeout_s: float) -> Task:
        """The task at its end, or as it is after that time."""
        deadline = time.monotonic() + timeout_s
        while True:
            task = await self.get(task_id, caller)
            left = deadline - time.monotonic()
            if task.is_final or left <= 0 or self._board.is_closing:
                return task
            await self._board.news(task_id, left)

    def why_no_end(self, timeout_s: float) -> Failure:
        """Of a task that was waited for so long and has not ended."""
        if self._board.is_closing:
            sentence = "the gateway is stopping; the task goes on without this call"
            return Failure(code="QUEUE_UNAVAILABLE", sentence=sentence)
        return Failure(code="TIMEOUT", sentence=f"the video was not there after {timeout_s:g} s")

    def follow(self, task_id: str) -> AsyncIterator[Task]:
        """The task now and after each change, to its end; again every 15 s when nothing changes."""
        return self._board.follow(task_id)

    def live(self, caller: Caller, dialect: str) -> list[Task]:
        """The caller's tasks of one dialect that have not ended, from memory."""
        return [t for t in self._board.live if t.order.owner == caller.id and t.order.dialect == dialect]

    def ended(self, caller: Caller, dialect: str) -> list[Task]:
        """The caller's tasks of one dialect that ended lately, from memory."""
        return [t for t in self._board.ended if t.order.owner == caller.id and t.order.dialect == dialect]

    def executors(self) -> tuple[int, int]:
        """How many are alive, and how many of them have a task, whoever's."""
        return self.count_executors(), len({task.executor for task in self._board.live if task.state == "running"})

    def video_url(self, task: Task, base_url: str = "") -> str | None:
        """A link to the video that works without a key until the video goes; None if there is none any more."""
        video = task.outcome.video
        if video is None or task.is_removed(time.time()):
            return None
        left_s = (task.expires_at_s or 0) - time.time()
        return self.links.link(video.key, left_s, base_url or task.order.base_url)

    async def video_base64(self, task: Task) -> str:
        """Raises Refusal NOT_FOUND if it is there no more."""
        return base64.b64encode(await self.video_bytes(task)).decode("ascii")

    async def video_stream(self, task: Task) -> AsyncIterator[bytes]:
        """Raises Refusal NOT_FOUND before the first piece."""
        video = task.outcome.video
        try:
            if video is None:
                raise ObjectNotFoundError("")
            await self.store.stat(video.key)
        except ObjectNotFoundError:
            raise Refusal("NOT_FOUND", "the video is kept no longer") from None
        return self.store.read(video.key)

    async def video_bytes(self, task: Task) -> bytes:
        """Raises Refusal NOT_FOUND if it is there no more."""
        video = task.outcome.video
        if video is None:
            raise Refusal("NOT_FOUND", "the task has no video")
        try:
            return await self.store.get(video.key)
        except ObjectNotFoundError:
            raise Refusal("NOT_FOUND", "the video is kept no longer") from None
        except StoreError:
            raise _store_unavailable() from None

    def recall(self, tasks: Iterable[Task]) -> None:
        """Tasks that were ordered lately, maybe of a gateway that died before it could answer."""
        now = time.time()
        for task in tasks:
            self._duplicates.recall(task.order.owner, task.order.digest, task.id, max(0.0, now - task.created_at_s))


def _check_url(url: str, field: str) -> None:
    """Raises JobError where a worker would refuse it unread."""
    try:
        dialled_url(url)
    except BadUrl as error:
        raise JobError("INVALID_URL", f"{field} {error}", field) from None


def _store_unavailable() -> Refusal:
    return Refusal("STORE_UNAVAILABLE", "the gateway's store does not answer", retry_after_s=5)


def _pictures_gone() -> Refusal:
    return Refusal("NOT_FOUND", "the task's pictures are kept no longer; send it anew")
