"""Each dialect's way to ask for a video, with a body that it takes."""

from typing import Any, NamedTuple

from wan_relay.tests.service.gateway.stand import PICTURE

WAN = "fal-ai/wan/v2.2-a14b/image-to-video"
FAST = "wan-video/wan-2.2-i2v-fast"


class Submit(NamedTuple):
    path: str
    body: dict[str, Any]
    headers: dict[str, str]


SUBMITS = {
    "api": Submit("/api/v1/videos", {"prompt": "x", "image_url": PICTURE}, {}),
    "cerebrium": Submit("/cerebrium/v4/p/a/predict?async=true", {"prompt": "x", "num_frames": 25}, {}),
    "fal": Submit(f"/fal/queue/{WAN}", {"prompt": "x", "image_url": PICTURE}, {}),
    "modelverse": Submit(
        "/modelverse/v1/tasks/submit",
        {"model": "Wan-AI/Wan2.2-I2V", "input": {"first_frame_url": PICTURE, "prompt": "x"}, "parameters": {}},
        {},
    ),
    "openai": Submit("/openai/v1/videos", {"prompt": "x"}, {}),
    "replicate": Submit(f"/replicate/v1/models/{FAST}/predictions", {"input": {"prompt": "x", "image": PICTURE}}, {}),
    "runpod": Submit("/runpod/v2/ep/run", {"input": {"prompt": "x", "image_base64": PICTURE}}, {}),
    "runway": Submit(
        "/runway/v1/image_to_video",
        {"model": "gen4_turbo", "promptImage": PICTURE, "promptText": "x", "ratio": "1280:720", "duration": 5},
        {"X-Runway-Version": "2024-11-06"},
    ),
}
