"""A ComfyUI AUDIO value as the sound track of a video."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import torch

from ...rules.errors import InvalidInput

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
OPUS_RATE = 48000


class SoundTrack:
    """`audio` {"waveform": [1, channels, samples] in -1..1, "sample_rate": Hz}, cut to `duration_s`.

    Raises InvalidInput for what cannot be encoded.
    """

    def __init__(self, audio: dict[str, Any], duration_s: Fraction):
        waveform, self.sample_rate = audio["waveform"], int(audio["sample_rate"])
        if waveform.dim() != 3 or waveform.shape[1] not in LAYOUTS or waveform.shape[2] == 0:
            raise InvalidInput(f"audio must be [batch, 1, 2 or 6 channels, samples]; got {list(waveform.shape)}.")
        if not 1 <= self.sample_rate <= 768000:
            raise InvalidInput(f"audio must have a sample rate of 1 to 768000 Hz; got {self.sample_rate}.")
        self.waveform = waveform[0, :, : round(duration_s * self.sample_rate)]
        self.layout = LAYOUTS[waveform.shape[1]]
        if not torch.isfinite(self.waveform).all():
            raise InvalidInput("audio holds NaN or infinite samples.")

    def add_to(self, container: av.container.OutputContainer, encoder: str) -> Callable[[Fraction | None], None]:
        """Add the stream; the returned function encodes and muxes up to a time in seconds (None: to the end)."""
        stream = container.add_stream(encoder, rate=self._encoder_rate(encoder), layout=self.layout)
        position = 0

        def feed(until_s: Fraction | None) -> None:
            nonlocal position
            total = self.waveform.shape[1]
            end = total if until_s is None else min(total, round(until_s * self.sample_rate))
            if end > position:
                container.mux(stream.encode(self._frame(position, end)))
                position = end
            if until_s is None:
                container.mux(stream.encode(None))

        return feed

    def _encoder_rate(self, encoder: str) -> int:
        if encoder == "libopus":
            return OPUS_RATE
        return min((rate for rate in AAC_RATES if rate >= self.sample_rate), default=AAC_RATES[-1])

    def _frame(self, start: int, end: int) -> av.AudioFrame:
        samples = self.waveform[:, start:end].float().cpu().contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self.layout)
        frame.sample_rate = self.sample_rate
        frame.pts, frame.time_base = start, Fraction(1, self.sample_rate)
        return frame
