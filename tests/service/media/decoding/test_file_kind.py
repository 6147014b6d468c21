"""What a refused file is called."""

import struct

import pytest
from wan_relay.service.media.decoding.file_kind import describe


def of_brands(*brands: str) -> bytes:
    own, *others = (brand.encode() for brand in brands)
    body = own + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"\0\0\0\x10mdatheic...."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is text/html"),
        (b"%PDF-1.7", "it is application/pdf"),
        (b"PK\x03\x04aaaa", "it is a zip archive"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is not supported"),
        (b"\0\1\2\3", "its content is not a known format"),
        (b"\xff\xd8\xff\xe0", "it is a JPEG of a kind that is not supported, or damaged"),
        (b"RIFF\0\0\0\0WEBPVP9 ", "it is a WebP of a kind that is not supported, or damaged"),
        (b"\x00\x00\x00\x20ftypisom", "it is a video"),
        (of_brands("isom", "iso2", "avc1", "mp41"), "it is a video"),
        (of_brands("qt  "), "it is a video"),
        (of_brands("mif1", "heic"), "HEIC is not supported"),
        (of_brands("mif1", "avif", "miaf"), "AVIF is not supported"),
        *[(of_brands(brand), "HEIC is not supported") for brand in "heic heix heim heis hevc hevx hevm hevs".split()],
        *[(of_brands(brand), "AVIF is not supported") for brand in ("avif", "avis")],
        *[(of_brands(brand), "HEIF is not supported") for brand in ("mif1", "msf1", "miaf", "mif2")],
    ],
)
def test_the_sentence_names_the_format(content: bytes, sentence: str) -> None:
    assert describe(content) == sentence
