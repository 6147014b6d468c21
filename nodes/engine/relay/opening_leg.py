"""The legs that may come before the two experts: the first steps with another model, guidance or prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...rules.errors import InvalidInput
from ..files.model_kind import check_images, check_latent, kind_name, model_kind, used_conditioning


class OpeningLeg(NamedTuple):
    """The first `steps` steps of a run, or those after the opening legs before it; None stands for the run's own."""

    model: Any
    steps: int
    cfg: float
    positive: list | None = None
    negative: list | None = None

    def own_conds(self) -> dict[str, list]:
        """ComfyUI conditioning by name, where it is not the run's."""
        given = {"positive": self.positive, "negative": self.negative}
        return {name: entries for name, entries in given.items() if entries is not None}


def check_opening(
    opening: Sequence[OpeningLeg], kind: str, positive: list, negative: list, latent: Any | None = None
) -> None:
    """Raises InvalidInput where an opening leg is not of the experts' kind, or its prompts do not fit it."""
    for leg in opening:
        own = model_kind(leg.model)
        if own != kind:
            raise InvalidInput(
                f"opening must be a model of the experts' kind, {kind_name(kind)}, and this one is {kind_name(own)}."
            )
        conds = {"positive": positive, "negative": negative, **leg.own_conds()}
        told = used_conditioning(conds["positive"], conds["negative"], leg.cfg)
        try:
            check_images(kind, told)
            if latent is not None:
                check_latent(kind, told, latent)
        except InvalidInput as error:
            raise InvalidInput(f"opening: {error}") from None
