"""The guide's client against the platform, over the real ComfyUI with the toy family."""

import base64
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest
import requests
from PIL import Image
from wan_relay.tests.waiting import wait_until
from wan_relay.tools.toy_workflows import TOY_FILES

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


class Endpoint:
    def __init__(self, folder: Path, log: Path, base_url: str) -> None:
        self.folder, self.log, self.base_url = folder, log, base_url

    def submit(self, **fields: Any) -> str:
        return self.submit_input({"prompt": "a cup of coffee", "image_base64": IMAGE, **SMALL, **fields})

    def submit_input(self, given: Any) -> str:
        body = {"input": given}
        return requests.post(f"{self.base_url}/run", json=body, timeout=60).json()["id"]

    def status(self, job_id: str) -> dict[str, Any]:
        return requests.get(f"{self.base_url}/status/{job_id}", timeout=60).json()

    def wait(self, job_id: str, limit_s: float = 200) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            status = self.status(job_id)
            return None if status["status"] in ("IN_QUEUE", "IN_PROGRESS") else status

        return wait_until(ended, limit_s, pause_s=0.2)

    def first_progress(self, job_id: str) -> dict[str, Any]:
        """The first status that says how far the job is."""

        def under_way() -> dict[str, Any] | None:
            status = self.status(job_id)
            return status if "progress" in json.dumps(status) else None

        return wait_until(under_way, 100, pause_s=0.2)

    def video(self, **fields: Any) -> dict[str, Any]:
        status = self.wait(self.submit(**fields))
        assert status["status"] == "COMPLETED", json.dumps(status)[:1500]
        return status["output"]

    def error(self, **fields: Any) -> str:
        status = self.wait(self.submit(**fields))
        assert status["status"] == "FAILED", status
        return status["error"]

    def left_files(self) -> list[Path]:
        folders = [self.folder / "run" / name for name in ("input", "output", "temp")]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def comfyui_pid(folder: Path) -> int:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"main.py" in command and str(folder / "run").encode() in command and entry.name.isdecimal():
            return int(entry.name)
    raise LookupError("ComfyUI does not run")


TOY_LORAS = {
    "high": "toy_wan2.2_i2v_high_noise_4step_lora.safetensors",
    "low": "toy_wan2.2_i2v_low_noise_4step_lora.safetensors",
}
SMALL = {"width": 64, "height": 64, "length": 5, "steps": 2, "seed": 3}
_out = io.BytesIO()
with Image.open(ROOT / "tests" / "data" / "coffee.jpg") as _photo:
    _photo.convert("RGB").resize((96, 72)).save(_out, "JPEG")
IMAGE = base64.b64encode(_out.getvalue()).decode()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, toy_models: Path) -> Iterator[Endpoint]:
    with running_endpoint(tmp_path_factory.mktemp("endpoint"), toy_models) as running:
        yield running


@contextlib.contextmanager
def running_endpoint(folder: Path, toy_models: Path, **more: str) -> Iterator[Endpoint]:
    (folder / "models" / "frame_interpolation").mkdir(parents=True)
    (folder / "models" / "upscale_models").mkdir()
    for models in toy_models.iterdir():
        if models.name != "upscale_models":  # a worker that has none, at first
            (folder / "models" / models.name).symlink_to(models)
    variables = {
        "WAN_RELAY_MODELS": str(folder / "models"),
        "WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_BOOT_TIMEOUT_S": "200",
        "WAN_RELAY_JOB_TIMEOUT_S": "250",
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "WAN_RELAY_LORA_HOSTS": "127.0.0.1",
        "WAN_RELAY_TRUSTED_HOSTS": "127.0.0.1",
        **more,
    }
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.local_runpod", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline, ready = time.monotonic() + 120, ""
        while not ready and time.monotonic() < deadline and process.poll() is None:
            lines = log.read_text(errors="replace").splitlines()
            ready = next((line.split()[1] for line in lines if line.startswith("ready http")), "")
            time.sleep(0.1)
        assert ready, log.read_text(errors="replace")
        yield Endpoint(folder, log, ready)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        with pytest.raises(LookupError):
            comfyui_pid(folder)


