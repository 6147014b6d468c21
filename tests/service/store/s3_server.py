"""A real S3 server on this machine: moto's."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
from wan_relay.tools.comfyui_server import free_port

BUCKET = "videos"
PAGE = 100  # keys in one answer to a list; S3 has 1000
KEYS = {"access_key_id": "KEYID", "secret_access_key": "SECRETKEY", "region": "us-east-1"}


def moto_server() -> str | None:
    """The program, of the tests' environment or of another one on the PATH."""
    own = str(Path(sys.executable).parent)
    return shutil.which("moto_server", path=os.pathsep.join((own, os.environ["PATH"])))


class S3Server:
    """One bucket, `videos`, that is there while the server runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self._process = process
        self._port = port
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=KEYS["access_key_id"],
            aws_secret_access_key=KEYS["secret_access_key"],
            region_name=KEYS["region"],
        )

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert self._process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """It takes connections, and says nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        while found := self.client.list_objects_v2(Bucket=BUCKET).get("Contents"):
            self.client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": item["Key"]} for item in found]})


@contextlib.contextmanager
def s3_server(program: str) -> Iterator[S3Server]:
    port = free_port()
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    variables = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server = S3Server(process, port)
            server.wait()
            server.client.create_bucket(Bucket=BUCKET)
            yield server
        finally:
            process.send_signal(signal.SIGKILL)
