"""A server that webhooks are sent to: it keeps every call as it came, and answers as it is told to."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Call(NamedTuple):
    """`headers` by their names in lower case; `status` is what it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int


class Receiver:
    """Answers with the given statuses in turn, the last one for ever; with 503 while it `is_down`."""

    def __init__(self, *statuses: int) -> None:
        self.calls: list[Call] = []
        self.bodies: list[Any] = []
        self.is_down = False
        receiver = self
        answers = list(statuses or (200,))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status = 503 if receiver.is_down else answers.pop(0) if len(answers) > 1 else answers[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call(self.path, headers, body, status))
                receiver.bodies.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def told(self) -> Counter[str]:
        """The ids that were taken, and how often."""
        return Counter(json.loads(call.body)["id"] for call in self.calls if call.status == 200)

    @property
    def num_refused(self) -> int:
        return sum(call.status != 200 for call in self.calls)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(*statuses)
    try:
        yield receiver
    finally:
        receiver.close()