def frames_of(video: str) -> tuple[int, int, int, float]:
    with av.open(io.BytesIO(base64.b64decode(video))) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        return sum(1 for _ in file.decode(stream)), context.width, context.height, float(stream.average_rate)


def test_worker_proves_itself(endpoint):
    body = {"input": {"action": "ping"}}
    answer = requests.post(f"{endpoint.base_url}/runsync?wait=300000", json=body, timeout=310).json()
    assert answer["status"] == "COMPLETED", answer
    assert answer["output"]["comfyui_version"] == "0.30.0"
    workflows = answer["output"]["workflows"]
    assert workflows.pop("wan22_i2v_smooth") == {"missing": ["RealESRGAN_x4plus.safetensors"]}
    assert set(workflows.values()) == {"ready"}


def test_guide_request_gives_an_mp4(endpoint):
    """The guide's call, at a size for a CPU; snapped values and their warnings come from the nodes."""
    fields = {
        "prompt": "woman dancing",
        "image_base64": IMAGE,
        "cfg": 1.0,
        "fps": 16,
        **SMALL,
        "width": 71,
        "length": 6,
    }
    answer = requests.post(f"{endpoint.base_url}/runsync?wait=300000", json={"input": fields}, timeout=310).json()
    assert answer["status"] == "COMPLETED", answer
    output = answer["output"]
    assert frames_of(output["video"]) == (5, 64, 64, 16.0)
    assert [output[name] for name in ("width", "height", "length", "fps", "seed", "steps", "switch_step")] == [
        64,
        64,
        5,
        16,
        3,
        2,
        1,
    ]
    assert any("width 71" in warning for warning in output["warnings"])
    assert any("length 6" in warning for warning in output["warnings"])
    assert endpoint.left_files() == []


def test_cached_run_gives_the_same_video_and_the_same_words(endpoint):
    first, second = endpoint.video(width=71), endpoint.video(width=71)
    for answer in (first, second):
        answer.pop("timings")
        answer["models"] = [model | {"sha256": None} for model in answer["models"]]  # not known at first
    assert first == second
    assert any("width 71" in warning for warning in second["warnings"])


@pytest.mark.parametrize(
    "fields",
    [
        {"workflow": "wan22_t2v_4step", "image_base64": None},
        {"workflow": "wan22_ti2v_5b", "image_base64": None},
        {"workflow": "wan22_flf2v_4step", "end_image_base64": IMAGE},
        {"workflow": "wan22_i2v_4step_lora"},
        {"workflow": "wan22_i2v_4step_motion", "steps": 4},
        {"opening_steps": 1, "opening_cfg": 1.5, "nag_scale": 8, "negative_prompt": "pan left"},
        {"workflow": "wan22_i2v_reference"},
        {"loras": [TOY_LORAS, TOY_LORAS | {"low_strength": 0.5}]},
        {"workflow": "wan22_i2v_4step_lora", "loras": [TOY_LORAS]},
        {"scheduler": "beta", "sampler": "dpmpp_2m", "format": "webm vp9"},
        {"image_base64": None, "end_image_base64": IMAGE, "sizing": "match image"},
    ],
)
def test_every_workflow_runs(endpoint, fields):
    answer = endpoint.video(**fields)
    assert frames_of(answer["video"])[:3] == (5, answer["width"], answer["height"])


def pictures_of(video: str) -> np.ndarray:
    """[frames, height, width, 3] in 0..255."""
    with av.open(io.BytesIO(base64.b64decode(video))) as file:
        return np.stack([frame.to_ndarray(format="rgb24").astype(float) for frame in file.decode(video=0)])


