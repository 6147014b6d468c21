"""Writes a short prompt out, by a chat model of the operator's choice (any OpenAI-compatible endpoint)."""

import asyncio
import base64
import re

import aiohttp

from ..contract.errors import JobError
from ..media.addresses import TrustedHosts
from ..media.fetch import fetch
from ..store.object_store import ObjectStore, StoreError
from .draft import Draft

DEADLINE_S = 25.0
MAX_CHARACTERS = 2000
MAX_PICTURE_BYTES = 20_000_000
PICTURE_S = 10.0
NOT_CONFIGURED = "prompt expansion is not configured on this gateway; the prompt was used as it is"
NOT_ANSWERED = "prompt expansion did not answer; the prompt was used as it is"
NOT_SEEN = "prompt expansion did not see the picture"
CONTENT_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
LANGUAGE = {"keep": "Write in the language of the user's prompt.", "english": "Write in English."}
SYSTEM = """You write prompts for a video model that animates one picture for five seconds.
Expand the user's prompt to 80 to 120 words of plain prose. Say what moves, how and in which order, how strongly, and
what the camera does; then light and mood. Keep every person, object and wish that the user names. Where you see the
picture, do not describe what it shows and what stays still, and invent nothing that contradicts it. No lists, no
headings, no quotation marks, no mention of the picture or of these rules. {language} Answer with the prompt alone."""


class PromptExpander:
    """`language` is `keep` or `english`; `sees_pictures` sends the start picture along, if need be from the store.

    It goes as its bytes: an address of a client's is not dialled by the operator's model, which may stand anywhere.
    """

    def __init__(
        self,
        url: str | None,
        model: str,
        key: str | None,
        language: str = "keep",
        sees_pictures: bool = True,
        store: ObjectStore | None = None,
    ) -> None:
        self._url = url.rstrip("/") if url else None
        self._model = model
        self._key = key
        self._system = SYSTEM.format(language=LANGUAGE[language])
        self._sees_pictures = sees_pictures
        self._store = store

    async def expand(self, draft: Draft, stored: str | None = None) -> tuple[str | None, str | None]:
        """The longer prompt, and a sentence that says why there is none or what it lacks. `stored` is the start
        picture's key where the store has it.
        """
        if not self._url:
            return None, NOT_CONFIGURED
        picture = why_not = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                try:
                    picture = await self._picture(draft, stored) if self._sees_pictures else None
                except JobError as error:
                    why_not = f"{NOT_SEEN}: {error.failure.sentence}"
                except StoreError as error:
                    why_not = f"{NOT_SEEN}: {error.sentence}"
                text = await self._ask(draft.request.prompt, picture)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, IndexError, TypeError):
            return None, NOT_ANSWERED
        return (text, why_not) if text else (None, NOT_ANSWERED)

    async def _picture(self, draft: Draft, stored: str | None) -> str | None:
        """The start picture as a data URI. Raises JobError, StoreError."""
        field, value = draft.request.start_image or ("", "")
        if field == "image_base64":
            return value if value.lstrip().startswith("data:") else f"data:image/png;base64,{value}"
        if stored and self._store:
            if (await self._store.stat(stored)).size > MAX_PICTURE_BYTES:
                raise JobError("IMAGE_TOO_LARGE", f"{field} is larger than {MAX_PICTURE_BYTES // 1_000_000} MB", field)
            content = await self._store.get(stored)
        elif field == "image_url":
            content = await fetch(value, MAX_PICTURE_BYTES, PICTURE_S, field, TrustedHosts())
        else:
            return None
        content_type = next((kind for magic, kind in CONTENT_TYPES.items() if content.startswith(magic)), "image/png")
        return f"data:{content_type};base64,{base64.b64encode(content).decode('ascii')}"

    async def _ask(self, prompt: str, picture: str | None) -> str:
        content: object = prompt
        if picture:
            content = [
                {"type": "text", "text": prompt},
                {"type": "image_url", "image_url": {"url": picture}},
            ]
        messages = [{"role": "system", "content": self._system}, {"role": "user", "content": content}]
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        body = {"model": self._model, "messages": messages, "max_tokens": 400}
        async with (
            aiohttp.ClientSession(trust_env=True) as session,
            session.post(f"{self._url}/chat/completions", json=body, headers=headers) as response,
        ):
            if response.status != 200:
                raise ValueError(response.status)
            answer = await response.json()
        return tidy(answer["choices"][0]["message"]["content"])


def tidy(text: str) -> str:
    """The prompt of a model's answer: no thoughts, no fences, no quotes around it, and not endless."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    text = re.sub(r"^```\w*\n|\n```$", "", text).strip()
    if len(text) > 1 and text[0] + text[-1] in ('""', "''", "“”", "«»", "「」"):
        text = text[1:-1]
    return " ".join(text.split())[:MAX_CHARACTERS]
