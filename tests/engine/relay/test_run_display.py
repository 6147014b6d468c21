"""What a run shows: the bar, the text, and the clip, sent only to a client that watches."""

import asyncio
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import comfy.cli_args
import comfy.latent_formats
import comfy.utils
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy_execution.utils import CurrentNodeContext
from PIL import Image
from wan_relay.nodes.engine.relay.relay_run import RelaySettings, run_relay
from wan_relay.nodes.engine.relay.run_display import ClipPlayer, RunDisplay, clip_frames, show_text
from wan_relay.nodes.guider import Guider
from wan_relay.tests.engine.relay.relay_runs import Pair, run
from wan_relay.tests.engine.tiny_wan import LATENT_SHAPE

pytestmark = pytest.mark.comfy

WATCHER = "client"
WAIT_S = 60


class FakeServer:
    """A server loop in a thread, with the methods of ComfyUI's server that previews need; keeps what was sent."""

    def __init__(self, metadata_support: bool = True):
        self.client_id: str | None = WATCHER
        self.sockets = {WATCHER: object()}
        self.sockets_metadata = {WATCHER: {"feature_flags": {"supports_preview_metadata": metadata_support}}}
        self.sent: list[tuple[Any, Any, str | None]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def send_progress_text(self, text: str, node_id: str, sid: str | None) -> None:
        self.sent.append((text, node_id, sid))

    async def send_image(self, image: tuple, sid: str | None = None) -> None:
        self.sent.append((image, None, sid))

    async def send_image_with_metadata(self, image: tuple, metadata: dict, sid: str | None = None) -> None:
        self.sent.append((image, metadata, sid))

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while len(self.sent) < count:
            assert time.monotonic() < deadline, f"{len(self.sent)} of {count} messages"
            time.sleep(0.01)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer()
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.Auto)
    yield server
    server.close()


def latent(frames: int = 5, channels: int = 16) -> torch.Tensor:
    return torch.randn(2, channels, frames, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("latent_format", "channels"), [(comfy.latent_formats.Wan21(), 16), (comfy.latent_formats.Wan22(), 48)]
)
def test_every_latent_frame_becomes_the_picture_that_core_makes_of_it(latent_format: Any, channels: int) -> None:
    from latent_preview import Latent2RGBPreviewer

    denoised = latent(channels=channels)
    core = Latent2RGBPreviewer(latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias)
    frames = clip_frames(denoised, latent_format)
    assert len(frames) == 5
    for index, frame in enumerate(frames):
        expected = core.decode_latent_to_preview(denoised[:, :, index : index + 1])
        assert (frame.size, frame.mode) == ((8, 6), "RGB")
        assert max(abs(a - b) for a, b in zip(frame.tobytes(), expected.tobytes(), strict=True)) <= 1


def test_latents_without_a_picture() -> None:
    assert clip_frames(latent(channels=48), comfy.latent_formats.Wan21()) == []
    assert clip_frames(torch.zeros(1, 16, 4, 4), comfy.latent_formats.Wan21()) == []
    broken = torch.full((1, 16, 2, 4, 4), float("nan"))
    assert len(clip_frames(broken, comfy.latent_formats.Wan21())) == 2


def show(server: FakeServer, frames: int = 3) -> list[tuple]:
    """What a watcher gets from a display that shows one clip."""
    with (
        CurrentNodeContext("prompt", "6"),
        RunDisplay(4, comfy.latent_formats.Wan21()) as display,
    ):
        display.on_step(0, latent(frames), latent(frames), 4)
        server.wait_for(frames + 1)
    return list(server.sent)


def test_the_clip_plays_in_order_and_from_the_start_again(server: FakeServer) -> None:
    sent = show(server)
    pictures = [image[1].tobytes() for image, _, _ in sent[:4]]
    assert len(set(pictures[:3])) == 3
    assert pictures[3] == pictures[0]
    (kind, picture, size), metadata, client = sent[0]
    assert (kind, picture.size, size, client) == ("JPEG", (8, 6), 320, WATCHER)
    assert {key: metadata[key] for key in ("node_id", "prompt_id", "display_node_id")} == {
        "node_id": "6",
        "prompt_id": "prompt",
        "display_node_id": "6",
    }
    json.dumps(metadata)
    picture.save(io.BytesIO(), format=kind, quality=95, compress_level=1)


def test_nothing_is_sent_after_the_run(server: FakeServer) -> None:
    show(server)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), server.loop).result(WAIT_S)
    count = len(server.sent)
    time.sleep(0.5)
    assert len(server.sent) == count


def test_an_old_client_gets_pictures_without_metadata(server: FakeServer) -> None:
    server.sockets_metadata[WATCHER]["feature_flags"]["supports_preview_metadata"] = False
    assert all(metadata is None for _, metadata, _ in show(server))


def test_a_client_that_leaves_ends_the_playing(server: FakeServer) -> None:
    context = CurrentNodeContext("prompt", "6").context
    player = ClipPlayer(server, WATCHER, context)
    player.show([Image.new("RGB", (2, 2))])
    server.wait_for(1)
    server.sockets.clear()
    assert player.playing is not None
    assert player.playing.result(WAIT_S) is None


