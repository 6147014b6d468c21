"""The worker over the real ComfyUI, whose model files lie in a Hugging Face cache alone."""

import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wan_relay.service.worker.comfyui.process import pack_folder
from wan_relay.service.worker.job import Worker
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.worker.conftest import png
from wan_relay.tests.service.worker.model_files.fake_hub import NEWEST, OLDER, cached_repository
from wan_relay.tests.waiting import wait_until
from wan_relay.tools.toy_workflows import TOY_FILES

ROOT = Path(__file__).resolve().parents[4]
pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
HIGH, LOW = (f"toy_wan2.2_i2v_{expert}_noise" for expert in ("high", "low"))
LORAS = {"high": f"{HIGH}_4step_lora.safetensors", "low": f"{LOW}_4step_lora.safetensors"}


@pytest.fixture
def folder(tmp_path: Path, toy_models: Path) -> Path:
    """Two volumes: the family in two repositories of the first one's cache, its LoRAs as plain files in the second."""
    hub = tmp_path / "one" / "huggingface-cache" / "hub"
    at_the_top = {path.name: path for path in toy_models.glob("vae/*.safetensors")}
    files = {
        f"split_files/{kind}/{path.name}": path
        for kind in ("diffusion_models", "text_encoders", "upscale_models")
        for path in toy_models.glob(f"{kind}/*.safetensors")
    }
    cached_repository(hub, "Toy/Wan2.2", at_the_top | files)
    stale = cached_repository(hub, "Toy/Wan2.2", {"toy_umt5.safetensors": b"stale"}, OLDER, is_main=False)
    (stale / "broken.safetensors").symlink_to("../../blobs/gone")
    loras = tmp_path / "two" / "models" / "loras"
    loras.mkdir(parents=True)
    for name in LORAS.values():
        (loras / name).write_bytes((toy_models / "loras" / name).read_bytes())
    return tmp_path


@pytest.fixture
def worker(folder: Path) -> Iterator[Worker]:
    variables = {
        "COMFYUI_PATH": os.environ["COMFYUI_PATH"],
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_PORT": "0",
        "COMFYUI_ARGS": "--cpu",
        "COMFYUI_BASE": str(folder / "base"),
        "WAN_RELAY_RUN_DIR": str(folder / "run"),
        "WAN_RELAY_VOLUME": str(folder / "one"),
        "WAN_RELAY_MODEL_ROOTS": f"{folder}/one,{folder}/two",
        "WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES),
        "WAN_RELAY_BOOT_TIMEOUT_S": "200",
        "WAN_RELAY_JOB_TIMEOUT_S": "250",
        "WAN_RELAY_MIN_FREE_DISK_MB": "1",
    }
    pack = pack_folder(folder / "base")
    pack.parent.mkdir(parents=True)
    pack.symlink_to(ROOT)
    worker = Worker(Settings.from_environment(variables), lambda job, update: None)
    worker.start()
    yield worker
    worker.stop()


def answer(worker: Worker, **fields: Any) -> dict[str, Any]:
    small = {"prompt": "pan left", "width": 64, "height": 64, "length": 5, "steps": 2, "seed": 3}
    image = base64.b64encode(png()).decode()
    return asyncio.run(worker.answer({"id": "sync-1", "input": {**small, "image_base64": image, **fields}}))


def test_a_video_of_cached_models(worker: Worker, folder: Path, toy_models: Path) -> None:
    ping = asyncio.run(worker.answer({"id": "1", "input": {"action": "ping"}}))
    assert ping["workflows"] == dict.fromkeys(ping["workflows"], "ready")
    one, two = folder / "one", folder / "two"
    snapshot = one / "huggingface-cache" / "hub" / "models--Toy--Wan2.2" / "snapshots" / NEWEST
    assert ping["models"] == {
        "looked_in": {
            f"{folder}/base/models": "not there",
            f"{one}/models": "not there",
            f"{two}/models": "there",
            f"{one}/ComfyUI/models": "not there",
            f"{two}/ComfyUI/models": "not there",
            str(snapshot): "there",
            f"{two}/huggingface-cache/hub": "not there",
        },
        "missing": {},
        "twice": {},
        "notes": [],
    }

    def item(role: str, kind: str, name: str, is_known: bool = True) -> dict[str, Any]:
        content = (toy_models / kind / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest() if is_known else None
        return {"role": role, "file": name, "bytes": len(content), "sha256": sha256}

    output = answer(worker)
    assert base64.b64decode(output["video"])[4:8] == b"ftyp", output
    assert output["prompt"] == "pan left"
    assert output["models"] == [
        item("text_encoder", "text_encoders", "toy_umt5.safetensors"),
        item("vae", "vae", "toy_wan_2.1_vae.safetensors"),
        item("high_noise", "diffusion_models", f"{HIGH}_4step.safetensors"),
        item("low_noise", "diffusion_models", f"{LOW}_4step.safetensors"),
    ]

    fields = {"workflow": "wan22_i2v_4step_lora"}
    rest = [
        ("high_noise", "diffusion_models", f"{HIGH}.safetensors"),
        ("high_noise_lora", "loras", LORAS["high"]),
        ("low_noise_lora", "loras", LORAS["low"]),
        ("low_noise", "diffusion_models", f"{LOW}.safetensors"),
    ]
    first = answer(worker, **fields)["models"]
    assert first[2:] == [item(role, kind, name, kind != "loras") for role, kind, name in rest]
    record = one / "wan_relay" / "model_hashes.json"
    wait_until(lambda: record.exists() and len(json.loads(record.read_bytes())) == len(LORAS))
    assert answer(worker, **fields)["models"][2:] == [item(*each) for each in rest]
