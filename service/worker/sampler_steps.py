"""Where the sampler is in the whole video: in its one pass, or in the copies that Long Video makes for its segments."""

from dataclasses import dataclass
from typing import NamedTuple

from .long_video import segment_of


class SamplerStep(NamedTuple):
    """As a Follower takes it: counted over all segments, with what is the first low-noise step of this one."""

    step: int
    steps: int
    switch_step: int | None
    opening_steps: int

    @property
    def is_last(self) -> bool:
        return self.step >= self.steps


@dataclass
class SamplerSteps:
    """`long_video` is the id of that node; `switch_step` None for a single model, or where it is not known."""

    sampler: str
    long_video: str | None
    switch_step: int | None = None
    opening_steps: int = 0
    _num_segments: int = 1

    def are_segments(self, node_id: str, steps: int) -> bool:
        """Whether this is Long Video's own bar: it tells how many segments there are before the first begins."""
        if node_id != self.long_video:
            return False
        self._num_segments = max(1, steps)
        return True

    def at(self, node_id: str, step: int, steps: int) -> SamplerStep | None:
        """None for a step of another node."""
        segment = 1 if node_id == self.sampler else segment_of(node_id, self.long_video, self.sampler)
        if segment is None:
            return None
        before = steps * (segment - 1)
        switch_step = None if self.switch_step is None else before + self.switch_step
        opening_steps = before + self.opening_steps if self.opening_steps else 0
        num_segments = max(self._num_segments, segment)  # the bar may have been lost on its way
        return SamplerStep(before + step, steps * num_segments, switch_step, opening_steps)
