"""As much of S3 as one small upload needs, and ways to be full and to let nobody read."""

import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FULL = b"<Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>"


class FakeBucket:
    def __init__(self) -> None:
        self.is_full = False
        self.is_unreadable = False
        self.objects: dict[str, bytes] = {}
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if bucket.is_full:
                    self._answer(507, FULL)
                else:
                    bucket.objects[self.path] = body
                    self._answer(200)

            def do_GET(self) -> None:
                if bucket.is_unreadable and self.command == "GET":
                    self._answer(403)
                    return
                found = bucket.objects.get(self.path)
                self._answer(404 if found is None else 200, found or b"")

            def do_HEAD(self) -> None:
                self.do_GET()

            def _answer(self, status: int, body: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", formatdate(usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
