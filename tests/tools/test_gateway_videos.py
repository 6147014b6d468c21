"""`dev.py gateway`: a video through all of it in each dialect, by the provider's own client where there is one.

One gateway and one ComfyUI make them all, as small and as short as the dialect lets a client ask for; then a part dies.
"""

import base64
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import fal_client
import httpx
import pytest
import runpod
from openai import OpenAI
from replicate.client import Client
from runwayml import RunwayML
from wan_relay.tests.service.gateway.stand import PICTURE
from wan_relay.tests.test_dev import processes_with
from wan_relay.tests.tools.gateway_process import children, served
from wan_relay.tests.waiting import wait_until
from wan_relay.tools.comfyui_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
BASE64 = PICTURE.partition(",")[2]
RENDER_S = 400
STEPS = 30


class Gateway(NamedTuple):
    url: str
    pid: int


class Facts(NamedTuple):
    """What a decoder finds in a file."""

    width: int
    height: int
    num_frames: int
    fps: float


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(folder: Path, toy_models: Path) -> Iterator[Gateway]:
    port = free_port()
    with served(folder, toy_models, port) as process:
        yield Gateway(f"http://127.0.0.1:{port}", process.pid)
    wait_until(lambda: not processes_with(str(folder)))


def facts(content: bytes) -> Facts:
    with av.open(io.BytesIO(content)) as video:
        stream = video.streams.video[0]
        times = [frame.time for frame in video.decode(stream)]
        assert stream.average_rate is not None
        fps = float(stream.average_rate)
        assert times == pytest.approx([n / fps for n in range(len(times))], abs=1e-3)
        return Facts(stream.width, stream.height, len(times), fps)


def never_falls(values: list[float]) -> bool:
    """How many steps of a toy a client sees go by is the machine's doing: it may stand still longer than they take."""
    return bool(values) and values == sorted(values)


def tells_of_both_experts(log: str) -> bool:
    """Every line of it is kept, however quick the steps were."""
    high_noise, low_noise = (log.find(f"{name}-noise expert, step") for name in ("high", "low"))
    return 0 <= high_noise < low_noise


def test_api(gateway: Gateway) -> None:
    body = {
        "prompt": "pan left",
        "image_url": PICTURE,
        "duration": 0.5,
        "resolution": "480p",
        "seed": 1,
        "steps": STEPS,
    }
    with httpx.Client(base_url=f"{gateway.url}/api/v1", timeout=RENDER_S) as client:
        first = client.post("/videos", json=body).json()
        assert any("toy size" in warning for warning in first["warnings"])
        with client.stream("GET", f"/videos/{first['id']}/events") as events:
            seen = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    ended = seen[-1]
    assert ended["status"] == "succeeded", ended["error"]
    assert never_falls([each["progress"]["percent"] for each in seen])
    sampling = [each["progress"] for each in seen if each["progress"]["stage"] == "sampling"]
    assert [each["expert"] for each in sampling] == [
        "high_noise" if each["step"] <= STEPS / 2 else "low_noise" for each in sampling
    ]
    assert tells_of_both_experts("\n".join(ended["logs"]))
    found = facts(httpx.get(ended["video"]["url"]).content)
    assert found == Facts(208, 160, 5, 16)
    assert found == tuple(ended["video"][name] for name in ("width", "height", "num_frames", "fps"))