def test_frames_in_between_backwards_and_loops(endpoint):
    """The forward video's frames come out in the other order, and the generated ones are among those in between."""
    same = {"length": 9, "crf": 2, "prompt": "pan left", "steps": 4}
    forward = endpoint.video(**same)
    made = endpoint.video(**same, interpolation="film", interpolation_factor=3, frame_order="reverse")
    assert frames_of(made["video"]) == (25, 64, 64, 48.0)
    assert [made[name] for name in ("length", "fps", "duration", "frame_order")] == [
        25,
        48,
        round(25 / 48, 4),
        "reverse",
    ]
    assert (made["interpolation"], made["interpolation_factor"]) == ("minterpolate", 3)
    assert [warning for warning in made["warnings"] if "minterpolate" in warning] == [
        "interpolation: this worker has no model file for film; FFmpeg's minterpolate made the frames in between"
    ]
    before, after = pictures_of(forward["video"]), pictures_of(made["video"])
    apart = np.abs(before[1:] - before[:-1]).mean()
    assert np.abs(after[::3] - before[::-1]).mean() < min(2.0, apart / 3)
    assert np.abs(after[::3] - before).mean() > apart

    slow = endpoint.video(**same, interpolation="rife", slow_motion=True, encoder_preset="fast")
    assert frames_of(slow["video"]) == (17, 64, 64, 16.0)
    loop = endpoint.video(**same, loop=True)
    assert (loop["length"], loop["loop"], loop["duration"]) == (8, True, 0.5)
    assert frames_of(loop["video"])[0] == 8
    there_and_back = endpoint.video(**same, frame_order="ping-pong")
    back = pictures_of(there_and_back["video"])
    assert len(back) == 16
    assert np.abs(back[9:] - back[7:0:-1]).mean() < 2.0
    assert endpoint.left_files() == []


def test_segments_make_one_video_and_its_last_frame_goes_on(endpoint: Endpoint) -> None:
    segments = [{"prompt": "pan left", "length": 9, "seed": 5}, {"prompt": "still", "length": 5}]
    answer = endpoint.video(
        prompt="pan left",
        length=None,
        segments=segments,
        steps=4,
        colour_reference="first frame",
        return_last_frame=True,
        crf=2,
    )
    assert frames_of(answer["video"])[:3] == (13, 64, 64)
    assert [answer[name] for name in ("length", "width", "height", "seed")] == [13, 64, 64, 5]
    told = answer["segments"]
    assert [(one["prompt"], one["length"], one["seed"]) for one in told] == [("pan left", 9, 5), ("still", 5, 6)]
    for expert in ("high_noise_s", "low_noise_s"):
        assert all(one[expert] > 0 for one in told)
        assert answer["timings"][expert] == pytest.approx(sum(one[expert] for one in told), abs=0.002)
    with Image.open(io.BytesIO(base64.b64decode(answer["last_frame"]))) as picture:
        assert (picture.format, picture.size, picture.info) == ("PNG", (64, 64), {})
        last = np.asarray(picture, float)
    shown = pictures_of(answer["video"])
    assert np.abs(last - shown[-1]).mean() < min(3.0, np.abs(last - shown[0]).mean() / 2)
    tag = "<lora:high_noise_4step_lora:0.5:0>"
    with_lora = endpoint.video(length=None, segments=[{"prompt": f"pan left {tag}", "length": 5}], loras=[TOY_LORAS])
    (only,) = with_lora["segments"]
    assert only["prompt"] == "pan left"
    assert only["loras"] == [{"name": "high_noise_4step_lora", "high_noise_strength": 0.5, "low_noise_strength": 0.0}]
    refused = endpoint.error(length=None, segments=[{"prompt": "pan <lora:gone:1>", "length": 5}], loras=[TOY_LORAS])
    assert refused == (
        "INVALID_VALUE: prompts: <lora:gone> fits no row that is on of Apply LoRA Pair; there are "
        "toy_wan2.2_i2v_high_noise_4step_lora.safetensors and toy_wan2.2_i2v_low_noise_4step_lora.safetensors "
        "(node Long Video)"
    )
    one_pass = endpoint.video(loop=True, steps=4, length=9, colour_reference="first frame", prompt="still <lora:x:1>")
    assert any(said.startswith("prompt: <lora:x:1> is read as words;") for said in one_pass["warnings"])
    assert (frames_of(one_pass["video"])[0], one_pass["loop"], len(one_pass["segments"])) == (8, True, 1)
    assert endpoint.left_files() == []


