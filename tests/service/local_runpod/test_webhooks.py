"""Webhooks: called until they answer 200, on the public internet or where the operator trusts the host."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.tests.service.local_runpod.platform_calls import WIDE, Api, play, serving


def calls_heard(
    webhook: str, trusted: str, answer: Callable[[int], web.Response] = lambda n: web.Response()
) -> list[tuple[str, Any]]:
    """(path, body) of every call that a receiver on loopback hears of one job; PORT stands for its port."""
    heard: list[tuple[str, Any]] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append((request.path, await request.json()))
        return answer(len(heard))

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", hear)
        async with TestServer(app) as receiver, asyncio.timeout(30):
            port = str(receiver.port)
            hosts = TrustedHosts.parse(trusted.replace("PORT", port).replace(" ", ","))
            async with serving(trusted_hosts=hosts) as api:
                await end_a_job(api, webhook.replace("PORT", port))
                await asyncio.sleep(0.4)  # eight pauses between two tries

    asyncio.run(main())
    return heard


async def end_a_job(api: Api, webhook: str) -> None:
    status, job = await api.call("POST", "/run", {"input": 1, "webhook": webhook})
    assert (status, (await api.take())["webhook"]) == (200, webhook)
    assert await api.done(job["id"], {"output": 5}) == 200


@pytest.mark.parametrize(
    ("webhook", "trusted"),
    [
        ("http://127.0.0.1:PORT/hook?a=1", "example.com 127.0.0.1"),
        ("http://127.0.0.1:PORT/hook", "127.0.0.1:PORT"),
        ("http://LocalHost:PORT/hook", "localhost:PORT"),
        ("http://localhost:PORT/hook", "127.0.0.1"),
    ],
)
def test_a_trusted_host_is_told_once(webhook: str, trusted: str) -> None:
    ((path, body),) = calls_heard(webhook, trusted)
    assert (path, body["status"], body["output"]) == ("/hook", "COMPLETED", 5)


def test_it_is_called_until_it_answers_200() -> None:
    heard = calls_heard("http://127.0.0.1:PORT/", "127.0.0.1", lambda n: web.Response(status=200 if n == 2 else 503))
    assert len(heard) == 2
    assert len(calls_heard("http://127.0.0.1:PORT/", "127.0.0.1", lambda n: web.Response(status=503))) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_another_answer_than_200(status: int) -> None:
    heard = calls_heard(
        "http://127.0.0.1:PORT/hook", "127.0.0.1", lambda n: web.Response(status=status, headers={"Location": "/other"})
    )
    assert [path for path, _ in heard] == ["/hook"] * 3


@pytest.mark.parametrize(
    ("webhook", "trusted"),
    [
        ("http://127.0.0.1:PORT/", ""),
        ("http://127.0.0.1:PORT/", "127.0.0.1:1 127.0.0.2 localhost example.com"),
        ("http://localhost:PORT/", ""),
        ("http://0.0.0.0:PORT/", ""),
        ("http://[::ffff:127.0.0.1]:PORT/", ""),
        ("http://127.1:PORT/", ""),
        ("http://2130706433:PORT/", ""),
        ("http://0x7f000001:PORT/", ""),
        ("http://127.0.0.1.:PORT/", ""),
        ("http://example.com@127.0.0.1:PORT/", "example.com"),
    ],
)
def test_any_other_local_address_is_left_alone(webhook: str, trusted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert calls_heard(webhook, trusted) == []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("the webhook of job ")
    assert lines[0].endswith(" is not called: its host is neither public nor among the trusted ones")


@pytest.mark.parametrize(
    "webhook",
    [
        5,
        True,
        False,
        0,
        [],
        ["http://example.com"],
        {},
        "x",
        "/hook",
        "//example.com",
        "ftp://example.com",
        "file:///etc",
    ]
    + [
        "http://",
        "http:///x",
        "http://[",
        "http://a b/",
        "http://a/\r\nX-Evil:1",
        "http://a:99999/",
        "javascript:alert(1)",
    ]
    + ["http://example.com/" + "x" * 8000],
)
def test_a_webhook_that_cannot_be_called_is_refused(webhook: Any) -> None:
    async def scenario(api: Api) -> None:
        answer = await api.call("POST", "/run", {"input": 1, "webhook": webhook})
        assert answer == (400, {"error": "webhook must be an http or https URL of at most 8000 characters"})

    play(scenario, WIDE)


@pytest.mark.parametrize("webhook", [None, ""])
def test_no_webhook(webhook: str | None) -> None:
    async def scenario(api: Api) -> None:
        status, job = await api.call("POST", "/run", {"input": 1, "webhook": webhook})
        assert (status, await api.take()) == (200, {"id": job["id"], "input": 1})

    play(scenario)
