"""Lines of the journal: whole JSON, short, without what was said inside an error."""

import json
import logging

import pytest
from wan_relay.service.gateway.journal import LibraryLines, note, trace, warn


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    note("task_ordered", task_id="t", key=None, seconds=1 / 3)
    warn("odd", text="two\nlines " + "x" * 1000, url="postgresql://user:word@host/base")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert first.pop("time") > 0
    assert first == {"level": "info", "event": "task_ordered", "task_id": "t", "seconds": 0.3333}
    assert len(second["text"]) == 300
    assert second["url"] == "postgresql://host/base"


def test_an_error_is_its_kind_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some.library")
    logger.addHandler(LibraryLines())
    logger.propagate = False
    with pytest.raises(ValueError) as caught:
        int("a client's words")
    assert trace(caught.value).startswith("ValueError at test_journal.py:")
    logger.error("it went\nwrong", exc_info=caught.value)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["name"], line["text"]) == ("error", "some.library", "it went")
    assert "a client's words" not in str(line)
