"""A chat endpoint that takes its time, so that a submit is still under way when its connection breaks."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_S = 1.0


class SlowExpander:
    """`prompts` are those that it was asked to write out."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prompts: list[str] = []

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator["SlowExpander"]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                said = body["messages"][-1]["content"]
                prompt = said if isinstance(said, str) else said[0]["text"]
                expander.prompts.append(prompt)
                time.sleep(ANSWER_S)
                answer = json.dumps({"choices": [{"message": {"content": f"{prompt}, at length"}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        expander = cls(f"http://127.0.0.1:{server.server_port}/v1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield expander
        finally:
            server.shutdown()
            server.server_close()
