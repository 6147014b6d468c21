"""Several videos of one job, over a fake ComfyUI: in order, within one answer, and none that was made is lost."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import av
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.progress import Progress
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.worker.comfyui.client import Run
from wan_relay.service.worker.progress_updates import ProgressUpdates
from wan_relay.service.worker.series_job import Room, one_answer
from wan_relay.tests.service.media.fake_s3 import FakeS3
from wan_relay.tests.service.worker.conftest import Bench, make_mp4

BUCKET = {"BUCKET_ACCESS_KEY_ID": "id", "BUCKET_SECRET_ACCESS_KEY": "secret", "BUCKET_NAME": "videos"}
SECOND_FAILS = {"queued": ["after:1:error:RuntimeError:no such thing", 1]}


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The prompts that go to ComfyUI."""
    prompts: list[dict[str, Any]] = []
    finish = Run.finish

    async def noted(run: Run) -> dict[str, Any]:
        prompts.append(run._graph)
        return await finish(run)

    monkeypatch.setattr(Run, "finish", noted)
    return prompts


def without_seed(graph: dict[str, Any]) -> dict[str, Any]:
    """What ComfyUI can know from the prompt before."""
    changed = ("WanRelay_Sample", "WanRelay_SaveVideo")
    return {key: node for key, node in graph.items() if node["class_type"] not in changed}


def test_a_video_a_seed_and_the_first_where_it_always_is(bench: Bench, queued: list[dict[str, Any]]) -> None:
    [answer] = bench.answer(bench.job(seeds=[7, 9, 8], length=9))
    file = base64.b64encode((bench.folder / "video.mp4").read_bytes()).decode()
    assert [sorted(video) for video in answer["videos"]] == [["seed", "timings", "video"]] * 3
    assert [(video["seed"], video["video"]) for video in answer["videos"]] == [(7, file), (9, file), (8, file)]
    assert [list(video["timings"]) for video in answer["videos"]] == [["comfyui_s"]] * 3
    assert (answer["seed"], answer["video"], answer["length"]) == (7, file, 9)
    assert answer["warnings"] == ["said by the sampler"]
    assert answer["timings"]["total_s"] > sum(video["timings"]["comfyui_s"] for video in answer["videos"])
    assert [graph["6"]["inputs"]["seed"] for graph in queued] == [7, 9, 8]
    assert without_seed(queued[0]) == without_seed(queued[1]) == without_seed(queued[2])
    assert len({json.dumps(graph) for graph in queued}) == 3
    assert bench.worker.process.starts == 1
    assert bench.left_files() == []


def test_a_series_of_one_is_answered_as_a_series(bench: Bench) -> None:
    [answer] = bench.answer(bench.job(num_videos=1, seed=4))
    assert [video["seed"] for video in answer["videos"]] == [4]


def test_more_than_the_operator_allows_and_other_workflows_are_refused(make_bench: Any) -> None:
    bench = make_bench(WAN_RELAY_MAX_VIDEOS=2)
    three, graph = bench.answer(bench.job(num_videos=3), bench.graph_job(seeds=[1, 2]))
    assert three == {"error": "OUT_OF_RANGE: this worker makes at most 2 videos a job, got 3 (num_videos)"}
    sentence = "CONFLICT: seeds is for the bundled workflows; send a job for each seed of this one (seeds)"
    assert graph == {"error": sentence}


@pytest.mark.parametrize(
    ("faults", "error", "more"),
    [
        (SECOND_FAILS, "EXECUTION_FAILED: no such thing (node Wan Relay: Sample)", {}),
        (
            {"queued": ["after:1:error:RuntimeError:CUDA error: an illegal memory access was encountered", 1]},
            "GPU_ERROR: ",
            {"refresh_worker": True},
        ),
    ],
)
def test_a_failure_midway_leaves_what_was_made(
    bench: Bench, faults: dict[str, Any], error: str, more: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    bench.configure(faults=faults)
    [answer] = bench.answer(bench.job(seeds=[1, 2, 3]))
    made, failed, not_begun = answer["videos"]
    assert (made["seed"], made["video"]) == (1, answer["video"])
    assert failed["error"].startswith(error)
    code = error.partition(":")[0]
    assert not_begun == {"seed": 3, "error": f"{code}: not begun, because video 2 of 3 failed"}
    assert answer["warnings"][-1] == f"1 of 3 videos were made, then: {failed['error']}"
    assert {name: answer[name] for name in answer if name == "refresh_worker"} == more
    assert "of 3 videos, made were seed 1\n" in capfd.readouterr().err
    assert bench.left_files() == []


def test_a_failure_of_the_first_is_the_jobs(bench: Bench) -> None:
    bench.configure(faults={"queued": ["error:RuntimeError:no such thing", 1]})
    [answer] = bench.answer(bench.job(seeds=[1, 2]))
    assert answer == {"error": "EXECUTION_FAILED: no such thing (node Wan Relay: Sample)"}


def test_a_deadline_midway_leaves_what_was_made(make_bench: Any) -> None:
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=12)
    bench.boot()
    bench.configure(faults={"sampling": ["after:4:hang", 1]})
    [answer] = bench.answer(bench.job(seeds=[1, 2]))
    sentence = "TIMEOUT: the job did not finish within 12 s; lower the size or the steps"
    assert [video.get("error") for video in answer["videos"]] == [None, sentence]
    assert answer["videos"][0]["video"] == answer["video"]


