"""The file routes over a folder, and on a real port."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import fastapi
import uvicorn
from wan_relay.service.gateway.files import FileLinks, file_routes
from wan_relay.service.store.object_store import ObjectStore
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.signed_paths import PathSigner
from wan_relay.tests.waiting import wait_until

MAX_UPLOAD = 2_000_000


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Gateway:
    """The routes over a store in `folder`, with their clock and links."""

    def __init__(self, folder: Path, store: ObjectStore | None = None) -> None:
        self.folder = folder
        self.store = store or open_store(str(folder))
        self.clock = Clock()
        self.signer = PathSigner(b"a secret of the tests alone")
        self.links = FileLinks(self.signer, "http://gateway.test", self.clock)
        self.app = fastapi.FastAPI()
        self.app.include_router(file_routes(self.store, self.signer, MAX_UPLOAD, self.clock))

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """The base URL. Links are made for it."""
        server = uvicorn.Server(uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            assert thread.is_alive()
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            self.links = FileLinks(self.signer, url, self.clock)
            yield url
        finally:
            server.should_exit = True
            thread.join(60)