@pytest.mark.parametrize("absent", ["preview method", "client", "socket", "node", "server"])
def test_no_pictures_are_made_when_nobody_can_see_them(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    def made(*args: Any) -> list:
        pytest.fail("a picture was made")

    monkeypatch.setattr("wan_relay.nodes.engine.relay.run_display.clip_frames", made)
    if absent == "preview method":
        monkeypatch.setattr(comfy.cli_args.args, "preview_method", LatentPreviewMethod.NoPreviews)
    elif absent == "client":
        server.client_id = None
    elif absent == "socket":
        server.sockets.clear()
    elif absent == "server":
        monkeypatch.delitem(sys.modules, "server")
    if absent == "node":
        with RunDisplay(4, comfy.latent_formats.Wan21()) as display:
            display.on_step(0, latent(), latent(), 4)
    else:
        with CurrentNodeContext("prompt", "6"), RunDisplay(4, comfy.latent_formats.Wan21()) as display:
            display.on_step(0, latent(), latent(), 4)
    assert server.sent == []


def test_making_pictures_stays_a_small_share_of_the_time(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow picture is not made again before fifty times its time has passed."""
    made: list[float] = []

    def slow(*args: Any) -> list:
        made.append(time.perf_counter())
        time.sleep(0.05)
        return [Image.new("RGB", (2, 2))]

    monkeypatch.setattr("wan_relay.nodes.engine.relay.run_display.clip_frames", slow)
    with CurrentNodeContext("prompt", "6"), RunDisplay(4, comfy.latent_formats.Wan21()) as display:
        for step in range(4):
            display.on_step(step, latent(), latent(), 4)
        assert len(made) == 1
        display.started -= 1000
        display.on_step(3, latent(), latent(), 4)
    assert len(made) == 2


def test_one_progress_bar_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[int, int]] = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id=None: moves.append((value, total))
    )
    pair = Pair()
    with RunDisplay(8, comfy.latent_formats.Wan21()) as display:
        run(pair.guider(), "euler", pair.sigmas(8), callback=display.on_step)
    assert moves[0] == (1, 8)
    assert moves[-1] == (8, 8)
    assert moves == sorted(moves)


@pytest.mark.parametrize(
    ("sampler", "settings", "expected"),
    [
        ("euler", {}, [("high", "1.0000"), ("low", "0.8333")]),
        ("heun", {}, [("high", "1.0000"), ("low", "0.8333")]),
        ("euler", {"boundary": 0.9375}, [("high", "1.0000"), ("low", "0.8333")]),
        ("euler", {"switch": "step", "switch_step": 1}, [("high", "1.0000"), ("low", "0.9375")]),
        ("euler", {"switch": "step", "switch_step": 3}, [("high", "1.0000"), ("low", "0.6250")]),
        ("euler", {"switch": "step", "switch_step": 0}, [("low", "1.0000")]),
        ("euler", {"switch": "step", "switch_step": 4}, [("high", "1.0000")]),
    ],
)
def test_the_expert_is_named_in_the_log_and_under_a_sampler_without_a_panel(
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
    sampler: str,
    settings: dict[str, Any],
    expected: list[tuple[str, str]],
) -> None:
    pair = Pair()
    models = {"high_noise": pair.high, "low_noise": pair.low}
    inputs = {"positive": pair.positive, "negative": pair.negative, "high_noise_cfg": 1.0, "low_noise_cfg": 1.0}
    inputs |= {"switch": "boundary", "boundary": 0.9, "switch_step": 2, "shift": 5.0} | settings
    guider = Guider.execute(**models, **inputs).args[0]
    with CurrentNodeContext("prompt", "6"), caplog.at_level("INFO", "wan_relay"):
        run(guider, sampler, pair.sigmas(4))
    texts = [f"{name}-noise expert from sigma {sigma}" for name, sigma in expected]
    assert server.sent == [(text, "6", WATCHER) for text in texts]
    logged = [record.getMessage() for record in caplog.records if record.name == "wan_relay"]
    assert logged == [f"Wan Relay: {text}" for text in texts]


def test_sample_sends_no_text_because_its_panel_says_it(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()
    settings = RelaySettings(7, 4, 1.0, 1.0, "euler", "simple", 5.0, "boundary", 0.9, 2, 1.0)
    latent = {"samples": torch.zeros(LATENT_SHAPE)}
    with CurrentNodeContext("prompt", "6"), torch.inference_mode(), caplog.at_level("INFO", "wan_relay"):
        run_relay(pair.high, pair.low, pair.positive, pair.negative, latent, settings)
    assert [text for text, _, _ in server.sent if isinstance(text, str)] == []
    assert "Wan Relay: low-noise expert from sigma 0.8333" in caplog.messages


def test_text_without_a_server_or_a_node_goes_nowhere(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    show_text("nobody runs")
    monkeypatch.delitem(sys.modules, "server")
    with CurrentNodeContext("prompt", "6"):
        show_text("nobody listens")
    assert server.sent == []
