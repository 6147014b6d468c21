"""Text embeddings on disk, so that a known prompt needs no text encoder, not even in a new process."""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import folder_paths
import safetensors
import safetensors.torch
import torch

DEFAULT_MAX_MB = 256
FORMAT = 1
ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
TEMPORARY_NAME = re.compile(r"[0-9a-f]{64}\.\d+\.[0-9a-f]{8}\.part")
STALE_TEMPORARY_S = 3600

Conditioning = list[list[Any]]


class NotStorableError(Exception):
    """A conditioning that holds something other than tensors and plain values."""


class PromptCache:
    """Conditionings by key, one safetensors file each, the least recently used dropped beyond `max_bytes`.

    Safe under several processes: an entry appears whole, by rename, and a damaged one counts as absent.
    A folder that cannot be written makes a cache that keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    @classmethod
    def from_environment(cls) -> "PromptCache":
        """WAN_RELAY_PROMPT_CACHE is the folder (else in ComfyUI's user folder, out of reach of its HTTP
        routes); WAN_RELAY_PROMPT_CACHE_MB its size (else 256), 0 for no cache."""
        folder = os.environ.get("WAN_RELAY_PROMPT_CACHE") or folder_paths.get_system_user_directory("wan_relay_prompts")
        try:
            megabytes = float(os.environ.get("WAN_RELAY_PROMPT_CACHE_MB") or DEFAULT_MAX_MB)
        except ValueError:
            logging.warning("WAN_RELAY_PROMPT_CACHE_MB is not a number; %d is used.", DEFAULT_MAX_MB)
            megabytes = DEFAULT_MAX_MB
        return cls(Path(folder), int(megabytes * 1e6))

    def read(self, key: str) -> Conditioning | None:
        """The conditioning kept under `key`, on the CPU, or None."""
        path = self._path(key)
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.get("digest") != _digest(tensors, metadata.get("entries", "")):
                raise ValueError("its content does not match its digest")
            conditioning = _unpack(tensors, json.loads(metadata["entries"]))
        except FileNotFoundError:
            return None
        except Exception as error:
            logging.warning("A kept prompt embedding is damaged and will be made again: %s (%s)", path.name, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return conditioning

    def write(self, key: str, conditioning: Conditioning) -> None:
        """Keep `conditioning`; silently not, if it holds more than tensors and plain values."""
        if self.max_bytes <= 0:
            return
        try:
            tensors, entries = _pack(conditioning)
        except NotStorableError:
            return
        metadata = {"entries": entries, "digest": _digest(tensors, entries)}
        temporary = self.folder / f"{key}.{os.getpid()}.{os.urandom(4).hex()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))
            temporary.replace(self._path(key))
            self._drop_least_recent()
        except OSError as error:
            logging.warning("The prompt embedding was not kept in %s: %s", self.folder, error.strerror or error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _drop_least_recent(self) -> None:
        """Keep the newest entries within `max_bytes`; also clear what killed processes left half-written."""
        entries = []
        for item in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                stat = item.stat()
                if ENTRY_NAME.fullmatch(item.name):
                    entries.append((stat.st_mtime_ns, stat.st_size, item.path))
                elif TEMPORARY_NAME.fullmatch(item.name) and time.time() - stat.st_mtime > STALE_TEMPORARY_S:
                    os.unlink(item.path)
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > self.max_bytes:
                Path(path).unlink(missing_ok=True)


def cache_key(**parts: str | int) -> str:
    """A digest of everything that an embedding depends on."""
    return hashlib.sha256(json.dumps([FORMAT, sorted(parts.items())]).encode()).hexdigest()


def _pack(conditioning: Conditioning) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors by name, and JSON that says where they belong: [[cond, {key: value}], ...].

    A prompt's embedding has 512 rows, those after its tokens all zero: they are not stored.
    """
    tensors: dict[str, torch.Tensor] = {}

    def place(name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            rows = None
            if value.ndim == 3 and len(value) == 1:
                used = value[0].ne(0).any(dim=1).nonzero()
                rows, value = value.shape[1], value[:, : int(used[-1]) + 1 if len(used) else 0]
            tensors[name] = value.detach().cpu().contiguous()
            return {"tensor": name, "rows": rows}
        if value is None or isinstance(value, str | int | float | bool):
            return {"value": value}
        raise NotStorableError

    entries = [
        [place(f"{index}", cond), {key: place(f"{index}.{key}", value) for key, value in extra.items()}]
        for index, (cond, extra) in enumerate(conditioning)
    ]
    return tensors, json.dumps(entries)


def _unpack(tensors: dict[str, torch.Tensor], entries: list) -> Conditioning:
    def value(place: dict[str, Any]) -> Any:
        if "tensor" not in place:
            return place["value"]
        tensor = tensors[place["tensor"]]
        if place["rows"] is None:
            return tensor
        return torch.nn.functional.pad(tensor, (0, 0, 0, place["rows"] - tensor.shape[1]))

    return [[value(cond), {key: value(place) for key, place in extra.items()}] for cond, extra in entries]


def _digest(tensors: dict[str, torch.Tensor], entries: str) -> str:
    digest = hashlib.sha256(entries.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
