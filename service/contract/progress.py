"""What a job says about itself while it runs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Expert = Literal["opening", "high_noise", "low_noise"]


class Progress(BaseModel):
    """One step of the sampler."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Literal["sampling"] = Field(default="sampling", description="what is being done")
    step: int = Field(description="steps done")
    steps: int = Field(description="steps in all")
    progress: float = Field(description="the share that is done, 0 to 1")
    expert: Expert | None = Field(
        default=None, description="whose step it was, of a pair: `opening`, `high_noise` or `low_noise`"
    )

    def to_wire(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)
