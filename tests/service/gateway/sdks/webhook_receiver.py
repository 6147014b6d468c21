"""A server that keeps every webhook that it gets, as it came."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Call(NamedTuple):
    """`headers` by their names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class WebhookReceiver:
    """`answers` are the statuses of the first answers; all later ones are 200."""

    def __init__(self, answers: tuple[int, ...] = ()) -> None:
        self.calls: list[Call] = []
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(answers[len(calls)] if len(calls) < len(answers) else 200)
                calls.append(Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(answers: tuple[int, ...] = ()) -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver(answers)
    yield receiver
    receiver.close()
