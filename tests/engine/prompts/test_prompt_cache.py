import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from wan_relay.nodes.engine.prompts.prompt_cache import PromptCache, cache_key

pytestmark = pytest.mark.comfy

KEY = cache_key(text="a cat")


def conditioning(tokens: int = 5, seed: int = 0, rows: int = 512) -> list:
    cond = torch.zeros(1, rows, 16)
    cond[:, :tokens] = torch.randn(1, tokens, 16, generator=torch.Generator().manual_seed(seed))
    extra = {"pooled_output": None, "attention_mask": torch.ones(1, rows, dtype=torch.long), "strength": 0.5}
    return [[cond, extra]]


def assert_same(a: list | None, b: list) -> None:
    assert a is not None
    assert len(a) == len(b)
    for (a_cond, a_extra), (b_cond, b_extra) in zip(a, b, strict=True):
        assert torch.equal(a_cond, b_cond)
        assert a_cond.dtype == b_cond.dtype
        assert a_extra.keys() == b_extra.keys()
        for key, value in b_extra.items():
            same = torch.equal(a_extra[key], value) if isinstance(value, torch.Tensor) else a_extra[key] == value
            assert same, key


@pytest.fixture
def cache(tmp_path: Path) -> PromptCache:
    return PromptCache(tmp_path / "prompts", max_bytes=10_000_000)


@pytest.mark.parametrize("tokens", [0, 1, 5, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gives_back_exactly_what_it_was_given(cache: PromptCache, tokens: int, dtype: torch.dtype) -> None:
    kept = conditioning(tokens)
    kept[0][0] = kept[0][0].to(dtype)
    kept += conditioning(3, seed=1, rows=700)
    assert cache.read(KEY) is None
    cache.write(KEY, kept)
    assert_same(cache.read(KEY), kept)


def test_rows_after_the_prompt_take_no_space(cache: PromptCache) -> None:
    cache.write(KEY, [[conditioning(5)[0][0], {"pooled_output": None}]])
    assert os.path.getsize(cache.folder / f"{KEY}.safetensors") < 5 * 16 * 4 + 1000


def test_keys_differ_with_every_part() -> None:
    parts = [{"text": "a", "encoder": "b"}, {"text": "b", "encoder": "a"}, {"text": "a"}, {"text": "a\0"}, {"text": ""}]
    assert len({cache_key(**part) for part in parts}) == len(parts)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_a_damaged_entry_counts_as_absent_and_is_rebuilt(cache: PromptCache, damage: str) -> None:
    cache.write(KEY, conditioning())
    path = cache.folder / f"{KEY}.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-10])
    elif damage == "flip":
        content[-10] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        import safetensors.torch

        safetensors.torch.save_file({"weight": torch.ones(3)}, path)
    assert cache.read(KEY) is None
    cache.write(KEY, conditioning())
    assert_same(cache.read(KEY), conditioning())


def test_the_least_recently_used_entry_goes_first(tmp_path: Path) -> None:
    keys = [cache_key(text=str(n)) for n in range(3)]
    cache = PromptCache(tmp_path, max_bytes=10_000_000)
    for age, key in zip((300, 200, 100), keys, strict=True):
        cache.write(key, conditioning(100))
        past = time.time() - age
        os.utime(tmp_path / f"{key}.safetensors", (past, past))
    size = os.path.getsize(tmp_path / f"{keys[0]}.safetensors")
    assert cache.read(keys[0]) is not None  # the oldest is now the most recently used
    small = PromptCache(tmp_path, max_bytes=3 * size)
    new = cache_key(text="new")
    small.write(new, conditioning(100))
    assert [small.read(key) is not None for key in (*keys, new)] == [True, False, True, True]


def test_only_its_own_files_are_ever_deleted(tmp_path: Path) -> None:
    foreign = [tmp_path / "umt5.safetensors", tmp_path / "notes.txt", tmp_path / "x.part"]
    stale, fresh = tmp_path / f"{KEY}.1.0123abcd.part", tmp_path / f"{KEY}.2.0123abcd.part"
    for path in (*foreign, stale, fresh):
        path.write_bytes(bytes(1000))
    os.utime(stale, (0, 0))
    PromptCache(tmp_path, max_bytes=1).write(KEY, conditioning())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (*foreign, fresh))


def test_size_zero_keeps_nothing(tmp_path: Path) -> None:
    PromptCache(tmp_path / "none", max_bytes=0).write(KEY, conditioning())
    assert not (tmp_path / "none").exists()


def test_a_conditioning_with_other_objects_is_not_kept(cache: PromptCache) -> None:
    cache.write(KEY, [[torch.ones(1, 2, 3), {"hooks": object()}]])
    assert cache.read(KEY) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PromptCache(tmp_path / "file", max_bytes=10_000_000)
    cache.write(KEY, conditioning())
    assert cache.read(KEY) is None
    assert "was not kept" in caplog.text


def test_a_full_disk_harms_no_entry_and_leaves_no_part(
    cache: PromptCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.write(KEY, conditioning())
    monkeypatch.setattr(Path, "write_bytes", write_half)
    cache.write(KEY, conditioning(seed=1))
    assert_same(cache.read(KEY), conditioning())
    assert [path.name for path in cache.folder.iterdir()] == [f"{KEY}.safetensors"]
    assert "was not kept" in caplog.text
    assert "No space left on device" in caplog.text


def test_environment_chooses_folder_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths

    monkeypatch.delenv("WAN_RELAY_PROMPT_CACHE", raising=False)
    monkeypatch.delenv("WAN_RELAY_PROMPT_CACHE_MB", raising=False)
    cache = PromptCache.from_environment()
    assert cache.folder == Path(folder_paths.get_user_directory()) / "__wan_relay_prompts"
    assert cache.max_bytes == 256_000_000
    monkeypatch.setenv("WAN_RELAY_PROMPT_CACHE", str(tmp_path))
    monkeypatch.setenv("WAN_RELAY_PROMPT_CACHE_MB", "1.5")
    cache = PromptCache.from_environment()
    assert (cache.folder, cache.max_bytes) == (tmp_path, 1_500_000)
    monkeypatch.setenv("WAN_RELAY_PROMPT_CACHE_MB", "plenty")
    assert PromptCache.from_environment().max_bytes == 256_000_000


def write_and_read(folder: Path, seed: int, failures: "multiprocessing.Queue[str]") -> None:
    cache = PromptCache(folder, max_bytes=300_000)
    for turn in range(40):
        key = cache_key(text=str(turn % 4))
        cache.write(key, conditioning(200 + turn % 4, seed=turn % 4))
        got = cache.read(key)
        if got is not None and not torch.equal(got[0][0], conditioning(200 + turn % 4, seed=turn % 4)[0][0]):
            failures.put(f"process {seed}, turn {turn}")


def test_two_processes_share_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both write, read and drop the same few entries, which do not all fit: none is ever seen half-written."""
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    processes = [context.Process(target=write_and_read, args=(tmp_path, seed, failures)) for seed in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(timeout=120)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    assert failures.empty()
    assert not list(tmp_path.glob("*.part"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 300_000
