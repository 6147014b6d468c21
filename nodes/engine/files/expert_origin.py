"""Which file a MODEL came from, carried on the model itself so that clones and later nodes know it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...rules.files.expert_files import is_distilled

ATTACHMENT = "wan_relay"


@dataclass(frozen=True)
class ExpertOrigin:
    """The file behind a MODEL, whether it is made for a few steps, and the LoRA files applied by this pack so far."""

    file: str
    distilled: bool
    loras: tuple[str, ...] = ()


def set_origin(model: Any, origin: ExpertOrigin) -> None:
    """Attach the origin; ComfyUI copies attachments to every clone, and an origin is never changed in place."""
    model.set_attachments(ATTACHMENT, origin)


def origin_of(model: Any) -> ExpertOrigin | None:
    """The origin of a MODEL; for one that ComfyUI's own loaders made, judged by its file name; None if unknown."""
    origin = model.get_attachment(ATTACHMENT)
    if isinstance(origin, ExpertOrigin):
        return origin
    loader = getattr(model, "cached_patcher_init", None)
    path = loader[1][0] if loader and loader[1] else None
    if isinstance(path, str):
        return ExpertOrigin(Path(path).name, is_distilled(path, {}))
    return None
