"""Hugging Face caches: which files are found, by which names, and what is said of the others."""

import os
from pathlib import Path

import huggingface_hub
from wan_relay.service.worker.model_files.hub_cache import find_cached_models, link_cached_models
from wan_relay.service.worker.model_files.places import KINDS
from wan_relay.tests.service.worker.model_files.fake_hub import NEWEST, OLDER, cached_repository


def names(found: dict[tuple[str, str], list[Path]], kind: str) -> set[str]:
    return {name for of, name in found if of == kind}


def test_files_are_shown_by_plain_names_in_their_kinds(tmp_path: Path) -> None:
    content = {
        "split_files/diffusion_models/high.safetensors": b"high",
        "split_files/text_encoders/wan/t5.safetensors": b"t5",
        "Clip/t6.safetensors": b"t6",
        "unet/sub/low.GGUF": b"low",
        "vae.safetensors": b"vae",
        "somewhere/lora.pt": b"lora",
        "README.md": b"# words",
        "embeddings/e.pt": b"e",
    }
    snapshot = cached_repository(tmp_path / "hub", "Owner/Wan", content)
    cached_repository(tmp_path / "hub", "Owner/Wan", {"old.safetensors": b"old"}, OLDER, is_main=False)
    found = find_cached_models([tmp_path / "hub", tmp_path / "no hub"])
    assert (found.snapshots, found.notes) == ([snapshot], [])
    of_any = {"vae.safetensors", "lora.pt"}
    for kind, more in {
        "diffusion_models": {"high.safetensors", "low.GGUF", "sub/low.GGUF"},
        "text_encoders": {"t5.safetensors", "wan/t5.safetensors", "t6.safetensors"},
        "vae": set(),
        "loras": set(),
        "checkpoints": set(),
    }.items():
        assert names(found.files, kind) == of_any | more, kind
    assert names(found.files, "embeddings") == {"e.pt"}

    link_cached_models(found, tmp_path / "links")
    link = tmp_path / "links" / "text_encoders" / "wan" / "t5.safetensors"
    assert os.readlink(link) == str(snapshot / "split_files/text_encoders/wan/t5.safetensors")
    assert link.read_bytes() == b"t5"
    assert {path.name for path in (tmp_path / "links").iterdir()} == set(KINDS)

    (tmp_path / "links" / "vae" / "stale.safetensors").symlink_to(tmp_path / "gone")
    link_cached_models(found, tmp_path / "links")
    assert {path.name for path in (tmp_path / "links" / "vae").iterdir()} == of_any
    assert (snapshot / "vae.safetensors").is_file(), "the links alone were removed"


def test_the_caches_of_these_tests_are_like_huggingface_hub_s(tmp_path: Path) -> None:
    snapshot = cached_repository(tmp_path, "Owner/Wan", {"x.safetensors": b"12", "split_files/vae/y.safetensors": b"3"})
    cached_repository(tmp_path, "Owner/Wan", {"x.safetensors": b"old"}, OLDER, is_main=False)
    cache = huggingface_hub.scan_cache_dir(tmp_path)
    assert cache.warnings == []
    [repository] = cache.repos
    [main] = [revision for revision in repository.revisions if "main" in revision.refs]
    assert (repository.repo_id, main.snapshot_path, main.size_on_disk) == ("Owner/Wan", snapshot, 3)
    for name in ("x.safetensors", "split_files/vae/y.safetensors"):
        assert huggingface_hub.try_to_load_from_cache("Owner/Wan", name, tmp_path) == str(snapshot / name)


def test_the_first_repository_has_a_name_that_two_have(tmp_path: Path) -> None:
    second = cached_repository(tmp_path / "hub", "b/two", {"vae/x.safetensors": b"2"})
    first = cached_repository(tmp_path / "hub", "a/one", {"vae/x.safetensors": b"1", "more/vae/x.safetensors": b"3"})
    elsewhere = cached_repository(tmp_path / "other", "a/a", {"vae/x.safetensors": b"4"})
    found = find_cached_models([tmp_path / "hub", tmp_path / "other"])
    assert found.files["vae", "x.safetensors"] == [
        first / "more/vae/x.safetensors",
        first / "vae/x.safetensors",
        second / "vae/x.safetensors",
        elsewhere / "vae/x.safetensors",
    ]


def test_the_snapshot_of_main_is_taken(tmp_path: Path) -> None:
    older = cached_repository(tmp_path, "a/older", {"x.safetensors": b"1"}, OLDER)
    cached_repository(tmp_path, "a/older", {"x.safetensors": b"2"}, NEWEST, is_main=False)
    assert find_cached_models([tmp_path]).snapshots == [older], "though another was changed later"

    newest = cached_repository(tmp_path / "2", "a/b", {"x.safetensors": b"1"}, OLDER, is_main=False)
    other = cached_repository(tmp_path / "2", "a/b", {"x.safetensors": b"2"}, NEWEST, is_main=False)
    os.utime(newest, (2e9, 2e9))
    assert find_cached_models([tmp_path / "2"]).snapshots == [newest], "without a main, the one that changed last"
    (other.parents[1] / "refs").mkdir()
    (other.parents[1] / "refs" / "main").write_text("c" * 40 + "\n")
    found = find_cached_models([tmp_path / "2"])
    assert found.snapshots == [newest]
    assert found.notes == [f"{other.parents[1]} has no snapshot {'c' * 40}, which its refs/main names; {OLDER} is used"]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    snapshot = cached_repository(tmp_path, "a/b", {"good.safetensors": b"1"})
    (snapshot / "half.safetensors").symlink_to("../../blobs/1234")
    (snapshot / "half.json").symlink_to("../../blobs/5678")
    (tmp_path / "elsewhere.safetensors").write_bytes(b"2")
    (snapshot / "out.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    (snapshot / "vae").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "models--c--d" / "refs").mkdir(parents=True)
    found = find_cached_models([tmp_path])
    assert names(found.files, "vae") == {"good.safetensors", "out.safetensors"}
    assert found.notes == [
        f"{snapshot}/vae is a link to a folder, and was not followed",
        f"{snapshot}/half.safetensors is a link to nothing; its download may not have ended",
        f"{snapshot}/out.safetensors is a link out of its repository, to {tmp_path}/elsewhere.safetensors",
        f"{tmp_path}/models--c--d has no snapshot",
    ]


def test_a_cache_without_links_is_read_too(tmp_path: Path) -> None:
    """As huggingface_hub makes it on a file system that has none."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / NEWEST
    snapshot.mkdir(parents=True)
    (snapshot / "x.safetensors").write_bytes(b"1")
    found = find_cached_models([tmp_path])
    assert found.files["loras", "x.safetensors"] == [snapshot / "x.safetensors"]
    assert found.notes == []


def test_a_name_that_cannot_be_linked_beside_another_is_said(tmp_path: Path) -> None:
    snapshot = cached_repository(tmp_path, "a/b", {"vae/x.pt": b"1", "vae/y/vae/x.pt/z.pt": b"2"})
    found = find_cached_models([tmp_path])
    link_cached_models(found, tmp_path / "links")
    assert (tmp_path / "links" / "vae" / "x.pt").read_bytes() == b"1"
    assert found.notes == [f"{snapshot}/vae/y/vae/x.pt/z.pt could not be linked as vae/x.pt/z.pt"]
