"""Speeds of Wan A14B that others have published, to read beside `bench gpu`: figures as their authors give them.

None was measured again here. "end to end" has the text encoder and the VAE in it.
"""

from typing import NamedTuple


class Published(NamedTuple):
    what: str
    hardware: str
    figure: str
    source: str


PUBLISHED = (
    Published("480p, a step without cfg, dense bf16", "1x H100", "2.6 s (half of 5.18 with cfg)", "LightX2V, Dec 2025"),
    Published("the same, diffusers", "1x H100", "4.9 s (half of 9.77)", "LightX2V, Dec 2025"),
    Published("480p, a step without cfg, fp8", "8x H100", "0.35 s", "LightX2V, Dec 2025"),
    Published("480p, a step with cfg", "1x 4090D", "20.3 s", "LightX2V, Dec 2025"),
    Published("480p, 4 steps, NVFP4 and 90 % sparse, end to end", "1x RTX 5090", "10.7 s", "LightX2V, Jul 2026"),
    Published("720p, 4 steps, NVFP4 and 90 % sparse, end to end", "1x RTX 5090", "26.7 s", "LightX2V, Jul 2026"),
    Published("720p, 4 steps, rCM, diffusion only", "1x RTX 5090", "38 s", "TurboDiffusion"),
    Published("720p, 4 steps, bf16 with offloaded blocks", "1x RTX 5090", "135 s", "a user, LightX2V"),
    Published("480p, 4 steps in ComfyUI", "RTX 5070 Ti", "84 s", "a user"),
    Published("720p, 40 steps with cfg, reference code", "1x H100", "about 1041 s", "third parties, of the Wan team"),
    Published("720p, 40 steps with cfg, FlashAttention 3", "8x H100", "195 s", "Morphic, Oct 2025"),
)


def print_published() -> None:
    print("\npublished by others, not measured here:")
    for each in PUBLISHED:
        print(f"  {each.what:52}{each.hardware:14}{each.figure:32}{each.source}")


if __name__ == "__main__":
    print_published()
