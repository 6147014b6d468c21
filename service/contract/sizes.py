"""The frame size behind each resolution and aspect ratio that a client may name.

A family's 720p is what it was trained at: 1280x720 for A14B, 1280x704 for TI2V-5B (SUPPORTED_SIZES in wan/configs of
Wan2.2); 480p is A14B's 832x480. Other aspects have that number of pixels, each side at the family's nearest multiple
(16 and 32), so that no size that is offered is changed.
"""

SIZES: dict[str, dict[str, dict[str, tuple[int, int]]]] = {
    "A14B": {
        "480p": {
            "16:9": (832, 480),
            "9:16": (480, 832),
            "4:3": (736, 544),
            "3:4": (544, 736),
            "1:1": (624, 624),
        },
        "720p": {
            "16:9": (1280, 720),
            "9:16": (720, 1280),
            "4:3": (1104, 832),
            "3:4": (832, 1104),
            "1:1": (960, 960),
        },
    },
    "TI2V-5B": {
        "480p": {
            "16:9": (832, 480),
            "9:16": (480, 832),
            "4:3": (736, 544),
            "3:4": (544, 736),
            "1:1": (640, 640),
        },
        "720p": {
            "16:9": (1280, 704),
            "9:16": (704, 1280),
            "4:3": (1088, 832),
            "3:4": (832, 1088),
            "1:1": (960, 960),
        },
    },
}


def offered_size(workflow: str, resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Width and height in pixels; those of `auto` are its number of pixels, and its size where there is no image."""
    family = "TI2V-5B" if workflow == "wan22_ti2v_5b" else "A14B"
    return SIZES[family][resolution]["16:9" if aspect_ratio == "auto" else aspect_ratio]
