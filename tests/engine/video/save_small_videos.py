"""Run as a script: saves a video of every small size in one format, reads each back, and says what it found.

save_small_videos.py CHECKOUT FOLDER FORMAT PRESET BIT_DEPTH CHANNELS SIDE...
"""

import faulthandler
import itertools
import sys
import types
from pathlib import Path

package = types.ModuleType("wan_relay")
package.__path__ = [sys.argv[1]]
sys.modules["wan_relay"] = package

import torch  # noqa: E402
from wan_relay.nodes.engine.video.video_file import VideoSpec, encode_video  # noqa: E402
from wan_relay.nodes.engine.video.video_format import frame_rate, video_format  # noqa: E402
from wan_relay.tests.engine.video.read_video import read_alpha, read_images  # noqa: E402

NUM_FRAMES = 30
HANGS_S = 60.0  # for what takes a tenth of a second


def drifting_noise(width: int, height: int, channels: int) -> torch.Tensor:
    """[frames, height, width, channels]: one picture that moves a pixel every third frame, which encoders follow."""
    picture = torch.rand(height, width, channels, generator=torch.Generator().manual_seed(width * height))
    return torch.stack([picture.roll(index // 3, 1) for index in range(NUM_FRAMES)])


def main(folder: str, format: str, preset: str, bit_depth: str, channels: str, *sides: str) -> None:
    spec = VideoSpec(video_format(format), frame_rate(16), 19, int(bit_depth), preset)
    path = Path(folder, "clip")
    for width, height in itertools.product(map(int, sides), repeat=2):
        print(f"{width}x{height}", end=" ", flush=True)
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        encode_video(path, drifting_noise(width, height, int(channels)), spec)
        frames = read_alpha(path) if spec.keeps_alpha(int(channels)) else read_images(path)
        print("gave", *frames.shape[:3], flush=True)


main(*sys.argv[2:])
