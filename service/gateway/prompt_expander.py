"""Writes a short prompt out, by a chat model of the operator's choice (any OpenAI-compatible endpoint)."""

import asyncio
import re

import aiohttp

from .draft import Draft

DEADLINE_S = 25.0
MAX_CHARACTERS = 2000
NOT_CONFIGURED = "prompt expansion is not configured on this gateway; the prompt was used as it is"
NOT_ANSWERED = "prompt expansion did not answer; the prompt was used as it is"
LANGUAGE = {"keep": "Write in the language of the user's prompt.", "english": "Write in English."}
SYSTEM = """You write prompts for a video model that animates one picture for five seconds.
Expand the user's prompt to 80 to 120 words of plain prose. Say what moves, how and in which order, how strongly, and
what the camera does; then light and mood. Keep every person, object and wish that the user names. Where you see the
picture, do not describe what it shows and what stays still, and invent nothing that contradicts it. No lists, no
headings, no quotation marks, no mention of the picture or of these rules. {language} Answer with the prompt alone."""


class PromptExpander:
    """`language` is `keep` or `english`; `sees_pictures` sends the start picture along."""

    def __init__(
        self, url: str | None, model: str, key: str | None, language: str = "keep", sees_pictures: bool = True
    ):
        self._url = url.rstrip("/") if url else None
        self._model = model
        self._key = key
        self._system = SYSTEM.format(language=LANGUAGE[language])
        self._sees_pictures = sees_pictures

    async def expand(self, draft: Draft) -> tuple[str | None, str | None]:
        """The longer prompt, or a sentence that says why there is none."""
        if not self._url:
            return None, NOT_CONFIGURED
        try:
            text = await self._ask(draft)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, IndexError, TypeError):
            return None, NOT_ANSWERED
        return (text, None) if text else (None, NOT_ANSWERED)

    async def _ask(self, draft: Draft) -> str:
        content: object = draft.request.prompt
        if self._sees_pictures and (picture := _picture_url(draft)):
            content = [
                {"type": "text", "text": draft.request.prompt},
                {"type": "image_url", "image_url": {"url": picture}},
            ]
        messages = [{"role": "system", "content": self._system}, {"role": "user", "content": content}]
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        body = {"model": self._model, "messages": messages, "max_tokens": 400}
        async with (
            asyncio.timeout(DEADLINE_S),
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


def _picture_url(draft: Draft) -> str | None:
    image = draft.request.start_image
    if image is None or image[0] == "image_path":
        return None
    field, value = image
    if field == "image_url" or value.lstrip().startswith("data:"):
        return value
    return f"data:image/png;base64,{value}"
