"""Which files a graph names, by which roles, where they are found, and what a job's answer says of them."""

import hashlib
from pathlib import Path
from typing import Any

from wan_relay.service.contract.video_answer import ModelUse
from wan_relay.service.worker.model_files.hashes import ModelHashes
from wan_relay.service.worker.model_files.places import KINDS, model_folders
from wan_relay.service.worker.model_files.used import NamedModel, named_models, used_models
from wan_relay.service.worker.workflow import ModelFile
from wan_relay.tests.service.worker.model_files.fake_hub import cached_repository
from wan_relay.tests.service.worker.model_files.test_places import put, settings_of
from wan_relay.tests.waiting import wait_until

EXPERTS = ("diffusion_models", "unet", "checkpoints")
GRAPH: dict[str, dict[str, Any]] = {
    "1": {
        "class_type": "WanRelay_LoadExperts",
        "inputs": {"high_noise": "h.safetensors", "low_noise": "l.safetensors [checkpoints]"},
    },
    "2": {"class_type": "VAELoader", "inputs": {"vae_name": "v.safetensors"}},
    "3": {"class_type": "WanRelay_EncodePrompts", "inputs": {"text_encoder": "t.SFT", "prompt": "a b.safetensors c"}},
    "4": {
        "class_type": "WanRelay_ApplyLoraPair",
        "inputs": {
            "high_noise_lora": "a/b.safetensors",
            "low_noise_lora": "none",
            "high_noise_strength": 1.0,
            "pairs": "3",
            "pairs.low_noise_lora_2": "c.safetensors",
            "pairs.high_noise_lora_3": "off.safetensors",
            "pairs.is_on_3": False,
        },
    },
    "5": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "u.pth", "image": ["9", 0], "x": 3}},
    "6": {"class_type": "WanRelay_SaveVideo", "inputs": {"filename_prefix": "wan_relay_1/video.mp4"}},
}


def test_names_of_a_graph() -> None:
    folders: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    assert list(named_models(GRAPH, folders)) == [
        NamedModel("text_encoder", "t.SFT", ModelFile("t.SFT", ("text_encoders", "clip"))),
        NamedModel("vae", "v.safetensors", ModelFile("v.safetensors", ("vae",))),
        NamedModel("high_noise", "h.safetensors", ModelFile("h.safetensors", EXPERTS)),
        NamedModel("high_noise_lora", "a/b.safetensors", ModelFile("a/b.safetensors", ("loras",))),
        NamedModel("low_noise_lora", "c.safetensors", ModelFile("c.safetensors", ("loras",))),
        NamedModel("low_noise", "l.safetensors [checkpoints]", ModelFile("l.safetensors", ("checkpoints",))),
        NamedModel("model_name", "u.pth", ModelFile("u.pth", KINDS)),
    ]


def test_sizes_and_hashes_of_what_is_found(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    cached_repository(tmp_path / "hub", "a/b", {"x": b"1"})
    put(tmp_path / "one" / "models" / "vae" / "v.safetensors", 11)
    put(tmp_path / "two" / "models" / "checkpoints" / "l.safetensors", 12)
    put(tmp_path / "comfyui" / "models" / "upscale_models" / "u.pth", 13)
    hashes = ModelHashes(tmp_path / "hashes.json", tmp_path / "loras", reads=True)

    def used() -> list[ModelUse]:
        return used_models(GRAPH, model_folders(settings), hashes)

    first = used()
    assert [(model.role, model.bytes) for model in first] == [
        ("text_encoder", None),
        ("vae", 11),
        ("high_noise", None),
        ("high_noise_lora", None),
        ("low_noise_lora", None),
        ("low_noise", 12),
        ("model_name", 13),
    ]
    wait_until(lambda: len([model for model in used() if model.sha256]) == 3)
    known = {model.file: model.sha256 for model in used() if model.sha256}
    hashes.stop()
    assert known == {
        name: hashlib.sha256(bytes(size)).hexdigest()
        for name, size in (("v.safetensors", 11), ("l.safetensors [checkpoints]", 12), ("u.pth", 13))
    }


def test_the_first_answer_does_not_wait_and_a_later_one_knows(make_bench: Any, tmp_path: Path) -> None:
    put(tmp_path / "root" / "models" / "vae" / "wan_2.1_vae.safetensors", 1000)
    bench = make_bench(WAN_RELAY_MODEL_ROOTS=tmp_path / "root")
    [first] = bench.answer(bench.job())
    vae = {"role": "vae", "file": "wan_2.1_vae.safetensors", "bytes": 1000, "sha256": None}
    assert first["models"][1] == vae
    vae["sha256"] = hashlib.sha256(bytes(1000)).hexdigest()
    wait_until(lambda: bench.answer(bench.job())[0]["models"][1] == vae)
    assert bench.settings.model_hashes == tmp_path / "bench0" / "run" / "model_hashes.json", "no volume there"
    assert bench.settings.model_hashes.is_file()
