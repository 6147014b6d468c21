"""The LoRAs of one job that have URLs: fetched before the GPU is used, held while it runs."""

import asyncio
import contextlib
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from ...contract.errors import JobError
from ...contract.lora_request import LoraRequest, is_url, lora_urls
from ...contract.segment_request import with_lora_names
from ...contract.video_answer import SegmentUse, VideoAnswer
from ...contract.video_request import Request
from .access import FIELD, LoraAccess, refuse_hosts
from .cache import CacheFault, Entry, HeldFile, LoraCache
from .download import ServerAway, Source, download

Answer = TypeVar("Answer", bound=VideoAnswer)
_FILE_NAME = re.compile(r"[\w .()+-]{1,100}\.(safetensors|sft)", re.IGNORECASE)


@dataclass
class JobLoras:
    """`fetch` them, use `named`, and `release` them whatever came of it. `on_download` is told of each that begins."""

    loras: Sequence[LoraRequest]
    access: LoraAccess
    cache: LoraCache
    on_download: Callable[[], None]
    warnings: list[str] = field(default_factory=list)
    _held: dict[str, HeldFile] = field(default_factory=dict)

    @property
    def has_urls(self) -> bool:
        return any(lora_urls(self.loras))

    async def fetch(self) -> None:
        """Raises JobError, with a sentence about the first that cannot be had."""
        refuse_hosts(self.loras, self.access)
        for name, url in lora_urls(self.loras):
            if url not in self._held:
                self._held[url] = await self._within_limits(Source(url, name))

    async def _within_limits(self, source: Source) -> HeldFile:
        try:
            async with asyncio.timeout(self.access.timeout_s) as limit:
                self.cache.make_folders()
                return await self._file(source)
        except (CacheFault, OSError) as fault:
            if isinstance(fault, TimeoutError) and limit.expired():
                sentence = f"{source.name} was not downloaded within {self.access.timeout_s:g} s"
                raise JobError("DOWNLOAD_TIMEOUT", sentence, FIELD) from None
            print(f"LoRA cache: {fault!r}", file=sys.stderr, flush=True)
            reason = (fault if isinstance(fault, CacheFault) else CacheFault(fault)).reason
            sentence = f"the folder of downloaded LoRAs cannot be written: {reason}"
            raise JobError("DISK_FULL", sentence, refresh_worker=True) from None

    async def _file(self, source: Source) -> HeldFile:
        async with self.cache.entry(source.url) as entry:
            old = entry.hold()
            try:
                new = await self._newest(source, entry, old)
            except BaseException:
                if old is not None:
                    old.release()
                raise
            if old is not None and new is not old:
                old.release()
            return new

    async def _newest(self, source: Source, entry: Entry, old: HeldFile | None) -> HeldFile:
        """The file of the last time, where the server says that it is the same, or cannot be asked."""
        known = entry.known() if old is not None else None
        try:
            with self.cache.partial() as partial:
                found = await download(Source(source.url, source.name, known), self.access, partial, self._begin)
                if old is not None and found == known:
                    return old
                entry.remember(found)
                return self.cache.keep(partial, found.sha256)
        except ServerAway as away:
            if old is None:
                raise away.error from None
            self.warnings.append(f"{away.error.sentence}; the file that it led to before was used")
            return old

    async def _begin(self, num_bytes: int) -> None:
        self.on_download()
        try:
            await asyncio.to_thread(self.cache.make_room, num_bytes)
        except OSError as fault:
            raise CacheFault(fault) from None

    @property
    def named(self) -> tuple[LoraRequest, ...]:
        """The job's LoRAs by names that ComfyUI lists."""

        def name(file: str | None) -> str | None:
            return self._held[file].path.name if file is not None and is_url(file) else file

        return tuple(lora.model_copy(update={"high": name(lora.high), "low": name(lora.low)}) for lora in self.loras)

    def with_file_names(self, request: Request) -> Request:
        """The job's request with its LoRAs by those names, also in the tags of its segments."""
        if not self.loras:
            return request
        segments = request.segments and tuple(
            segment.model_copy(update={"prompt": with_lora_names(segment.prompt, self._file_of_tag)})
            for segment in request.segments
        )
        return request.model_copy(update={"loras": self.named} | ({"segments": segments} if segments else {}))

    def _file_of_tag(self, name: str) -> str:
        """The cache's name of the file by URL that a tag names: by its name there, or a part of it that no other of the
        job's LoRAs has. Any other name stays.
        """
        for fits in (_is_name, _is_part):
            found = [[file for file in (lora.high, lora.low) if file and fits(name, file)] for lora in self.loras]
            if any(found):
                files = next(filter(None, found))
                is_one_by_url = sum(map(bool, found)) == 1 and is_url(files[0])
                return self._held[files[0]].path.name if is_one_by_url else name
        return name

    def in_words(self, sentence: str) -> str:
        """With the names that the files have at their URLs in place of the cache's own."""
        for name, url in lora_urls(self.loras):
            if (held := self._held.get(url)) is not None:
                sentence = sentence.replace(held.path.name, _name_in(url) or name)
        return sentence

    def answer_in_words(self, answer: Answer) -> Answer:
        new: dict[str, Any] = {"warnings": [self.in_words(sentence) for sentence in answer.warnings]}
        if answer.segments:
            new["segments"] = [self._segment_in_words(segment) for segment in answer.segments]
        return answer.model_copy(update=new)

    def _segment_in_words(self, segment: SegmentUse) -> SegmentUse:
        if not segment.loras:
            return segment
        loras = [lora.model_copy(update={"name": self.in_words(lora.name)}) for lora in segment.loras]
        return segment.model_copy(update={"loras": loras})

    def release(self) -> None:
        if not self._held:
            return
        for held in self._held.values():
            held.release()
        self._held.clear()
        with contextlib.suppress(OSError):
            self.cache.make_room()


def _is_name(name: str, file: str) -> bool:
    """Of a file, with or without its folder and ending."""
    part, path = _comparable(name), _known_as(file)
    return any(f"/{known}".endswith(f"/{part}") for known in (path, _without_ending(path)) if part)


def _is_part(name: str, file: str) -> bool:
    part, path = _comparable(name), _without_ending(_known_as(file))
    return bool(part) and part in (path if "/" in part else path.rpartition("/")[2])


def _known_as(file: str) -> str:
    """Nothing for a URL that ends with no file's name."""
    return _comparable(_name_in(file) or "") if is_url(file) else _comparable(file)


def _comparable(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").casefold())


def _without_ending(path: str) -> str:
    return re.sub(r"\.\w+$", "", path)


def _name_in(url: str) -> str | None:
    """The last part of the path, where that is a file's name."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if _FILE_NAME.fullmatch(name) else None
