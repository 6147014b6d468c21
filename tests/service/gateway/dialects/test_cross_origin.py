"""What pages of other origins may do in each dialect: the preflight, and the headers that they may read."""

import httpx
import pytest
from wan_relay.service.gateway import app
from wan_relay.tests.service.gateway.dialects.every_dialect import SUBMITS
from wan_relay.tests.service.gateway.stand import Stand

PAGE = "https://app.example.com"
OF_THIS_MACHINE = "http://localhost:3000"
# What each provider's clients read of an answer, beside what all answers have.
EXPOSED = {
    "fal": {"x-fal-request-id", "x-fal-error-type", "x-fal-request-timeout-type", "x-fal-retryable"},
    "openai": {"openai-poll-after-ms"},
}
# What the clients send beside a key and JSON.
SENT = {
    "fal": ["x-fal-target-url", "x-fal-queue-priority"],
    "openai": ["x-stainless-retry-count", "x-stainless-lang"],
    "runway": ["x-runway-version", "x-stainless-retry-count"],
    "replicate": ["prefer"],
}
PREFLIGHTS = {name: submit.path for name, submit in SUBMITS.items()} | {"fal proxy": "/fal/proxy"}


def test_every_dialect_is_here() -> None:
    assert set(SUBMITS) == {dialect.NAME for dialect in app.DIALECTS}


def preflight(stand: Stand, name: str, origin: str, method: str = "POST") -> httpx.Response:
    headers = ["authorization", "content-type", *SENT.get(name.split()[0], [])]
    wish = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ",".join(headers)}
    return httpx.options(stand.url + PREFLIGHTS[name], headers={"Origin": origin} | wish)


@pytest.mark.parametrize("name", list(PREFLIGHTS))
def test_any_page_may_call_where_a_key_is_needed(keyed_stand: Stand, name: str) -> None:
    for method in ("POST", "DELETE"):
        answer = preflight(keyed_stand, name, PAGE, method)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert method in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"].split(",")
        wanted = ["authorization", "content-type", *SENT.get(name.split()[0], [])]
        assert set(wanted) <= {header.strip() for header in allowed}


@pytest.mark.parametrize("name", list(SUBMITS))
@pytest.mark.parametrize(("key", "is_taken"), [("sesame", True), ("wrong", False)])
def test_a_page_reads_the_answer_and_its_id(keyed_stand: Stand, name: str, key: str, is_taken: bool) -> None:
    path, body, headers = SUBMITS[name]
    own = {"Origin": PAGE, "Authorization": f"Bearer {key}", **headers}
    answer = httpx.post(keyed_stand.url + path, json=body, headers=own)
    assert (answer.status_code < 300, answer.headers["access-control-allow-origin"]) == (is_taken, PAGE)
    exposed = {header.strip() for header in answer.headers["access-control-expose-headers"].split(",")}
    assert exposed == {"x-request-id", "retry-after"} | EXPOSED.get(name, set())
    assert len(answer.headers["x-request-id"]) == 36
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("name", list(PREFLIGHTS))
def test_a_foreign_page_does_not_use_a_gateway_without_a_key(stand: Stand, name: str) -> None:
    for origin, is_let_in in ((PAGE, False), (OF_THIS_MACHINE, True)):
        answer = preflight(stand, name, origin)
        assert ("access-control-allow-origin" in answer.headers) is is_let_in
        assert (answer.status_code == 200) is is_let_in
