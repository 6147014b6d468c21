"""A session that others use: posts, and redirects that it follows by itself."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.guarded_http import guarded_session, is_blocked


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [("/here", False), ("/hop?{trusted}/here", False), ("/hop?{other}/here", True), ("/hop?http://10.0.0.1/", True)],
)
def test_session_that_follows_redirects_is_guarded_on_each(path, is_refused):
    reached: list[str] = []

    async def server(request: web.BaseRequest) -> web.Response:
        reached.append(f"{request.method} {request.path} {request.url.port}")
        return web.Response(status=307 if request.path == "/hop" else 200, headers={"Location": request.query_string})

    async def main() -> list[str]:
        runner = web.ServerRunner(web.Server(server), shutdown_timeout=0.1)
        await runner.setup()
        for _ in range(2):
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports = [address[1] for address in runner.addresses]
        trusted, other = (f"http://127.0.0.1:{port}" for port in ports)
        url = trusted + path.format(trusted=trusted, other=other)
        try:
            async with guarded_session(TrustedHosts.of(trusted)) as session:
                if is_refused:
                    with pytest.raises(aiohttp.ClientError) as caught:
                        await session.post(url, json={"a": 1})
                    assert is_blocked(caught.value)
                else:
                    assert (await session.post(url, json={"a": 1})).status == 200
        finally:
            await runner.cleanup()
        steps = [path.partition("?")[0], "/here"] if "?" in path and not is_refused else [path.partition("?")[0]]
        return [f"POST {step} {ports[0]}" for step in steps]

    assert asyncio.run(main()) == reached


def test_other_faults_are_no_refusals():
    async def main() -> None:
        async with guarded_session(TrustedHosts.parse("127.0.0.1")) as session:
            with pytest.raises(aiohttp.ClientError) as caught:
                await session.get("http://127.0.0.1:1/")
            assert not is_blocked(caught.value)

    asyncio.run(main())
