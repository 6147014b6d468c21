"""Run as a script: joins twenty clips, keeping what every node gave, and prints what the process held on the way.

join_many_clips.py CHECKOUT COMFYUI FOLDER
"""

import json
import sys
from pathlib import Path

CHECKOUT, COMFYUI, FOLDER = sys.argv[1:]
sys.path.insert(0, CHECKOUT)

import dev  # noqa: E402

dev.register_package()
dev.use_comfyui(Path(COMFYUI))

import folder_paths  # noqa: E402
import torch  # noqa: E402
from wan_relay.nodes.engine.video.joined_clip import JoinedClip  # noqa: E402


def own_memory_mb() -> float:
    """What the process holds beside pages of files, which the kernel takes back when it needs them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000


folder_paths.set_temp_directory(FOLDER)
part = torch.rand(16, 128, 256, 3, generator=torch.Generator().manual_seed(0))
clip, kept, held = JoinedClip.of(part, 1), [], {}
for number in range(2, 21):
    clip = clip.followed_by(part.clone(), matches_colour=False)
    kept.append((clip, clip.tail))  # as ComfyUI's cache keeps what every node gave
    held[number] = own_memory_mb()
images = clip.images()
mean = images.mean().item()  # all pages were read
print(
    json.dumps(
        {
            "clip_mb": part.numel() * 4 / 1e6,
            "after_two_mb": held[2],
            "after_twenty_mb": own_memory_mb(),
            "frames": len(images),
            "mean": mean,
        }
    )
)
