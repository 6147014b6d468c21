"""The snippets of the gateway's page, as they stand there: each makes video.mp4 of photo.png.

What the page says to write in place of its address and its key is written there, and nothing else is changed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.stand import Stand
from wan_relay.tests.service.worker.conftest import png
from wan_relay.tools.readme_tables import GATEWAY_README

ADDRESS, KEY = "127.0.0.1:8100", "KEY"
OWN_KEY = "a-key-of-this-gateway"
RUN_S = 200
MAKES_A_VIDEO = "video.mp4"


class Snippet(NamedTuple):
    heading: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.heading}-{self.language}"


def snippets() -> list[Snippet]:
    """Those that make a video, by the heading above them."""
    found = re.findall(r"^#{2,3} (.+?)$|^```(python|js)\n(.*?)^```$", GATEWAY_README.read_text(), re.M | re.S)
    heading, made = "", []
    for title, language, text in found:
        heading = title or heading
        if MAKES_A_VIDEO in text:
            made.append(Snippet(heading, language, text))
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    stand = Stand(tmp_path_factory.mktemp("plain"), WAN_RELAY_API_KEYS=OWN_KEY)
    stand.start_executor()
    stand.start_gateway()
    yield stand
    stand.close()


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    stand = Stand(tmp_path_factory.mktemp("tls"), WAN_RELAY_API_KEYS=OWN_KEY)
    stand.start_executor()
    stand.start_gateway("--tls")
    yield stand
    stand.close()


def test_there_is_one_for_each_provider_and_sdk() -> None:
    sdks = ("fal", "Replicate", "Runway", "OpenAI Videos", "RunPod")
    expected = {f"{heading}-{language}" for heading in sdks for language in ("python", "js")}
    expected |= {f"{heading}-python" for heading in ("On one box", "Modelverse", "Cerebrium")}
    assert {snippet.name for snippet in snippets()} == expected
    assert len(snippets()) == len(expected)


@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: snippet.name.replace(" ", "_"))
def test_it_makes_a_video(snippet: Snippet, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    needs_tls = "ca.crt" in snippet.text
    stand: Stand = request.getfixturevalue("with_tls" if needs_tls else "plain")
    if needs_tls:
        shutil.copy(stand.folder / "tls" / "ca.crt", tmp_path)
    (tmp_path / "photo.png").write_bytes(png((64, 48)))
    text = snippet.text.replace(ADDRESS, stand.url.partition("://")[2])
    text = re.sub(rf"\b{KEY}\b", OWN_KEY, text)
    assert text.count(OWN_KEY) == 1
    if snippet.language == "js":
        node: Node = request.getfixturevalue("node")
        script = tmp_path / "snippet.mjs"
        script.write_text(text)
        node.run(script, folder=tmp_path)
    else:
        run_python(text, tmp_path)
    with av.open(str(tmp_path / MAKES_A_VIDEO)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 4


def run_python(text: str, folder: Path) -> None:
    (folder / "snippet.py").write_text(text)
    unset = ("WAN_RELAY", "FAL_", "REPLICATE_", "RUNWAY", "OPENAI_", "RUNPOD_")
    done = subprocess.run(
        [sys.executable, "-P", "snippet.py"],
        env={name: value for name, value in os.environ.items() if not name.startswith(unset)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