def test_fal(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{gateway.url}/fal/run/")
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{gateway.url}/fal/queue/")
    seen: list[Any] = []
    wish = {"prompt": "pan right", "image_url": PICTURE, "num_frames": 17, "resolution": "480p", "aspect_ratio": "1:1"}
    wish |= {"acceleration": "none", "num_inference_steps": STEPS, "interpolator_model": "none"}
    client = fal_client.SyncClient(key="any")
    result = client.subscribe("fal-ai/wan/v2.2-a14b/image-to-video", wish, with_logs=True, on_queue_update=seen.append)
    assert isinstance(seen[-1], fal_client.Completed)
    assert tells_of_both_experts("\n".join(item["message"] for item in seen[-1].logs or ()))
    assert facts(httpx.get(result["video"]["url"]).content) == Facts(192, 192, 5, 16)


def test_replicate(gateway: Gateway) -> None:
    client = Client(base_url=f"{gateway.url}/replicate", api_token="any")
    wish = {"prompt": "zoom in", "image": io.BytesIO(base64.b64decode(BASE64)), "sample_steps": STEPS}
    prediction = client.predictions.create("wan-video/wan-2.2-i2v-a14b", input=wish)
    seen = []
    while prediction.status in ("starting", "processing"):
        prediction.reload()
        seen += [prediction.progress.percentage] if prediction.progress else []
        time.sleep(0.1)
    assert prediction.status == "succeeded", prediction.error
    assert seen == sorted(seen)
    assert tells_of_both_experts(prediction.logs or "")
    assert facts(httpx.get(prediction.output).content) == Facts(208, 160, 5, 16)


def test_runway(gateway: Gateway) -> None:
    with RunwayML(api_key="any", base_url=f"{gateway.url}/runway") as client:
        photo = client.uploads.create_ephemeral(file=("photo.png", base64.b64decode(BASE64), "image/png"))
        task_id = client.image_to_video.create(
            model="gen4_turbo", prompt_image=photo.uri, prompt_text="pan up", ratio="1584:672", duration=2
        ).id
        seen = []
        while (task := client.tasks.retrieve(task_id)).status not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            seen += [task.progress] if task.status == "RUNNING" else []
            time.sleep(0.1)
    assert task.status == "SUCCEEDED", task
    assert seen == sorted(seen)
    assert facts(httpx.get(task.output[0]).content) == Facts(288, 112, 5, 16)


def test_openai(gateway: Gateway) -> None:
    with OpenAI(api_key="any", base_url=f"{gateway.url}/openai/v1") as client:
        photo = ("photo.png", base64.b64decode(BASE64), "image/png")
        extra = {"num_frames": 5, "num_inference_steps": STEPS}
        video = client.videos.create(prompt="pan down", input_reference=photo, size="160x208", extra_body=extra)  # type: ignore[arg-type]
        seen = []
        while (video := client.videos.retrieve(video.id)).status in ("queued", "in_progress"):
            seen.append(video.progress / 100)
            time.sleep(0.05)
        assert video.status == "completed", video.error
        assert never_falls(seen)
        assert facts(client.videos.download_content(video.id).read()) == Facts(160, 208, 5, 16)


def test_modelverse(gateway: Gateway) -> None:
    body = {
        "model": "Wan-AI/Wan2.2-I2V",
        "input": {"first_frame_url": PICTURE, "prompt": "zoom out"},
        "parameters": {"resolution": "480P", "duration": 5},
    }
    with httpx.Client(base_url=f"{gateway.url}/modelverse/v1/tasks", timeout=60) as client:
        task_id = client.post("/submit", json=body).json()["output"]["task_id"]
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["task_status"] in ("Pending", "Running"):
            seen.append(client.get("/status", params={"task_id": task_id}).json()["output"])
            time.sleep(0.1)
    assert seen[-1]["task_status"] == "Success", seen[-1]
    assert "Running" in [each["task_status"] for each in seen]
    assert facts(httpx.get(seen[-1]["urls"][0]).content) == Facts(208, 160, 5, 16)


def test_cerebrium(gateway: Gateway) -> None:
    """The one without progress: the call is held until the video is in its answer."""
    body = {"prompt": "pan left", "image_base64": BASE64, "width": 64, "height": 96, "num_frames": 25}
    body |= {"num_inference_steps": 4, "fps": 24}
    answer = httpx.post(f"{gateway.url}/cerebrium/v4/p/a/predict", json=body, timeout=RENDER_S)
    assert answer.status_code == 200, answer.text
    assert facts(base64.b64decode(answer.json()["video_base64"])) == Facts(64, 96, 5, 24)


def test_runpod(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod, "endpoint_url_base", f"{gateway.url}/runpod/v2")
    body = {"prompt": "rotate left", "image_base64": BASE64, "width": 96, "height": 64, "length": 5, "steps": STEPS}
    job = runpod.Endpoint("ep", api_key="any").run(body)
    seen = []
    while (state := job._fetch_job())["status"] in ("IN_QUEUE", "IN_PROGRESS"):
        seen += [state["output"]["step"]] if "step" in state.get("output", {}) else []
        time.sleep(0.1)
    assert seen == sorted(seen)
    output = job.output(timeout=RENDER_S)
    assert facts(base64.b64decode(output["video"])) == Facts(96, 64, 5, 16)


def test_a_part_that_dies_and_all_that_starts_again(gateway: Gateway, folder: Path, toy_models: Path) -> None:
    """The last one: it ends the gateway of the others. What they made is there when it is started again."""
    with httpx.Client(base_url=f"{gateway.url}/api/v1", timeout=60) as client:
        kept = client.get("/videos").json()["videos"][0]
        content = httpx.get(kept["video"]["url"]).content
    [executor] = children(gateway.pid, "service.executors.local")
    os.kill(executor, signal.SIGKILL)
    time.sleep(0.5)
    wait_until(lambda: children(gateway.pid, "service.executors.local") not in ([], [executor]))
    os.kill(gateway.pid, signal.SIGINT)
    wait_until(lambda: not processes_with(str(folder)))
    with served(folder, toy_models, int(gateway.url.rpartition(":")[2])):
        again = httpx.get(f"{gateway.url}/api/v1/videos/{kept['id']}").json()
        assert (again["status"], httpx.get(again["video"]["url"]).content) == ("succeeded", content)
    wait_until(lambda: not processes_with(str(folder)))
