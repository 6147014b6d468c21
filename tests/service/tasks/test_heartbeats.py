"""Who beats lives; whose count stands still is lost, whatever any clock says."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from wan_relay.service.tasks.heartbeats import Executor, Heartbeats, Watch


@pytest.fixture
def beats(tmp_path: Path) -> Heartbeats:
    return Heartbeats(sa.create_engine(f"sqlite:///{tmp_path / 'beats.sqlite'}"))


def test_a_beat_counts_up_and_says_who_it_is(beats: Heartbeats) -> None:
    beats.beat("a", {"gpu": "none"})
    beats.beat("b", {})
    beats.beat("a", {"gpu": "one"})
    assert beats.all() == [Executor("a", 2, {"gpu": "one"}), Executor("b", 1, {})]
    beats.leave("a")
    beats.leave("nobody")
    assert beats.all() == [Executor("b", 1, {})]


def test_two_tables_are_one(beats: Heartbeats, tmp_path: Path) -> None:
    other = Heartbeats(sa.create_engine(f"sqlite:///{tmp_path / 'beats.sqlite'}"))
    other.beat("a", {})
    assert [executor.id for executor in beats.all()] == ["a"]


def test_a_count_that_stands_still_is_silent_and_one_that_moves_again_lives() -> None:
    now = [0.0]
    watch = Watch(silent_s=12, clock=lambda: now[0])

    def seen(at_s: float, **counts: int) -> tuple[str, str]:
        now[0] = at_s
        alive, silent = watch.see([Executor(id, beats, {}) for id, beats in counts.items()])
        return "".join(e.id for e in alive), "".join(e.id for e in silent)

    assert seen(0, a=1, b=900) == ("ab", "")
    assert seen(6, a=2, b=900) == ("ab", "")
    assert watch.ages_s() == {"a": 0, "b": 6}
    assert seen(12, a=3, b=900) == ("a", "b")
    assert seen(13, a=3, b=901) == ("ab", "")
    assert seen(18.9, a=3, b=901) == ("ab", "")
    assert seen(24.8, a=3, b=901) == ("b", "a")
    assert seen(30.7, b=901, c=1) == ("c", "b")
    assert seen(100, b=901, c=1) == ("bc", "")  # nobody looked for a while


def test_who_left_and_comes_back_is_new() -> None:
    now = [0.0]
    watch = Watch(silent_s=12, clock=lambda: now[0])
    watch.see([Executor("a", 5, {})])
    now[0] = 20
    watch.see([])
    now[0] = 40
    assert watch.see([Executor("a", 5, {})]) == ([Executor("a", 5, {})], [])
