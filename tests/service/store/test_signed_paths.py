"""Signatures of links."""

import pytest
from wan_relay.service.store.signed_paths import (
    ExpiredSignatureError,
    PathSigner,
    WrongSignatureError,
)

SECRET = bytes(range(32))
PATH = "/files/results/1/a.mp4"
NOW_S = 1_800_000_000.5
SIGNER = PathSigner(SECRET)
GOOD = SIGNER.sign(PATH, NOW_S + 60)


def why(query: str, path: str = PATH, method: str = "GET", now_s: float = NOW_S, signer: PathSigner = SIGNER) -> str:
    """Why a query is refused, `-` where it is not."""
    try:
        signer.check(path, query, method, now_s)
    except (WrongSignatureError, ExpiredSignatureError) as error:
        return error.sentence
    return "-"


def test_a_query_is_expires_and_signature():
    names, values = zip(*[part.split("=") for part in GOOD.split("&")], strict=True)
    assert names == ("expires", "signature")
    assert values[0] == "1800000060"
    assert len(values[1]) == 64


def test_a_signed_path_is_good_until_it_expires():
    assert why(GOOD) == "-"
    assert why(GOOD, now_s=1_800_000_059.999) == "-"
    assert why(GOOD, now_s=1_800_000_060) == "the link has expired"
    assert why(GOOD, now_s=1_900_000_000) == "the link has expired"


def test_expired_and_wrong_are_told_apart():
    with pytest.raises(ExpiredSignatureError):
        SIGNER.check(PATH, GOOD, "GET", NOW_S + 60)
    with pytest.raises(WrongSignatureError):
        SIGNER.check(PATH, GOOD + "0", "GET", NOW_S)


def test_each_method_has_its_own_signature_but_head_has_that_of_get():
    assert why(GOOD, method="HEAD") == "-"
    put = SIGNER.sign(PATH, NOW_S + 60, "PUT")
    assert why(put, method="PUT") == "-"
    for query, method in ((GOOD, "PUT"), (GOOD, "DELETE"), (put, "GET"), (put, "HEAD")):
        assert why(query, method=method) == "the link's signature is wrong"


def test_a_signature_is_of_one_path_time_and_secret():
    signature = GOOD.partition("signature=")[2]
    other = "0" if signature[0] != "0" else "1"
    changed = [
        f"expires=1800000061&signature={signature}",
        f"expires=01800000060&signature={signature}",
        f"expires=+1800000060&signature={signature}",
        f"expires=1800000060&signature={other}{signature[1:]}",
        f"expires=1800000060&signature={signature.upper()}",
        f"expires=1800000060&signature={signature[:-1]}",
        f"expires=1800000060&signature={signature}0",
        "expires=1800000060&signature=",
        "expires=1800000060&signature=%C3%A9%00",
        "expires=1800000060",
        f"signature={signature}",
        "",
        "&" * 100_000,
        f"{GOOD}&{GOOD}",
        f"{GOOD}&expires=1900000000",
        f"signature={other}&{GOOD}",
        f"expires={'9' * 5000}&signature={signature}",
    ]
    assert [why(query) for query in changed] == ["the link's signature is wrong"] * len(changed)
    for path in ("/files/results/1/b.mp4", "/files/results/1/a.mp4/", "files/results/1/a.mp4", "", "/\udcff"):
        assert why(GOOD, path) == "the link's signature is wrong"
    assert why(GOOD, signer=PathSigner(SECRET[::-1])) == "the link's signature is wrong"


def test_a_changed_time_is_wrong_also_when_it_is_over():
    signature = GOOD.partition("signature=")[2]
    assert why(f"expires=1700000000&signature={signature}") == "the link's signature is wrong"


def test_no_part_of_a_path_can_be_moved_into_its_time():
    signature = SIGNER.sign("0\n/files/a", 18_000_000).partition("signature=")[2]
    assert why(f"expires=18000000%0A0&signature={signature}", "/files/a") == "the link's signature is wrong"


def test_other_parameters_are_ignored():
    assert why(f"download=1&{GOOD}&download=2") == "-"


def test_a_time_before_1970_is_never_good():
    assert why(SIGNER.sign(PATH, -5), now_s=-10) == "the link's signature is wrong"
    assert why(SIGNER.sign(PATH, 0)) == "the link has expired"


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_short_secret_is_refused(length: int):
    with pytest.raises(ValueError, match=f"must have at least 16 bytes, not {length}$"):
        PathSigner(b"x" * length)
