"""What the chat model is sent: a picture only as its bytes, since no server dials where a client points."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.contract.video_request import VideoRequest
from wan_relay.service.gateway import prompt_expander
from wan_relay.service.gateway.draft import Draft
from wan_relay.service.gateway.prompt_expander import PromptExpander
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.store.open_store import open_store
from wan_relay.tests.service.gateway.stand import Stand

JPEG = b"\xff\xd8\xff\xe0 a photo"
STORED = "uploads/fal/1/photo.jpg"
UNSEEN = "prompt expansion did not see the picture: "


class Chat:
    """A chat endpoint, also the host of a picture; `contents` are what it was told, `num_dialled` counts its GETs."""

    def __init__(self) -> None:
        self.contents: list[Any] = []
        self.num_dialled = 0
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                chat.num_dialled += 1
                self._answer(JPEG)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                chat.contents.append(body["messages"][-1]["content"])
                self._answer(json.dumps({"choices": [{"message": {"content": "at length"}}]}).encode())

            def _answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat() -> Iterator[Chat]:
    chat = Chat()
    yield chat
    chat.close()


def expand(
    chat: Chat, folder: Path, stored: str | None = None, sees_pictures: bool = True, **fields: str
) -> tuple[str | None, str | None]:
    async def ask() -> tuple[str | None, str | None]:
        store = open_store(str(folder))
        await store.put(STORED, JPEG, "image/jpeg")
        expander = PromptExpander(f"{chat.url}/v1", "m", None, sees_pictures=sees_pictures, store=store)
        return await expander.expand(Draft(VideoRequest.model_validate({"prompt": "pan", **fields})), stored)

    return asyncio.run(ask())


def seen(uri: str) -> list[Any]:
    return [[{"type": "text", "text": "pan"}, {"type": "image_url", "image_url": {"url": uri}}]]


def data_uri(content_type: str, content: bytes) -> str:
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


def test_an_address_of_the_inner_network_is_neither_dialled_nor_handed_on(chat: Chat, tmp_path: Path) -> None:
    told = expand(chat, tmp_path, image_url=f"{chat.url}/photo.jpg")
    assert told == ("at length", f"{UNSEEN}the host of image_url is not allowed")
    assert (chat.contents, chat.num_dialled) == (["pan"], 0)


def test_a_picture_of_a_public_address_is_sent_as_its_bytes(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def fetched(*wish: Any) -> bytes:
        asked.append(wish)
        return JPEG

    monkeypatch.setattr(prompt_expander, "fetch", fetched)
    assert expand(chat, tmp_path, image_url="https://example.com/a") == ("at length", None)
    assert asked == [("https://example.com/a", 20_000_000, 10.0, "image_url", TrustedHosts())]
    assert chat.contents == seen(data_uri("image/jpeg", JPEG))


def test_a_picture_in_the_store_is_sent_as_its_bytes(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert expand(chat, tmp_path, STORED, image_url=f"{chat.url}/files/{STORED}?sig=1") == ("at length", None)
    assert (chat.contents, chat.num_dialled) == (seen(data_uri("image/jpeg", JPEG)), 0)
    monkeypatch.setattr(prompt_expander, "MAX_PICTURE_BYTES", 5)
    told = expand(chat, tmp_path, STORED, image_url=f"{chat.url}/files/{STORED}?sig=1")
    assert told == ("at length", f"{UNSEEN}image_url is larger than 0 MB")
    told = expand(chat, tmp_path, "uploads/fal/2/gone.jpg", image_url=f"{chat.url}/files/uploads/fal/2/gone.jpg?sig=1")
    assert told == ("at length", f"{UNSEEN}there is no such file, or no longer")


def test_a_picture_that_was_uploaded_is_read_from_the_store(chat: Chat, make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(WAN_RELAY_EXPANDER_URL=f"{chat.url}/v1").start_gateway()
    with stand.client() as client:
        wish = {"file_name": "photo.jpg", "content_type": "image/jpeg"}
        upload = client.post("/fal/rest/storage/upload/initiate", json=wish).json()
        assert client.put(upload["upload_url"], content=JPEG).status_code == 201
        sent = {"prompt": "pan", "image_url": upload["file_url"], "enable_prompt_expansion": True}
        assert client.post("/fal/queue/fal-ai/wan/v2.2-a14b/image-to-video", json=sent).status_code == 200
    assert chat.contents == seen(data_uri("image/jpeg", JPEG))


def test_base64_is_sent_as_it_came(chat: Chat, tmp_path: Path) -> None:
    webp = data_uri("image/webp", b"RIFF")
    assert expand(chat, tmp_path, image_base64="AAAA") == expand(chat, tmp_path, image_base64=webp)
    assert chat.contents == seen("data:image/png;base64,AAAA") + seen(webp)


def test_a_model_that_is_blind_is_sent_the_prompt_alone(chat: Chat, tmp_path: Path) -> None:
    url = f"{chat.url}/photo.jpg"
    assert expand(chat, tmp_path, sees_pictures=False, image_url=url) == ("at length", None)
    assert (chat.contents, chat.num_dialled) == (["pan"], 0)
