"""A session that others use: posts, and redirects that it follows by itself."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.media.guarded_http import guarded_session, is_blocked


@pytest.mark.parametrize(
    ("path", "reached", "is_refused"),
    [
        ("/here", ["/here"], False),
        ("/hop?{trusted}/here", ["/hop", "/here"], False),
        ("/hop?{other}/here", ["/hop"], True),
        ("/hop?http://10.0.0.1/", ["/hop"], True),
        ("/hop?http://[::127.0.0.1]/", ["/hop"], True),
    ],
)
def test_session_that_follows_redirects_is_guarded_on_each(path, reached, is_refused):
    seen: list[tuple[str, str, int | None]] = []

    async def server(request: web.BaseRequest) -> web.Response:
        seen.append((request.method, request.path, request.url.port))
        return web.Response(status=307 if request.path == "/hop" else 200, headers={"Location": request.query_string})

    async def main() -> tuple[int, bool]:
        runner = web.ServerRunner(web.Server(server), shutdown_timeout=0.1)
        await runner.setup()
        for _ in range(2):
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        port, other_port = (address[1] for address in runner.addresses)
        trusted, other = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other_port}"
        try:
            async with guarded_session(TrustedHosts.of(trusted)) as session:
                await session.post(trusted + path.format(trusted=trusted, other=other), json={"a": 1})
            return port, False
        except aiohttp.ClientError as error:
            return port, is_blocked(error)
        finally:
            await runner.cleanup()

    port, was_refused = asyncio.run(main())
    assert was_refused is is_refused
    assert seen == [("POST", step, port) for step in reached]


def test_other_faults_are_no_refusals():
    async def main() -> None:
        async with guarded_session(TrustedHosts.parse("127.0.0.1")) as session:
            with pytest.raises(aiohttp.ClientError) as caught:
                await session.get("http://127.0.0.1:1/")
            assert not is_blocked(caught.value)

    asyncio.run(main())
