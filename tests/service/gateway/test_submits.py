"""POSTs whose answer was lost, and POSTs at once, over real sockets."""

import asyncio
import json
import socket
import time

import httpx
import pytest
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.waiting import wait_until


def post_bytes(stand: Stand, body: dict[str, object], *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        "POST /api/v1/videos HTTP/1.1",
        f"Host: 127.0.0.1:{stand.port}",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def post_and_go(stand: Stand, body: dict[str, object]) -> None:
    """The connection breaks when the gateway has the whole request."""
    with socket.create_connection(("127.0.0.1", stand.port)) as connection:
        connection.sendall(post_bytes(stand, body))


def ids_of(stand: Stand, prompt: str) -> list[str]:
    videos = stand.client(prefix="/api/v1").get("/videos", params={"limit": 100}).json()["videos"]
    return [video["id"] for video in videos if video["prompt"] == prompt]


def test_a_client_that_lost_its_answer_gets_it_again(stand: Stand) -> None:
    body = {"prompt": "lost", "image_url": PICTURE}
    post_and_go(stand, body)
    wait_until(lambda: ids_of(stand, "lost"))
    content = post_bytes(stand, body).partition(b"\r\n\r\n")[2]
    again = stand.client(prefix="/api/v1").post("/videos", content=content)
    assert [again.json()["id"]] == ids_of(stand, "lost")
    third = stand.client(prefix="/api/v1").post("/videos", content=content)
    assert third.json()["id"] != again.json()["id"]


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Stainless-Retry-Count"])
def test_a_client_that_says_so_gets_the_same(stand: Stand, header: str) -> None:
    client = stand.client(prefix="/api/v1")
    body = {"prompt": header, "image_url": PICTURE}
    ids = {client.post("/videos", json=body, headers={header: "1"}).json()["id"] for _ in range(3)}
    assert len(ids) == 1


def test_equal_wishes_at_once_are_as_many_videos(stand: Stand) -> None:
    async def at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=stand.url, timeout=60) as client:
            body = {"prompt": "equal", "image_url": PICTURE}
            return await asyncio.gather(*(client.post("/api/v1/videos", json=body) for _ in range(6)))

    answers = asyncio.run(at_once())
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 6
    assert len({answer.json()["seed"] for answer in answers}) == 6


def test_a_body_that_never_ends_is_no_task(stand: Stand) -> None:
    whole = post_bytes(stand, {"prompt": "half", "image_url": PICTURE})
    with socket.create_connection(("127.0.0.1", stand.port)) as connection:
        connection.sendall(whole[:-10])
    time.sleep(0.5)
    assert ids_of(stand, "half") == []
    assert stand.errors("service.gateway") == ""


def test_what_is_too_large_is_refused_unread(stand: Stand) -> None:
    with socket.create_connection(("127.0.0.1", stand.port), timeout=20) as connection:
        connection.sendall(b"POST /api/v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n{")
        answer = ""
        while "}}" not in answer and (read := connection.recv(4096)):
            answer += read.decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "the body must be at most 120 MB" in answer


def test_tasks_of_one_moment_run_in_their_order(stand: Stand) -> None:
    client = stand.client(prefix="/api/v1")
    blocker = client.post("/videos", json={"prompt": "slow 3", "image_url": PICTURE}).json()["id"]
    ids = [client.post("/videos", json={"prompt": f"line {n}", "image_url": PICTURE}).json()["id"] for n in range(8)]
    positions = [client.get(f"/videos/{video_id}").json()["queue_position"] for video_id in ids]
    assert positions == sorted(positions)
    wait_until(lambda: client.get(f"/videos/{blocker}").json()["status"] == "succeeded")
    for video_id in ids:
        wait_until(lambda video_id=video_id: client.get(f"/videos/{video_id}").json()["status"] == "succeeded")
        later = ids[ids.index(video_id) + 2 :]
        assert all(client.get(f"/videos/{other}").json()["progress"]["stage"] != "done" for other in later[2:])
