"""Keys: hashed at rest, known by any usual scheme, refused when revoked."""

from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from wan_relay.service.gateway.keys import ANYBODY, KeyLimits, KeyNameError, Keys, bare_key


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(sa.create_engine(f"sqlite:///{tmp_path / 'keys.sqlite'}"))


def test_without_any_key_anybody_is_let_in(keys: Keys) -> None:
    assert keys.is_open
    assert keys.caller(None) == ANYBODY


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Key ", "Token ", "", "  Bearer   "])
def test_a_key_is_known_by_every_usual_scheme(keys: Keys, scheme: str) -> None:
    key = keys.add("team", KeyLimits(running=2))
    keys.refresh()
    assert not keys.is_open
    caller = keys.caller(scheme + key)
    assert caller is not None
    assert (caller.name, caller.limits) == ("team", KeyLimits(running=2))


@pytest.mark.parametrize(
    "wrong", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic {key}", "Bearer {key}x", "Bearer \udcff"]
)
def test_anything_else_is_nobody(keys: Keys, wrong: str | None) -> None:
    key = keys.add("team", KeyLimits())
    keys.refresh()
    assert keys.caller(wrong and wrong.replace("{key}", key)) is None


def test_a_key_is_not_in_the_database(keys: Keys, tmp_path: Path) -> None:
    key = keys.add("team", KeyLimits())
    assert key.encode() not in (tmp_path / "keys.sqlite").read_bytes()
    assert len(key) > 40


def test_a_revoked_key_is_refused_and_its_name_stays_taken(keys: Keys) -> None:
    key = keys.add("team", KeyLimits())
    other = keys.add("other", KeyLimits())
    assert keys.revoke("team")
    assert not keys.revoke("team")
    assert not keys.revoke("nobody")
    keys.refresh()
    assert keys.caller(key) is None
    assert keys.caller(other) is not None
    assert [(record.name, record.revoked_at_s is None) for record in keys.list()] == [("team", False), ("other", True)]
    with pytest.raises(KeyNameError, match="there is a key named 'team' already"):
        keys.add("team", KeyLimits())


def test_who_revokes_the_last_key_opens_no_door(keys: Keys) -> None:
    assert keys.is_open
    key = keys.add("team", KeyLimits())
    keys.revoke("team")
    keys.refresh()
    assert not keys.is_open
    assert keys.caller(key) is None
    assert keys.caller(None) is None


def test_a_revoked_key_keeps_its_limits(keys: Keys) -> None:
    key = keys.add("team", KeyLimits(running=1))
    keys.refresh()
    caller = keys.caller(key)
    assert caller is not None
    keys.revoke("team")
    keys.refresh()
    assert keys.caller(key) is None
    assert keys.limits_of(caller.id) == KeyLimits(running=1)
    assert keys.limits_of("key-of-nobody") == KeyLimits()


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb"])
def test_a_key_has_a_name(keys: Keys, name: str) -> None:
    with pytest.raises(KeyNameError, match="1 to 64 printable characters"):
        keys.add(name, KeyLimits())


def test_keys_of_the_settings_are_never_stored(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'keys.sqlite'}")
    keys = Keys(engine, ["sesame"])
    assert keys.caller("Bearer sesame") is not None
    assert keys.caller("Bearer sesam") is None
    assert keys.list() == []


def test_who_a_key_of_the_settings_is_hangs_on_the_key_alone(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'keys.sqlite'}")

    def ids(*fixed: str) -> list[str | None]:
        keys = Keys(engine, fixed)
        return [caller and caller.id for caller in map(keys.caller, ("sesame", "poppy"))]

    sesame, poppy = ids("sesame", "poppy")
    assert (sesame, poppy) == ("fixed-d0c04f4b1951e4ae", "fixed-" + sha256(b"poppy").hexdigest()[:16])
    assert ids("poppy", "sesame") == [sesame, poppy]
    assert ids("poppy") == [None, poppy]
    assert ids("sesame", "poppy", "sesame") == [sesame, poppy]
    assert Keys(engine, ["sesame", "poppy", "sesame"]).count == 2


def test_a_bare_key_may_hold_blanks_only_after_a_scheme() -> None:
    assert bare_key("Bearer a b") == "a b"
    assert bare_key("secret a") == "secret a"
