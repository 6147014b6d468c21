"""Bodies and forms are refused as soon as they are known to be too long, and are not taken in before."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from wan_relay.service.gateway.http import read_body, read_form
from wan_relay.service.gateway.refusal import Refusal

LIMIT = 1_000_000
CHUNK = 64_000
START = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
END = b"\r\n--x--\r\n"


class Sender:
    """A client that sends a form's file in pieces, and how much of it was asked for."""

    def __init__(self, content: bytes, announced: int | None = None) -> None:
        body = START + content + END
        self.pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
        self.asked_for = 0
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        if announced is not None:
            headers.append((b"content-length", str(announced).encode()))
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self.receive)

    async def receive(self) -> dict[str, Any]:
        piece = self.pieces[self.asked_for]
        self.asked_for += 1
        return {"type": "http.request", "body": piece, "more_body": self.asked_for < len(self.pieces)}


async def file_of(sender: Sender) -> bytes:
    async with read_form(sender.request, LIMIT, max_files=1) as form:
        part = form["file"]
        assert not isinstance(part, str)
        return await part.read()


async def body_of(sender: Sender) -> bytes:
    return await read_body(sender.request, LIMIT)


def test_a_form_and_a_body_within_the_limit() -> None:
    content = bytes(range(256)) * 3000
    assert asyncio.run(file_of(Sender(content))) == content
    assert asyncio.run(body_of(Sender(content))) == START + content + END
    whole = LIMIT - len(START) - len(END)
    assert len(asyncio.run(file_of(Sender(bytes(whole))))) == whole


@pytest.mark.parametrize("read", [file_of, body_of])
def test_what_is_too_long_is_refused_before_it_is_taken_in(read: Any) -> None:
    for sender, asked_for in ((Sender(bytes(LIMIT), LIMIT + 1), 0), (Sender(bytes(50 * LIMIT)), LIMIT // CHUNK + 1)):
        with pytest.raises(Refusal) as refused:
            asyncio.run(read(sender))
        assert (refused.value.code, str(refused.value.sentence)) == ("BODY_TOO_LARGE", "the body must be at most 1 MB")
        assert sender.asked_for == asked_for
