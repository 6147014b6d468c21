"""A proxy that hands a POST on and hangs up, on both sides, before the answer can come back: a connection that breaks.
Or it answers 503 in the gateway's place, as a load balancer does whose patience ends.

The first POST is well under way when it does, so its submit must be slow. Of the later ones the last byte and the end
of the connection arrive together, since the answer to a repeat is quick, and one handed over counts as delivered.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MORE = getattr(socket, "MSG_MORE", 0)
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class DroppingProxy:
    """The answers to the first `drops` POSTs are lost that way; everything else goes through. `instead` is what the
    client gets in their place.
    """

    def __init__(self, port: int, drops: int, pause_s: float, instead: bytes) -> None:
        self._instead = instead
        self._target = ("127.0.0.1", port)
        self._pause_s = pause_s
        self._drops = drops
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.posts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request after the other, each on a connection of its own to the gateway."""
        with client:
            while request := _message(client):
                drop = self._drop_of(request)
                with socket.create_connection(self._target) as gateway:
                    gateway.sendall(request, MORE if drop > 1 and not self._instead else 0)
                    if drop and self._instead:
                        if not _message(gateway):
                            return
                        client.sendall(self._instead)
                        continue
                    if drop:
                        time.sleep(self._pause_s if drop == 1 else 0)
                        return
                    gateway.settimeout(60)
                    if not (answer := _message(gateway)):
                        return
                    client.sendall(answer)

    def _drop_of(self, request: bytes) -> int:
        """Which of the drops this request is, from 1; 0 for one that goes through."""
        with self._lock:
            if not request.startswith(b"POST "):
                return 0
            self.posts += 1
            return self.posts if self.posts <= self._drops else 0


@contextmanager
def dropping(port: int, drops: int, pause_s: float = 0, instead: bytes = b"") -> Iterator[DroppingProxy]:
    proxy = DroppingProxy(port, drops, pause_s, instead)
    yield proxy
    proxy.close()


def _message(connection: socket.socket) -> bytes:
    """One whole request or answer with a Content-Length; empty when the other side has left."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := _received(connection)):
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", b"0"))
    while len(body) < length:
        if not (piece := _received(connection)):
            return b""
        body += piece
    return head + b"\r\n\r\n" + body


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 20)
    except OSError:
        return b""