def test_an_operators_model_file_makes_the_frames_in_between(endpoint):
    """A RIFE file of random weights, by core's nodes in a ComfyUI that was started lean."""
    from wan_relay.tests.engine.video.interpolation_models import save_rife

    file = endpoint.folder / "models" / "frame_interpolation" / "rife_tiny.safetensors"
    same = {"length": 5, "crf": 4}
    forward = pictures_of(endpoint.video(**same)["video"])
    save_rife(file)
    try:
        for network, warnings in (
            ("rife", []),
            ("film", ["interpolation: this worker has no model file for film; rife_tiny.safetensors was used"]),
        ):
            made = endpoint.video(**same, interpolation=network)
            assert frames_of(made["video"]) == (9, 64, 64, 32.0)
            assert made["interpolation"] == "rife_tiny.safetensors"
            assert [warning for warning in made["warnings"] if "interpolation" in warning] == warnings
            assert np.abs(pictures_of(made["video"])[::2] - forward).mean() < 2.0
    finally:
        file.unlink()
    assert endpoint.video(**same, interpolation="rife")["interpolation"] == "minterpolate"


def test_an_operators_model_file_makes_the_frames_larger(endpoint):
    """Put there while the lean ComfyUI runs, which has no node for it: it is started with all of them."""
    from wan_relay.tests.engine.video.upscaling_models import save_upscaler

    file = endpoint.folder / "models" / "upscale_models" / "x2.safetensors"
    same = {"length": 5, "crf": 4}
    forward = pictures_of(endpoint.video(**same)["video"])
    assert endpoint.error(**same, upscale_factor=2).startswith("MODEL_MISSING: upscale_factor needs a model file, ")
    save_upscaler(file, 2)
    try:
        made = endpoint.video(**same, upscale_factor=3, interpolation="film")
        smooth = endpoint.video(**same, workflow="wan22_i2v_smooth", fps=12)
    finally:
        file.unlink()
    assert frames_of(smooth["video"]) == (9, 128, 128, 24.0)
    told = ("upscale_model", "upscale_factor", "interpolation", "interpolation_factor", "length", "width")
    assert [smooth[name] for name in told] == ["x2.safetensors", 2.0, "minterpolate", 2, 9, 128]
    assert np.abs(pictures_of(smooth["video"])[::2, 1::2, 1::2] - forward).mean() < 4.0
    refused = endpoint.error(**same, workflow="wan22_i2v_smooth")
    assert refused.startswith("MODEL_MISSING: upscale_factor needs a model file, ")
    assert frames_of(made["video"]) == (9, 192, 192, 32.0)
    assert [made[name] for name in ("width", "height", "upscale_factor", "upscale_model")] == [
        192,
        192,
        3.0,
        "x2.safetensors",
    ]
    assert "the model's scale is 2; the rest to 3 is Lanczos, which adds no detail." in made["warnings"]
    assert np.abs(pictures_of(made["video"])[::2, 1::3, 1::3] - forward).mean() < 4.0
    assert endpoint.left_files() == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"sampler": "bogus"},
            "INVALID_VALUE: sampler must be one that this worker's ComfyUI knows, got bogus (sampler)",
        ),
        (
            {"switch_step": 9},
            "INVALID_VALUE: switch_step must be between 0 and the number of steps, which is 2, not 9 "
            "(node Wan Relay: Sample) (switch_step)",
        ),
        (
            {"loras": [TOY_LORAS | {"low": "gone.safetensors"}]},
            "FILE_NOT_FOUND: low in loras item 1: gone.safetensors is not on this worker",
        ),
    ],
)
def test_what_comfyui_refuses_comes_as_one_sentence(endpoint, fields, sentence):
    assert endpoint.error(**fields).startswith(sentence)


