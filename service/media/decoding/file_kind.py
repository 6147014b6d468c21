"""What a file is that is no picture, or none that is taken: for the sentence that refuses it."""

_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"mif1", b"mif2", b"msf1", b"miaf"}
_KINDS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}


def describe(content: bytes) -> str:
    """Half a sentence, such as "it is HEIC"."""
    head = content[:400].lstrip().lower()
    if not content:
        return "it is empty"
    if b"<svg" in head:
        return "SVG is not supported"
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is text/html"
    for magic, kind in ((b"%pdf", "application/pdf"), (b"pk\x03\x04", "a zip archive")):
        if head.startswith(magic):
            return f"it is {kind}"
    if content[4:8] == b"ftyp":
        return _of_brands(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "it is a WebP of a kind that is not supported, or damaged"
    for magic, kind in _KINDS.items():
        if content.startswith(magic):
            return f"it is a {kind} of a kind that is not supported, or damaged"
    return "its content is not a known format"


def _of_brands(content: bytes) -> str:
    """ISO 14496-12: the first box names the file's own brand and those that it is compatible with."""
    end = min(int.from_bytes(content[:4]), 400)
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, end - 3, 4))}
    for kind, names in (("AVIF", _AVIF), ("HEIC", _HEIC), ("HEIF", _HEIF)):
        if brands & names:
            return f"{kind} is not supported"
    return "it is a video"
