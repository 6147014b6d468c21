"""What a job says about itself while it runs."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Expert = Literal["opening", "high_noise", "low_noise"]
Stage = Literal["downloading", "waiting", "loading", "sampling", "decoding", "saving"]


class Progress(BaseModel):
    """Where a job is. A RunPod endpoint tells of the sampler's steps alone, an executor of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage = Field(
        default="sampling",
        description="what is being done: `downloading` (LoRAs), `waiting` (for ComfyUI), `loading` (models, "
        "pictures, prompts), `sampling`, `decoding` (of the latent, and its encoding as a video), `saving`",
    )
    step: int = Field(description="steps done")
    steps: int = Field(description="steps in all, 0 until they are known")
    progress: float = Field(description="the share of the steps that is done, 0 to 1")
    expert: Expert | None = Field(
        default=None, description="whose step it was, of a pair: `opening`, `high_noise` or `low_noise`"
    )
    node: str | None = Field(
        default=None, description="title of the node whose steps these are, of a workflow of the client's own"
    )
    seconds_left: float | None = Field(
        default=None, description="what the steps that are left will take, at the pace of those that are done"
    )

    @classmethod
    def of_step(
        cls, step: int, steps: int, switch_step: int | None, opening_steps: int = 0, node: str | None = None
    ) -> Self:
        """`step` of `steps` is done; `switch_step` is the first low-noise one, None for a single model."""
        expert: Expert | None = None
        if step <= opening_steps:
            expert = "opening"
        elif switch_step is not None:
            expert = "high_noise" if step <= switch_step else "low_noise"
        return cls(step=step, steps=steps, progress=round(step / steps, 3), expert=expert, node=node)

    def to_wire(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)
