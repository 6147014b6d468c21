"""What a file is served as: its suffix says, in every store alike.

Only pictures, videos, audio, JSON and plain text are known. Nothing that a browser would run is ever served as such,
whatever an uploader called it.
"""

OCTETS = "application/octet-stream"
CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_SUFFIXES: dict[str, str] = {}
for _suffix, _content_type in CONTENT_TYPES.items():
    _SUFFIXES.setdefault(_content_type.partition(";")[0], _suffix)


def content_type_of(key: str) -> str:
    _, dot, ending = key.rpartition("/")[2].rpartition(".")
    return CONTENT_TYPES.get(f"{dot}{ending}".lower(), OCTETS)


def suffix_for(content_type: str) -> str:
    """With its dot, for the key of a file of that type; `.bin` for one that is not known."""
    return _SUFFIXES.get(content_type.partition(";")[0].strip().lower(), ".bin")
