"""Model files read ahead within what memory allows."""

from pathlib import Path

from wan_relay.service.worker.read_ahead import CHUNK, ReadAhead, available_memory


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_files_are_read_in_order_and_whole(tmp_path):
    paths = [put(tmp_path / name, size) for name, size in (("b", CHUNK + 5), ("a", 3), ("empty", 0))]
    reader = ReadAhead([*paths, tmp_path / "gone"], free=lambda: 10**12, reserve=0).start()
    assert reader.join(30)
    assert list(reader.read_bytes.items()) == [(paths[0], CHUNK + 5), (paths[1], 3)]


def test_memory_bounds_what_is_read(tmp_path):
    paths = [put(tmp_path / name, 2 * CHUNK) for name in ("a", "b")]
    reader = ReadAhead(paths, free=lambda: 1000 + 3 * CHUNK, reserve=1000).start()
    assert reader.join(30)
    assert reader.read_bytes == {paths[0]: 2 * CHUNK, paths[1]: CHUNK}
    full = ReadAhead(paths, free=lambda: 999, reserve=1000).start()
    assert full.join(30)
    assert full.read_bytes == {}


def test_reading_stops_when_told(tmp_path):
    reader = ReadAhead([put(tmp_path / "a")], free=lambda: 10**12, reserve=0)
    reader.stop()
    assert reader.start().join(30)
    assert reader.read_bytes == {}


def test_free_memory_is_a_sane_number():
    assert 0 < available_memory() < 1 << 50
