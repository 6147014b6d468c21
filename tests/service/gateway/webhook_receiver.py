"""A server that webhooks are sent to: it notes what comes, and can be down."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`told` counts the ids that were taken; `num_refused` the tries that were not."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.num_refused = 0
        self.is_down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.is_down:
                    receiver.num_refused += 1
                else:
                    receiver.told[body["id"]] += 1
                    receiver.bodies.append(body)
                self.send_response(503 if receiver.is_down else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/told"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
