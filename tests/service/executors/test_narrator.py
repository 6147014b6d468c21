"""What a task says in words and figures, and how it is written down."""

import asyncio
from typing import Any

import pytest
from wan_relay.service.contract.progress import Progress
from wan_relay.service.executors import record as record_module
from wan_relay.service.executors.narrator import Narrator
from wan_relay.service.executors.record import MAX_LOG_LINES, Record


class Heard:
    """Stands in for a Record."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: list[Progress] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, progress: Progress) -> None:
        self.shown.append(progress)


def test_a_job_from_stage_to_stage() -> None:
    heard, clock = Heard(), iter([10.0, 12.0, 14.0, 17.0])
    narrator = Narrator(heard, lambda: next(clock))
    narrator.stage("waiting")
    narrator.stage("waiting")
    narrator.stage("loading")
    for step in range(1, 5):
        narrator.step(step, 4, 2)
    for stage in ("decoding", "upscaling", "interpolating", "saving"):
        narrator.stage(stage)
    assert heard.lines == [
        "waiting for ComfyUI",
        "ComfyUI is ready",
        "high-noise expert, step 1 of 4",
        "high-noise expert, step 2 of 4",
        "low-noise expert, step 3 of 4",
        "low-noise expert, step 4 of 4",
        "decoding the frames",
        "making the frames larger",
        "making the frames in between",
        "saving the video",
    ]
    sampled = [shown for shown in heard.shown if shown.stage == "sampling"]
    assert [(one.step, one.progress, one.seconds_left) for one in sampled] == [
        (1, 0.25, None),
        (2, 0.5, 4.0),
        (3, 0.75, 2.0),
        (4, 1.0, 0.0),
    ]
    others = [(one.stage, one.step, one.steps, one.progress) for one in heard.shown if one.stage != "sampling"]
    assert others == [
        ("waiting", 0, 0, 0.0),
        ("waiting", 0, 0, 0.0),
        ("loading", 0, 0, 0.0),
        ("decoding", 4, 4, 1.0),
        ("upscaling", 4, 4, 1.0),
        ("interpolating", 4, 4, 1.0),
        ("saving", 4, 4, 1.0),
    ]


def test_loras_that_come_first_are_no_end_of_comfyui() -> None:
    heard = Heard()
    narrator = Narrator(heard)
    for stage in ("waiting", "downloading", "downloading", "waiting", "loading", "waiting"):
        narrator.stage(stage)
    assert heard.lines == [
        "waiting for ComfyUI",
        "downloading LoRAs",
        "waiting for ComfyUI",
        "ComfyUI is ready",
        "ComfyUI ended, and is started again",
    ]
    assert [one.stage for one in heard.shown[:2]] == ["waiting", "downloading"]


def test_a_second_try_begins_again() -> None:
    heard, clock = Heard(), iter([1.0, 2.0, 50.0, 53.0])
    narrator = Narrator(heard, lambda: next(clock))
    for first in (True, False):
        narrator.stage("waiting")
        narrator.stage("loading")
        for step in (1, 2):
            narrator.step(step, 5, None)
        assert heard.lines[0 if first else 4 : 4 if first else 8] == [
            "waiting for ComfyUI" if first else "ComfyUI ended, and is started again",
            "ComfyUI is ready",
            "step 1 of 5",
            "step 2 of 5",
        ]
    assert [one.seconds_left for one in heard.shown if one.step == 2] == [3.0, 9.0]


def test_the_same_step_again_says_nothing() -> None:
    heard = Heard()
    narrator = Narrator(heard)
    for _ in range(3):
        narrator.heard(Progress.of_step(1, 4, 2))
    assert heard.lines == ["high-noise expert, step 1 of 4"]
    assert len(heard.shown) == 1


class Client:
    """Stands in for DBOS's; the first `refusals` writes fail."""

    def __init__(self, refusals: int = 0) -> None:
        self.written: list[dict[str, Any]] = []
        self._refusals = refusals

    async def update_workflow_attributes_async(self, task_id: str, attributes: dict[str, Any], *, merge: bool) -> None:
        assert (task_id, merge) == ("t", True)
        if self._refusals:
            self._refusals -= 1
            raise OSError
        self.written.append(attributes)


def texts(attributes: dict[str, Any]) -> list[str]:
    return [line["text"] for line in attributes["log"]]


@pytest.mark.parametrize(("refusals", "has_last_word"), [(0, True), (2, True), (0, False)])
def test_a_record_is_written_beside_the_work(
    monkeypatch: pytest.MonkeyPatch, refusals: int, has_last_word: bool
) -> None:
    monkeypatch.setattr(record_module, "WRITE_S", 0.05)
    client = Client(refusals)

    async def main() -> None:
        record = Record(client, "t", {"log": [{"at_s": 1.0, "text": "an earlier try"}]})
        record.start()
        for number in range(300):
            record.log(f"line {number}")
        for _ in range(200):
            if client.written:
                break
            await asyncio.sleep(0.02)
        record.progress(Progress.of_step(1, 4, None))
        record.log("the last word")
        await record.close(has_last_word=has_last_word)

    asyncio.run(main())
    assert len(client.written) == (2 if has_last_word else 1), "300 lines are one write"
    assert len(texts(client.written[0])) == MAX_LOG_LINES
    if has_last_word:
        assert texts(client.written[-1])[-2:] == ["line 299", "the last word"]
        assert client.written[-1]["progress"]["step"] == 1


def test_a_record_goes_on_where_another_try_ended() -> None:
    client = Client()

    async def main() -> None:
        record = Record(client, "t", {"log": [{"at_s": 1.0, "text": "an earlier try"}]})
        record.start()
        record.log("this one")
        await record.close(has_last_word=True)

    asyncio.run(main())
    assert texts(client.written[-1]) == ["an earlier try", "this one"]
