"""The LoRAs of one job that have URLs: fetched before the GPU is used, held while it runs."""

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ...contract.errors import JobError
from ...contract.lora_request import LoraRequest, is_url, lora_urls
from ...contract.video_request import Request
from .access import FIELD, LoraAccess, refuse_hosts
from .cache import CacheFault, Entry, HeldFile, LoraCache
from .download import ServerAway, Source, download

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
        """The job's request with its LoRAs by those names."""
        return request.model_copy(update={"loras": self.named}) if self.loras else request

    def in_words(self, sentence: str) -> str:
        """With the names that the files have at their URLs in place of the cache's own."""
        for name, url in lora_urls(self.loras):
            if (held := self._held.get(url)) is not None:
                sentence = sentence.replace(held.path.name, _name_in(url) or name)
        return sentence

    def release(self) -> None:
        if not self._held:
            return
        for held in self._held.values():
            held.release()
        self._held.clear()
        with contextlib.suppress(OSError):
            self.cache.make_room()


def _name_in(url: str) -> str | None:
    """The last part of the path, where that is a file's name."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if _FILE_NAME.fullmatch(name) else None
