"""Where a LoRA of a client's body lies, whose field takes a URL, a Hugging Face repository and a file's name alike."""

import re
from urllib.parse import quote

from ..contract.errors import JobError
from ..contract.lora_request import is_url

HUB = "https://huggingface.co"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_ENDING = (".safetensors", ".sft")


def lora_file(path: str, field: str, weight_name: str | None = None) -> str:
    """A URL, or a name on the worker's volume. `weight_name` is the file in a repository `owner/name`.

    Raises JobError for a repository alone: which of its files is meant is not known before it is asked.
    """
    path, wanted = path.strip(), (weight_name or "").strip()
    if is_url(path) or path.lower().endswith(_ENDING) or not _REPOSITORY.fullmatch(path):
        return path
    if not wanted:
        sentence = (
            f"{path[:80]} is a repository, and the file in it must be named: send its URL, "
            f"{HUB}/OWNER/NAME/resolve/main/FILE.safetensors"
        )
        raise JobError("INVALID_VALUE", sentence, field)
    parts = wanted.split("/")
    if not wanted.lower().endswith(_ENDING) or any(part in ("", ".", "..") for part in parts):
        raise JobError("INVALID_VALUE", "weight_name must be the name of a .safetensors file", field)
    return f"{HUB}/{path}/resolve/main/{quote(wanted)}"
