"""What is said of missing files, of those that are there twice, and of links, at boot and to a ping: compared whole."""

import os
import re
import time
from pathlib import Path
from typing import Any

from wan_relay.service.worker.model_files.hub_cache import find_cached_models, link_cached_models
from wan_relay.service.worker.model_files.manifest import Manifest, check_files, check_models
from wan_relay.service.worker.model_files.places import find_model, model_folders, model_places
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.workflow import ModelFile
from wan_relay.tests.service.worker.model_files.fake_hub import cached_repository
from wan_relay.tests.service.worker.model_files.test_places import put, settings_of

HIGH = ModelFile("high.safetensors", ("diffusion_models", "unet", "checkpoints"))
LOW = ModelFile("low.safetensors", HIGH.folders)
VAE = ModelFile("vae.safetensors", ("vae",))
LORA = ModelFile("fast/lora.safetensors", ("loras",))
NEEDED = {"short": [HIGH, VAE], "long": [HIGH, LOW, VAE, LORA], "bare": []}


def check(settings: Settings) -> Manifest:
    return check_files(NEEDED, model_places(settings), find_cached_models(settings.hubs), settings)


def test_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "two" / "models").mkdir(parents=True)
    manifest = check(settings_of(tmp_path))
    looked_in = {
        f"{tmp_path}/comfyui/models": "not there",
        f"{tmp_path}/one/models": "not there",
        f"{tmp_path}/two/models": "there",
        f"{tmp_path}/one/ComfyUI/models": "not there",
        f"{tmp_path}/two/ComfyUI/models": "not there",
        f"{tmp_path}/one/huggingface-cache/hub": "not there",
        f"{tmp_path}/two/huggingface-cache/hub": "not there",
    }
    assert manifest.workflows() == {
        "short": {"missing": ["high.safetensors", "vae.safetensors"]},
        "long": {"missing": ["high.safetensors", "low.safetensors", "vae.safetensors", "fast/lora.safetensors"]},
        "bare": "ready",
    }
    assert manifest.to_wire() == {
        "looked_in": looked_in,
        "missing": {
            "high.safetensors": "diffusion_models or unet or checkpoints",
            "vae.safetensors": "vae",
            "low.safetensors": "diffusion_models or unet or checkpoints",
            "fast/lora.safetensors": "loras",
        },
        "twice": {},
        "notes": [f"{tmp_path}/one of WAN_RELAY_MODEL_ROOTS is not there"],
    }
    places = ", ".join(f"{place} (not there)" if state == "not there" else place for place, state in looked_in.items())
    assert list(manifest.lines()) == [
        "short lacks diffusion_models/high.safetensors, vae/vae.safetensors",
        "long lacks diffusion_models/high.safetensors, diffusion_models/low.safetensors, vae/vae.safetensors, "
        "loras/fast/lora.safetensors",
        "bare has its files",
        f"looked in {places}",
        f"{tmp_path}/one of WAN_RELAY_MODEL_ROOTS is not there",
    ]


def test_files_of_every_place_and_what_is_there_twice(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    one, two, base = (tmp_path / name for name in ("one", "two", "comfyui"))
    mine = put(base / "models" / "vae" / "vae.safetensors")
    other = put(two / "ComfyUI" / "models" / "vae" / "vae.safetensors")
    put(one / "models" / "loras" / "fast" / "lora.safetensors")
    first = cached_repository(two / "huggingface-cache" / "hub", "a/b", {"x/unet/high.safetensors": b"1"})
    second = cached_repository(
        two / "huggingface-cache" / "hub", "c/d", {"high.safetensors": b"2", "low.safetensors": b"3"}
    )
    manifest = check(settings)
    assert manifest.workflows() == dict.fromkeys(NEEDED, "ready")
    high = (f"{first}/x/unet/high.safetensors", f"{second}/high.safetensors")
    assert manifest.to_wire() == {
        "looked_in": {
            f"{base}/models": "there",
            f"{one}/models": "there",
            f"{two}/models": "not there",
            f"{one}/ComfyUI/models": "not there",
            f"{two}/ComfyUI/models": "there",
            f"{one}/huggingface-cache/hub": "not there",
            str(first): "there",
            str(second): "there",
        },
        "missing": {},
        "twice": {
            "high.safetensors": {"used": high[0], "not_used": [high[1]]},
            "vae.safetensors": {"used": str(mine), "not_used": [str(other)]},
        },
        "notes": [],
    }
    assert list(manifest.lines()) == [
        *(f"{name} has its files" for name in NEEDED),
        f"high.safetensors is there more than once: {high[0]} is used, {high[1]} not",
        f"vae.safetensors is there more than once: {mine} is used, {other} not",
    ]
    link_cached_models(find_cached_models(settings.hubs), settings.cached_models)
    for file, path in ((HIGH, Path(high[0])), (VAE, mine)):
        used = find_model(file, model_folders(settings))
        assert used is not None
        assert os.path.samefile(used, path), "ComfyUI loads what the manifest says"


def test_one_file_by_two_links_is_not_there_twice(tmp_path: Path) -> None:
    mine = put(tmp_path / "one" / "models" / "vae" / "vae.safetensors")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "models").symlink_to(tmp_path / "one" / "models")
    cached_repository(tmp_path / "one" / "huggingface-cache" / "hub", "a/b", {"high.safetensors": b"1"})
    manifest = check(settings_of(tmp_path))
    assert (manifest.doubles, manifest.notes) == ({}, [])
    assert mine.is_file()


