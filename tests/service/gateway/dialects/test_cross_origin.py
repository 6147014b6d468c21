"""What pages of other origins may do in each dialect: the preflight, and the headers that they may read."""

import json
from collections.abc import Callable

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


def refusal(header: str, value: str) -> str:
    own = "of this machine (localhost, 127.0.0.1, [::1]) or of WAN_RELAY_PUBLIC_URL"
    return f"a gateway without a key takes only the {header} {own}, not {value!r}"


@pytest.mark.parametrize("name", list(SUBMITS))
@pytest.mark.parametrize("origin", [PAGE, "null", "", "http://127.0.0.1.example.com", "http://localhost@example.com"])
def test_a_foreign_page_orders_nothing_without_a_key(stand: Stand, name: str, origin: str) -> None:
    """A browser asks nobody before it posts a text."""
    path, body, headers = SUBMITS[name]
    own = {"Origin": origin, **headers, "Content-Type": "text/plain"}
    answer = httpx.post(stand.url + path, content=json.dumps(body), headers=own)
    assert (answer.status_code, answer.json()) == (403, {"error": refusal("Origin", origin)})
    assert "access-control-allow-origin" not in answer.headers
    assert stand.journal("task_ordered") == []


@pytest.mark.parametrize("path", ["/", "/api/v1/videos", "/runpod/v2/e/health", "/metrics", "/readyz", "/nowhere"])
@pytest.mark.parametrize("host", ["app.example.com:8100", "127.0.0.1.example.com", "192.168.1.5:8100", "[", ""])
def test_a_name_that_is_bent_to_lead_here_reads_nothing_without_a_key(stand: Stand, path: str, host: str) -> None:
    answer = httpx.get(stand.url + path, headers={"Host": host})
    assert (answer.status_code, answer.json()) == (403, {"error": refusal("Host", host)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2:8100", "localhost:1", "LOCALHOST", "[::1]:8100"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"])
def test_programs_and_pages_of_this_machine_are_answered(stand: Stand, host: str, origin: str | None) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert httpx.get(stand.url + "/runpod/v2/e/health", headers=headers).status_code == 200


def test_a_proxy_of_this_machine_says_its_name_by_the_public_url(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(WAN_RELAY_PUBLIC_URL="https://Video.example.com:8443").start_gateway()

    def status(host: str, origin: str | None = None) -> int:
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        return httpx.get(stand.url + "/runpod/v2/e/health", headers=headers).status_code

    assert status("video.example.com:8443", "https://video.example.com:8443") == 200
    assert status("video.example.com") == 200
    assert status("127.0.0.1", "https://video.example.com:8443") == 200
    assert status("video.example.com", "http://video.example.com") == 403
    assert status("a-video.example.com") == 403


def test_with_a_key_any_name_and_page_is_answered(keyed_stand: Stand) -> None:
    headers = {"Host": "video.example.com", "Origin": PAGE, "Authorization": "Bearer sesame"}
    assert httpx.get(keyed_stand.url + "/runpod/v2/e/health", headers=headers).status_code == 200