class LoraHost(BaseHTTPRequestHandler):
    """The toy family's LoRAs, each with an ETag."""

    folder: Path
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        is_known = self.headers["If-None-Match"] == etag
        self.send_response(304 if is_known else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", "0" if is_known else str(len(content)))
        self.end_headers()
        if not is_known:
            self.sent.append(self.path.lstrip("/"))
            self.wfile.write(content)


def test_loras_by_url_are_those_of_the_volume_and_come_once(endpoint: Endpoint, toy_models: Path) -> None:
    handler = type("Handler", (LoraHost,), {"folder": toy_models / "loras"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = {expert: f"http://127.0.0.1:{server.server_port}/{name}" for expert, name in TOY_LORAS.items()}
    try:
        fields = {"workflow": "wan22_i2v_reference", "cfg": 1}
        by_url, again = (endpoint.video(loras=[urls], **fields) for _ in range(2))
        other_seed = endpoint.video(loras=[urls], **fields, seed=4)
        assert sorted(LoraHost.sent) == sorted(TOY_LORAS.values()), "each once"
        tag = "<lora:high_noise_4step_lora:0.5:0>"
        tagged = endpoint.video(length=None, segments=[{"prompt": f"still {tag}", "length": 5}], loras=[urls])
        half = endpoint.error(loras=[urls | {"low": urls["low"].replace("low_noise", "gone")}], **fields)
    finally:
        server.shutdown()
        server.server_close()
    by_name, without = endpoint.video(loras=[TOY_LORAS], **fields), endpoint.video(**fields)
    assert by_url["video"] == again["video"] == by_name["video"] != without["video"]
    assert other_seed["video"] != by_url["video"]
    assert by_url["warnings"] == by_name["warnings"]
    assert by_url["timings"]["loras_s"] > 0
    [lora] = tagged["segments"][0]["loras"]
    assert lora == {"name": TOY_LORAS["high"], "high_noise_strength": 0.5, "low_noise_strength": 0.0}
    assert half == "DOWNLOAD_FAILED: the server of low in loras item 1 answered HTTP 404 (loras)"
    elsewhere = endpoint.error(loras=[{"high": "https://example.com/a.safetensors"}], **fields)
    assert elsewhere == (
        "BLOCKED_URL: the host of high in loras item 1 is not one of this worker's WAN_RELAY_LORA_HOSTS (loras)"
    )
    assert endpoint.left_files() == []


def test_cancel_and_sigkill(endpoint):
    """A cancelled job leaves ComfyUI idle; a killed ComfyUI costs the next job only time."""
    long = endpoint.submit(length=33, steps=50, workflow="wan22_i2v_reference")
    assert endpoint.first_progress(long)["output"]["expert"] in ("high_noise", "low_noise"), (
        "also where the boundary decides"
    )
    requests.post(f"{endpoint.base_url}/cancel/{long}", timeout=60)
    assert endpoint.video(seed=11)["seed"] == 11
    old = comfyui_pid(endpoint.folder)
    job = endpoint.submit(seed=12, length=33, steps=50)
    while requests.get(f"{endpoint.base_url}/status/{job}", timeout=60).json()["status"] == "IN_QUEUE":
        time.sleep(0.1)
    time.sleep(1.0)
    os.kill(old, signal.SIGKILL)
    os.kill(comfyui_pid_other_than(endpoint.folder, old), 0)
    requests.post(f"{endpoint.base_url}/cancel/{job}", timeout=60)
    assert endpoint.video(seed=13)["seed"] == 13
    assert endpoint.left_files() == []


def comfyui_pid_other_than(folder: Path, old: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if (pid := comfyui_pid(folder)) != old:
                return pid
        except LookupError:
            pass
        time.sleep(0.1)
    raise TimeoutError("ComfyUI was not started again")