def test_links_to_nothing_and_out_of_the_places_are_said(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, roots=f"{tmp_path}/one")
    models, elsewhere = tmp_path / "one" / "models", put(tmp_path / "elsewhere" / "real")
    for name, target in (
        ("vae/vae.safetensors", tmp_path / "gone"),
        ("unet/low.safetensors", elsewhere),
        ("checkpoints/high.safetensors", tmp_path / "one" / "within"),
    ):
        (models / name).parent.mkdir(parents=True)
        (models / name).symlink_to(target)
    put(tmp_path / "one" / "within")
    (models / "loras").symlink_to(put(tmp_path / "far" / "fast" / "lora.safetensors").parents[1])
    snapshot = cached_repository(tmp_path / "one" / "huggingface-cache" / "hub", "a/b", {})
    (snapshot / "vae.safetensors").symlink_to("../../blobs/1")
    manifest = check(settings)
    assert manifest.workflows() == {
        "short": {"missing": ["vae.safetensors"]},
        "long": {"missing": ["vae.safetensors"]},
        "bare": "ready",
    }
    assert manifest.notes == [
        f"{snapshot}/vae.safetensors is a link to nothing; its download may not have ended",
        f"{models}/vae/vae.safetensors is a link to nothing",
        f"{models}/unet/low.safetensors is a link out of the folders that are searched, to {elsewhere}",
        f"{models}/loras/fast/lora.safetensors is a link out of the folders that are searched, to "
        f"{tmp_path}/far/fast/lora.safetensors",
    ]


def test_the_bundled_workflows_are_checked(tmp_path: Path) -> None:
    put(tmp_path / "two" / "models" / "vae" / "wan_2.1_vae.safetensors")
    manifest = check_models(settings_of(tmp_path))
    assert manifest.workflows()["wan22_i2v_4step"] == {
        "missing": [
            "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
            "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors",
            "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors",
        ]
    }
    assert len(manifest.workflows()) == 9


def test_any_upscaler_of_the_workers_serves_the_workflow_that_upscales(tmp_path: Path) -> None:
    def missing(**variables: str) -> list[str]:
        return check_models(settings_of(tmp_path, **variables)).workflows()["wan22_i2v_smooth"]["missing"]

    assert missing()[-1] == "RealESRGAN_x4plus.safetensors"
    assert "film_net_fp16.safetensors" not in missing()
    put(tmp_path / "two" / "models" / "upscale_models" / "mine.pth")
    for variables in ({}, {"WAN_RELAY_UPSCALE_MODEL": "gone.pth"}):
        assert "low" in missing(**variables)[-1].lower()


def test_ping_and_log_say_it(make_bench: Any, capfd: Any) -> None:
    bench = make_bench(WAN_RELAY_MODEL_ROOTS="/no/such/root")
    bench.worker.start()
    [ping] = bench.answer({"id": "1", "input": {"action": "ping"}})
    manifest = check_models(bench.settings)
    assert (ping["workflows"], ping["models"]) == (manifest.workflows(), manifest.to_wire())
    assert ping["models"]["notes"] == ["/no/such/root of WAN_RELAY_MODEL_ROOTS is not there"]
    logged, deadline = "", time.monotonic() + 60
    while list(manifest.lines()) != re.findall(r"^models \| (.*)$", logged, re.MULTILINE):
        assert time.monotonic() < deadline, logged
        time.sleep(0.02)
        logged += capfd.readouterr().err
