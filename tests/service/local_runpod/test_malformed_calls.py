"""Whatever is sent, by clients or by the worker: one sentence as JSON, never a 500, and the platform lives on."""

import asyncio
import gzip
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
from wan_relay.service.local_runpod import json_http
from wan_relay.service.local_runpod.jobs import Limits
from wan_relay.tests.service.local_runpod.platform_calls import SHORT, WIDE, Api, play

NO_INPUT = "the body must be a JSON object with an input"
DEEP = "the body is not valid JSON: recursion limit exceeded at line 1 column"
BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the body is not valid JSON: EOF while parsing a value at line 1 column 0"),
    "cut": (b'{"input": ', "the body is not valid JSON: EOF while parsing a value at line 1 column 10"),
    "more behind": (b'{"input": 1} {}', "the body is not valid JSON: trailing characters at line 1 column 14"),
    "a list": (b"[]", NO_INPUT),
    "a text": (b'"input"', NO_INPUT),
    "null": (b"null", NO_INPUT),
    "no input": (b'{"Input": 1}', NO_INPUT),
    "deep lists": (b'{"input": %s%s}' % (b"[" * 40_000, b"]" * 40_000), f"{DEEP} 211"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "the body has more than 50000 commas and brackets"),
    "deep objects": (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, f"{DEEP} 1006"),
    "broken UTF-8": (
        b'{"input": "\xff"}',
        "the body is not valid JSON: invalid unicode code point at line 1 column 12",
    ),
    "half a pair": (
        b'{"input": "\\ud800"}',
        "the body is not valid JSON: unexpected end of hex escape at line 1 column 18",
    ),
    "UTF-16": ('{"input": 1}'.encode("utf-16"), "the body is not valid JSON: expected value at line 1 column 1"),
    "a mark before it": (b'\xef\xbb\xbf{"input": 1}', "the body is not valid JSON: expected value at line 1 column 1"),
    "NaN": (b'{"input": NaN}', "the body is not valid JSON: expected value at line 1 column 11"),
    "Infinity": (b'{"input": -Infinity}', "the body is not valid JSON: invalid number at line 1 column 12"),
    "a huge number": (b'{"input": 1e999}', "the body has a number out of range"),
    "5,000 digits": (
        b'{"input": %s}' % (b"1" * 5000),
        "the body is not valid JSON: number out of range at line 1 column 4312",
    ),
    "400 digits": (b'{"input": -%s}' % (b"1" * 400), "the body has a number out of range"),
    "a key twice": (b'{"input": 1, "input": 2}', "the body has the key 'input' twice"),
    "a key twice, inside": (b'{"input": [{"a": {}, "a": 1}]}', "the body has the key 'a' twice"),
    "a key twice among many": (
        b"{%s, %s}" % (json.dumps(dict.fromkeys(map(str, range(49_000)), 0)).encode()[1:-1], b'"7": 0'),
        "the body has the key '7' twice",
    ),
    "many lists": (b'{"input": [%s[]]}' % (b"[]," * 25_000), "the body has more than 50000 commas and brackets"),
    "many numbers": (b'{"input": [%s0]}' % (b"0," * 50_000), "the body has more than 50000 commas and brackets"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("path", ["/run", "/runsync?wait=1"])
def test_a_bad_body_is_one_sentence(name: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    body, sentence = BAD_BODIES[name]

    async def scenario(api: Api) -> None:
        assert await api.call("POST", path, body) == (400, {"error": sentence})
        assert (await api.call("GET", "/health"))[1]["jobs"]["inQueue"] == 0

    play(scenario, WIDE)
    assert caplog.records == []


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_result_is_refused_and_lost(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """As a result that is too large: the SDK does not try again, so the job must not wait for another one."""
    body, sentence = BAD_BODIES[name]
    sentence = sentence if sentence != NO_INPUT else "the body must be a JSON object"

    async def scenario(api: Api) -> None:
        _, job = await api.call("POST", "/run", {"input": 1})
        await api.take()
        for kind in ("job-stream", "job-done"):
            async with api.client.post(f"{api.sdk_path}/{kind}/w1/{job['id']}?gpu=x", data=body) as response:
                answer = (response.status, await response.text())
            assert answer == ((200, "") if name == "no input" else (400, json.dumps({"error": sentence})))
        _, lost = await api.call("GET", f"/status/{job['id']}")
        assert (lost["status"], "output" in lost, "error" in lost) == ("COMPLETED", False, False)

    play(scenario, WIDE)
    assert caplog.records == []


@pytest.mark.parametrize(("path", "limit"), [("/v2/local/run", "0.002 MB"), ("/v2/local/runsync?wait=1", "0.004 MB")])
def test_a_large_body_is_refused_before_it_has_come(path: str, limit: str) -> None:
    """None of these calls is ever sent to its end."""

    async def scenario(api: Api) -> None:
        chunk = b"fa0\r\n%s\r\n" % (b"x" * 4000)
        calls = [
            api.by_hand("POST", path, Content_Length=b"70000000"),
            api.by_hand("POST", path, chunk + chunk, Content_Length=None, Transfer_Encoding=b"chunked"),
            api.by_hand("POST", path, gzip.compress(bytes(30_000_000)), Content_Encoding=b"gzip"),
        ]
        for call in calls:
            answer = await asyncio.wait_for(call, 5)
            expected = (400, {"error": f"the body is larger than {limit}"})
            assert (answer.status, json.loads(answer.content)) == expected

    play(scenario, SHORT)


def test_the_limit_itself_passes() -> None:
    async def scenario(api: Api) -> None:
        for path, size in (("/run", 2000), ("/runsync?wait=1", 4000)):
            body = b'{"input": "%s"}' % (b"x" * (size - len('{"input": ""}')))
            assert (len(body), (await api.call("POST", path, body))[0]) == (size, 200)
            assert (await api.call("POST", path, body + b" "))[0] == 400

    play(scenario, SHORT)


@pytest.mark.parametrize("kind", ["job-done", "job-stream"])
def test_a_large_result_is_refused_before_it_has_come(kind: str) -> None:
    async def scenario(api: Api) -> None:
        _, job = await api.call("POST", "/run", {"input": 1})
        await api.take()
        path = f"{api.sdk_path}/{kind}/w1/{job['id']}?gpu=x"
        answer = await asyncio.wait_for(api.by_hand("POST", path, Content_Length=b"70000000"), 5)
        assert answer.status == 400
        _, after = await api.call("GET", f"/status/{job['id']}")
        assert after["status"] == ("COMPLETED" if kind == "job-done" else "IN_PROGRESS")

    play(scenario, SHORT)


@pytest.mark.parametrize("encoding", [b"gzip", b"br"])
def test_a_body_that_is_not_what_its_headers_say(encoding: bytes) -> None:
    async def scenario(api: Api) -> None:
        answer = await asyncio.wait_for(api.by_hand("POST", "/v2/local/run", b"z" * 20, Content_Encoding=encoding), 5)
        expected = (400, {"error": "the body does not come as its headers say"})
        assert (answer.status, json.loads(answer.content)) == expected

    play(scenario)


@pytest.mark.parametrize("pieces", [[b'8\r\n{"input"\r\n'], [b'8\r\n{"input"\r\n', b"broken"], [b""]])
def test_a_body_that_stops(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_http, "MAX_PAUSE_S", 0.3)

    async def scenario(api: Api) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"POST /v2/local/run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.1)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        body = await reader.readuntil(b"}")
        writer.close()
        expected = (b"HTTP/1.1 408 Request Timeout", {"error": "nothing more of the body came for 0.3 s"})
        assert (head.split(b"\r\n")[0], json.loads(body)) == expected

    play(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/v2/local/nothing", 404, "not found"),
        ("GET", "/v2/local", 404, "not found"),
        ("GET", "/v2/local/health/", 404, "not found"),
        ("GET", "/", 404, "not found"),
        ("GET", "/sdk", 404, "not found"),
        ("GET", "/%2e%2e/v2", 404, "not found"),
        ("GET", "/v2/other/health", 404, "endpoint not found"),
        ("GET", "/v2/local/status/%00%0d%0aX-Evil:%201", 404, "job not found"),
        ("POST", "/v2/local/status/x", 405, "method not allowed"),
        ("GET", "/v2/local/run", 405, "method not allowed"),
        ("OPTIONS", "/v2/local/run", 405, "method not allowed"),
        ("DELETE", "/v2/local/health", 405, "method not allowed"),
    ],
)
def test_an_unknown_path_or_method(method: str, path: str, status: int, sentence: str) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.by_hand(method, path)
        assert (answer.status, json.loads(answer.content)) == (status, {"error": sentence})
        assert ("\r\nAllow: " in answer.head) == (status == 405)
        assert "X-Evil" not in answer.head

    play(scenario)


def test_asking_for_the_head_takes_nothing_away() -> None:
    async def scenario(api: Api) -> None:
        _, job = await api.call("POST", "/run", {"input": 1})
        for path in (f"{api.sdk_path}/job-take/w1", f"{api.sdk_path}/job-stop/w1"):
            async with api.client.head(path) as response:
                assert response.status == 404
        assert (await api.take())["id"] == job["id"]
        async with api.client.post(f"{api.sdk_path}/job-stream/w1/{job['id']}", data=b'{"output": 1}') as response:
            assert response.status == 200
        async with api.client.head(f"/v2/local/stream/{job['id']}") as response:
            assert response.status == 405
        assert (await api.call("GET", f"/stream/{job['id']}"))[1]["stream"] == [{"output": 1}]

    play(scenario)


POLICY_RANGE = {"ttl": "from 10000 to 604800000", "executionTimeout": "from 5000 to 604800000"}


@pytest.mark.parametrize("name", ["ttl", "executionTimeout"])
@pytest.mark.parametrize("value", [True, "10000", 20000.0, 1e300, [], {}, -1, 0, 604800001, 10**300])
def test_a_policy_is_milliseconds(name: str, value: Any) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.call("POST", "/run", {"input": 1, "policy": {name: value}})
        sentence = f"policy.{name} must be a whole number of milliseconds {POLICY_RANGE[name]}"
        assert answer == (400, {"error": sentence})

    play(scenario, WIDE)


@pytest.mark.parametrize("field", ["policy", "s3Config"])
@pytest.mark.parametrize("value", [True, False, 0, "", "x", [], [1], 1.5])
def test_a_field_that_must_be_an_object(field: str, value: Any) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.call("POST", "/run", {"input": 1, field: value})
        assert answer == (400, {"error": f"{field} must be an object"})

    play(scenario)


def test_null_is_the_same_as_not_sent() -> None:
    async def scenario(api: Api) -> None:
        for body in (
            {"policy": None},
            {"policy": {"ttl": None, "executionTimeout": None}},
            {"s3Config": None},
            {"webhook": None},
        ):
            status, job = await api.call("POST", "/run", {"input": None} | body)
            assert (status, await api.take()) == (200, {"id": job["id"], "input": None})

    play(scenario)


@pytest.mark.parametrize("wait", ["", "0", "-1", "+5", "1e3", "%D9%A3", "300001", "9" * 5000, "2000&wait=2000", "%00"])
def test_an_odd_wait(wait: str) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.call("POST", f"/runsync?wait={wait}", {"input": 1})
        assert answer == (400, {"error": "wait must be from 1000 to 300000"})

    play(scenario, Limits(long_poll_s=0.3))


# --- two thousand at random ---

GOOD = b'{"input": {"prompt": "a", "n": [1, 2.5e3, null, true, "\\u00e9"]}, "policy": {"ttl": 20000}, "s3Config": {}}'
PIECES = [b"[", b"]", b"{", b"}", b'"', b"\\", b"\\u", b",", b":", b"1e999", b"NaN", b"\xff", b"\x00", b"\xed\xa0\x80"]
PIECES += [b"[" * 300, b'{"a":' * 300, b"9" * 500, b"-", b"null", b"\r\n", b"\\ud83d", b'"input":1,', b"\xef\xbb\xbf"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    "",
    "x",
    "http://",
    "javascript:1",
    "\x00",
    [],
    [[]],
    {},
    {"ttl": []},
    float("nan"),
]


def malformed_bodies(count: int) -> Iterator[bytes]:
    draw = random.Random(5)
    for _ in range(count):
        body = bytearray(GOOD)
        kind = draw.randrange(5)
        if kind == 0:
            yield bytes(draw.randbytes(draw.randrange(200)))
        elif kind == 1:
            yield bytes(body[: draw.randrange(len(body))])
        elif kind == 2:
            names = draw.sample(["input", "policy", "webhook", "s3Config", "Input", "id"], 3)
            yield json.dumps({name: draw.choice(VALUES) for name in names}).encode()
        else:
            for _ in range(draw.randrange(1, 4)):
                place = draw.randrange(len(body))
                body[place : place + draw.randrange(3)] = draw.choice(PIECES)
            yield bytes(body)


def test_two_thousand_malformed_bodies(caplog: pytest.LogCaptureFixture) -> None:
    """Refused, or a job that can be handed out: nothing between."""

    async def scenario(api: Api) -> None:
        taken = 0
        for index, body in enumerate(malformed_bodies(2000)):
            path = ("/run", "/runsync?wait=1")[index % 2]
            status, answer = await api.call("POST", path, body)
            if status == 200:
                assert (await api.take())["id"] == answer["id"], body
                taken += 1
            else:
                assert (status, list(answer)) == (400, ["error"]), body
                assert isinstance(answer["error"], str)
                assert answer["error"].isprintable(), body
                assert len(answer["error"]) < 150
        assert 50 < taken < 500

    with caplog.at_level(logging.WARNING):
        play(scenario, Limits(min_wait_ms=1, rates=(5000, 5000), long_poll_s=0.3))
    assert caplog.records == []
