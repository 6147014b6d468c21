"""npm's openai, as it is: the rows of providers.md 12."""

from collections.abc import Callable
from typing import Any

import pytest
from wan_relay.tests.service.gateway.node_scripts import Node
from wan_relay.tests.service.gateway.sdks.dropping_proxy import UNAVAILABLE, dropping
from wan_relay.tests.service.gateway.stand import PICTURE, Stand

Check = Callable[..., Any]


@pytest.fixture
def openai(node: Node, stand: Stand) -> Check:
    def check(name: str, **variables: str) -> Any:
        return node("openai.mjs", name, **{"URL": stand.url, "PICTURE": PICTURE, **variables})

    return check


def test_a_video_from_a_file(openai: Check) -> None:
    said = openai("file")
    first, last = said["first"], said["last"]
    assert first["status"] in ("queued", "in_progress")
    assert (first["model"], first["seconds"], first["size"]) == ("sora-2", "4", "1280x720")
    assert first["warnings"] == ["field quality is not known and was ignored"]
    assert said["seen"] == sorted(said["seen"])
    assert (last["status"], last["progress"], last["warnings"]) == ("completed", 100, first["warnings"])
    assert (said["content"]["type"], said["content"]["head"][4:8]) == ("video/mp4", "ftyp")
    assert (said["thumbnail"]["type"], said["thumbnail"]["head"][6:10]) == ("image/jpeg", "JFIF")


def test_an_address_in_an_object(openai: Check) -> None:
    assert openai("address") == "completed"


def test_words_alone_are_a_video_too(openai: Check) -> None:
    assert openai("words") == "completed"


def test_the_list_has_pages(openai: Check) -> None:
    said = openai("pages")
    assert len(set(said["ids"])) == 3
    assert (said["first"], said["hasMore"]) == (said["ids"][:2], True)


def test_a_deleted_video_is_gone(openai: Check) -> None:
    said = openai("deletes")
    assert (said["deleted"], said["after"]["isNotFound"], said["after"]["status"]) == (True, True, 404)


def test_a_remix(openai: Check) -> None:
    assert openai("remix") == {"of": True, "prompt": "second", "status": "completed"}


def test_bad_fields_are_bad_requests(openai: Check) -> None:
    said = openai("bad_fields")
    assert {name: error["param"] for name, error in said.items()} == {name: name for name in said}
    for error in said.values():
        assert (error["isBadRequest"], error["type"], error["hasRequestId"]) == (True, "invalid_request_error", True)


def test_a_failed_video_says_why(openai: Check) -> None:
    said = openai("job_failure")
    assert (said["status"], said["error"]) == (
        "failed",
        {"code": "out_of_memory", "message": "the prompt asked for it"},
    )


def test_a_wrong_key(openai: Check, keyed_stand: Stand) -> None:
    said = openai("wrong_key", URL=keyed_stand.url, KEY="wrong")
    assert (said["isAuthentication"], said["status"], said["code"]) == (True, 401, "invalid_api_key")


@pytest.mark.parametrize("instead", [b"", UNAVAILABLE], ids=["broken", "503"])
def test_a_connection_that_breaks_makes_one_job(
    openai: Check, stand: Stand, tasks: Callable[[str], list[str]], instead: bytes
) -> None:
    words = f"broken connection of npm's openai {instead[9:12].decode()}"
    with dropping(stand.port, drops=2, instead=instead) as proxy:
        assert openai("submit", URL=f"http://127.0.0.1:{proxy.port}", WORDS=words) == "completed"
        assert proxy.posts == 3
    assert tasks(words) == ["SUCCESS"]