def test_comfyui_that_dies_midway_costs_only_time(bench: Bench) -> None:
    bench.configure(faults={"queued": ["after:1:kill", 1]})
    [answer] = bench.answer(bench.job(seeds=[1, 2]))
    assert all(video["video"] for video in answer["videos"])
    assert bench.worker.process.starts == 2


def test_a_cancelled_job_has_told_of_the_videos_in_the_bucket(make_bench: Any) -> None:
    s3 = FakeS3()

    async def main() -> tuple[Bench, bytes]:
        async with s3.serving() as endpoint:
            bench: Bench = make_bench(BUCKET_ENDPOINT_URL=endpoint, **BUCKET)
            bench.configure(faults={"sampling": ["after:4:hang", 1]})
            work = asyncio.create_task(bench.worker.answer(bench.job("j1", seeds=[1, 2, 3], delivery="url")))
            while not any("made" in update for update in bench.progress):
                assert not work.done()
                await asyncio.sleep(0.02)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            return bench, (bench.folder / "video.mp4").read_bytes()

    bench, video = asyncio.run(asyncio.wait_for(main(), 60))
    update = next(update for update in bench.progress if "made" in update)
    [made] = update.pop("made")
    assert update == {"stage": "loading", "step": 0, "steps": 0, "progress": 0.333, "video": 2, "videos": 3}
    assert (made["seed"], s3.bodies) == (1, [video])
    assert s3.requests[0].path in made["video_url"]
    assert "/j1/" in made["video_url"]
    assert bench.left_files() == []


def test_all_videos_together_fit_the_answer(make_bench: Any) -> None:
    """Each is re-encoded to its part of the room; the first is not there twice."""
    bench = make_bench(WAN_RELAY_ASYNC_RESULT_MB=0.1)
    (bench.folder / "video.mp4").write_bytes(make_mp4(frames=9, size=128, noise=120))
    [answer] = bench.answer(bench.job("async", seeds=[1, 2]))
    assert len(json.dumps({"output": answer}).encode()) <= 100_000
    assert "video" not in answer
    for item in answer["videos"]:
        assert frames_in(item["video"], bench.folder) == 9
        assert 15_000 < len(item["video"]) < 50_000
    assert len([sentence for sentence in answer["warnings"] if "re-encoded" in sentence]) == 1
    assert answer["warnings"][-1] == (
        "the answer would be too large with the first video twice, so it is under videos alone"
    )


def frames_in(video: str, folder: Path) -> int:
    (folder / "told.mp4").write_bytes(base64.b64decode(video))
    with av.open(str(folder / "told.mp4")) as file:
        return sum(1 for _ in file.decode(video=0))


def test_what_one_video_leaves_is_for_the_next() -> None:
    room = Room(100, 3)
    shares = []
    for size in (10, 45, 50):
        shares.append(room.share())
        room.take(size)
    assert shares == [33, 45, 45]


def test_warnings_of_a_later_video_alone_name_it() -> None:
    facts: dict[str, Any] = {"width": 64, "height": 64, "length": 5, "fps": 16, "duration": 0.3, "workflow": "w"}
    answers = [
        VideoAnswer(
            seed=seed, format="video/mp4", warnings=warnings, timings=Timings(total_s=1.0), video="AA==", **facts
        )
        for seed, warnings in ((1, ["a"]), (2, ["a", "b"]))
    ]
    told = one_answer([1, 2, 3], answers, JobError("NO_OUTPUT", "nothing came"), 9.5, 10_000)
    assert told.warnings == ["a", "video 2: b", "2 of 3 videos were made, then: NO_OUTPUT: nothing came"]
    assert told.timings.total_s == 9.5


def test_progress_runs_over_all_videos() -> None:
    sent: list[Progress] = []
    clock = iter(range(0, 1000, 10))
    updates = ProgressUpdates(sent.append, lambda: next(clock))
    for number in (1, 2):
        updates.video(number, 2, [])
        for step in (1, 2, 3, 4):
            updates.step(step, 4, 2)
    told = [(update.video, update.videos, update.step, update.progress) for update in sent]
    assert told == [(1, 2, step, step / 8) for step in (1, 2, 3)] + [(2, 2, step, 0.5 + step / 8) for step in (1, 2, 3)]
