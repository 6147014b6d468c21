"""RunPod: seed 1's input and output and the platform's rules, without a gateway."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure
from wan_relay.service.contract.progress import Progress
from wan_relay.service.contract.video_answer import Timings, VideoAnswer
from wan_relay.service.gateway.dialects import runpod
from wan_relay.service.gateway.draft import Draft
from wan_relay.service.gateway.http import dialect_app
from wan_relay.service.gateway.keys import ANYBODY
from wan_relay.service.gateway.refusal import Refusal
from wan_relay.service.tasks.task import Order, Outcome, Task, Video, Webhook
from wan_relay.tests.service.gateway.stand import PICTURE

SEEDS_INPUT = {
    "prompt": "woman dancing gracefully",
    "image_base64": PICTURE.partition(",")[2],
    "width": 528,
    "height": 768,
    "length": 81,
    "steps": 4,
    "cfg": 1.0,
    "seed": -1,
    "fps": 16,
}
ANSWER = VideoAnswer(
    seed=7,
    width=528,
    height=768,
    length=81,
    fps=16,
    duration=5.0625,
    workflow="wan22_i2v_4step",
    format="video/mp4",
    warnings=["of the worker"],
    timings=Timings(total_s=1.5),
)


def parsed(body: dict[str, Any], sync_wait_s: float | None = None) -> Draft:
    draft = runpod.parse(body, "ep", sync_wait_s)
    assert draft is not None
    return draft


def refusal(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(JobError) as caught:
        runpod.parse(body, "ep")
    return runpod.reject(caught.value.failure, "r")


def task(state: str = "succeeded", is_sync: bool = False, size: int = 3, **fields: Any) -> Task:
    draft = parsed({"input": {**SEEDS_INPUT, **fields.pop("input", {})}}, 90.0 if is_sync else None)
    order = Order(
        dialect="runpod",
        owner="local",
        request=draft.request.to_wire(),
        warnings=fields.pop("warnings", ()),
        retention_s=draft.retention_s,
        extras=draft.extras,
    )
    if state == "succeeded":
        fields.setdefault("outcome", Outcome(answer=ANSWER, video=Video(key="k", size=size)))
    times = {"created_at_s": 1000.0, "started_at_s": 1001.25, "finished_at_s": 1004.0, "executor": "gpu-1"}
    return Task(id="t-1", state=state, order=order, **times | fields)


def test_the_seeds_own_input() -> None:
    draft = parsed({"input": SEEDS_INPUT})
    assert draft.request.to_wire() == SEEDS_INPUT
    assert (draft.warnings, draft.webhook, draft.priority) == ((), None, 0)
    assert (draft.deadline_s, draft.start_deadline_s, draft.retention_s) == (None, 24 * 3600.0, 1800.0)
    assert draft.extras == {"endpoint": "ep", "is_sync": False}


@pytest.mark.parametrize(("wait_s", "kept_s"), [(1.0, 60.0), (60.0, 60.0), (90.0, 90.0), (300.0, 300.0)])
def test_a_sync_job_is_kept_as_long_as_it_was_waited_for(wait_s: float, kept_s: float) -> None:
    draft = parsed({"input": SEEDS_INPUT}, wait_s)
    assert (draft.retention_s, draft.extras["is_sync"]) == (kept_s, True)


def test_the_policy_and_the_webhook() -> None:
    policy = {"executionTimeout": 5000, "ttl": 10_000, "lowPriority": True}
    draft = parsed({"input": SEEDS_INPUT, "policy": policy, "webhook": "https://example.com/a%2Fb?c=d"})
    assert (draft.deadline_s, draft.start_deadline_s, draft.priority) == (5.0, 10.0, 1)
    assert draft.webhook == Webhook(url="https://example.com/a%2Fb?c=d")
    assert runpod.WEBHOOK_PAUSES_S == (10.0, 10.0)
    nothing = {"input": SEEDS_INPUT, "policy": None, "webhook": "", "s3Config": None}
    assert parsed(nothing) == parsed({"input": SEEDS_INPUT})


@pytest.mark.parametrize("inner", [SEEDS_INPUT, {**SEEDS_INPUT, "seed": None}])
def test_an_input_that_was_wrapped_twice_is_taken(inner: dict[str, Any]) -> None:
    assert parsed({"input": {"input": inner}}) == parsed({"input": inner})


def test_what_is_not_known_is_said() -> None:
    body = {"input": {**SEEDS_INPUT, "lenght": "s3cret"}, "policy": {"gpu": "s3cret"}, "webhookV2": "s3cret"}
    assert parsed(body).warnings == (
        "field webhookV2 is not known and was ignored",
        "field policy.gpu is not known and was ignored",
        "field lenght is not known and was ignored; did you mean length?",
    )


@pytest.mark.parametrize("raw", [{"action": "ping"}, {"input": {"action": "ping"}}])
def test_a_ping_is_no_job(raw: dict[str, Any]) -> None:
    assert runpod.parse({"input": raw}, "ep") is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "MISSING_FIELD: input is needed (input)"),
        ({"input": None}, "MISSING_FIELD: input is needed (input)"),
        ({"input": "x"}, "INVALID_INPUT: input must be an object, got a string (input)"),
        ({"input": []}, "INVALID_INPUT: input must be an object, got a list (input)"),
        ({"input": 0}, "INVALID_INPUT: input must be an object, got a number (input)"),
        ({"input": {}}, "MISSING_FIELD: prompt is needed (prompt)"),
        ({"input": {"input": {}}}, "MISSING_FIELD: prompt is needed (prompt)"),
        ({"input": {"action": "dance"}}, "INVALID_VALUE: action must be ping, or left out for a video (action)"),
        (
            {"input": {"prompt": "x"}},
            "MISSING_FIELD: one of image_base64, image_url, image_path is needed (image)",
        ),
        (
            {"input": {**SEEDS_INPUT, "image_url": "https://example.com/a.png"}},
            "CONFLICT: give exactly one of image_base64, image_url, image_path; got image_base64 and image_url"
            " (image_base64)",
        ),
        ({"input": {**SEEDS_INPUT, "width": 0}}, "OUT_OF_RANGE: width must be from 64 to 2048, got 0 (width)"),
        (
            {"input": SEEDS_INPUT, "policy": {"executionTimeout": 4999}},
            "OUT_OF_RANGE: policy.executionTimeout must be from 5000 to 604800000 (policy.executionTimeout)",
        ),
        (
            {"input": SEEDS_INPUT, "policy": {"ttl": 604_800_001}},
            "OUT_OF_RANGE: policy.ttl must be from 10000 to 604800000 (policy.ttl)",
        ),
        (
            {"input": SEEDS_INPUT, "policy": {"ttl": True}},
            "INVALID_TYPE: policy.ttl must be a whole number (policy.ttl)",
        ),
        (
            {"input": SEEDS_INPUT, "policy": {"lowPriority": "yes"}},
            "INVALID_TYPE: policy.lowPriority must be true or false (policy.lowPriority)",
        ),
        ({"input": SEEDS_INPUT, "policy": "fast"}, "INVALID_TYPE: policy must be an object (policy)"),
        ({"input": SEEDS_INPUT, "webhook": 3}, "INVALID_TYPE: webhook must be a string (webhook)"),
        (
            {"input": SEEDS_INPUT, "webhook": "file:///etc/passwd"},
            "INVALID_URL: webhook must be an http or https URL (webhook)",
        ),
        (
            {"input": {"workflow": {"1": {"class_type": "LoadImage", "inputs": {}}}, "images": []}},
            "INVALID_VALUE: workflow must be a bundled one's name here; a workflow of your own is for a worker's own "
            "RunPod endpoint (workflow)",
        ),
        *(
            (
                {"input": SEEDS_INPUT | {name: value}},
                "INVALID_VALUE: several videos a job are for a worker's own RunPod endpoint; here a task is one video, "
                f"so send one a seed ({name})",
            )
            for name, value in (("num_videos", 2), ("num_videos", 1))
        ),
        (
            {"input": SEEDS_INPUT | {"return_last_frame": True}},
            "INVALID_VALUE: return_last_frame is for a worker's own RunPod endpoint; here a task is one video and "
            "nothing else (return_last_frame)",
        ),
        (
            {"input": SEEDS_INPUT, "s3Config": {"accessId": "s3cret", "accessSecret": "s3cret"}},
            "INVALID_VALUE: s3Config is not taken here: a large video comes as video_url, from the gateway's own store"
            " (s3Config)",
        ),
    ],
)
def test_the_words_of_a_refusal(body: dict[str, Any], error: str) -> None:
    assert refusal(body) == (400, {"error": error})


@pytest.mark.parametrize("code", list(CODES))
def test_every_failure_has_a_status_of_the_platform(code: str) -> None:
    status, body = runpod.reject(Failure(code=code, sentence="why", field="x"), "r")
    assert status in (400, 401, 404, 405, 413, 429, 500, 502, 503, 504, 507)
    assert body == {"error": f"{code}: why (x)"}


@pytest.mark.parametrize(("values", "seconds"), [([], 90.0), (["1000"], 1.0), (["300000"], 300.0)])
def test_the_wait(values: list[str], seconds: float) -> None:
    assert runpod.wait_s(values) == seconds


@pytest.mark.parametrize("values", [["999"], ["300001"], ["-1"], ["x"], ["1e4"], [""], ["1000", "2000"], ["9" * 5000]])
def test_a_wait_out_of_bounds(values: list[str]) -> None:
    with pytest.raises(JobError, match="OUT_OF_RANGE: wait must be a whole number of milliseconds from 1000 to 300000"):
        runpod.wait_s(values)


def test_a_video_in_the_answer() -> None:
    assert runpod.render(task(warnings=("of the gateway",)), "AAAA") == {
        "id": "t-1",
        "status": "COMPLETED",
        "delayTime": 1250,
        "executionTime": 1500,
        "workerId": "gpu-1",
        "output": {"video": "AAAA", **ANSWER.to_wire(), "warnings": ["of the gateway", "of the worker"]},
    }


def test_the_id_says_which_call_it_was() -> None:
    assert runpod.render(task(is_sync=True), "AAAA")["id"] == "sync-t-1"


MB = 1_000_000


@pytest.mark.parametrize(
    ("is_sync", "size", "fits"),
    [
        (False, 7 * MB, True),
        (False, 8 * MB, False),
        (True, 8 * MB, True),
        (True, 14 * MB, True),
        (True, 15 * MB + 1, False),
    ],
)
def test_the_platforms_caps(is_sync: bool, size: int, fits: bool) -> None:
    done = task(is_sync=is_sync, size=size)
    assert runpod.carries_video(done) is fits
    if fits:
        body = runpod.render(done, "A" * (4 * ((size + 2) // 3)))
        assert len(json.dumps(body)) <= (20 if is_sync else 10) * MB


def test_a_large_video_is_a_link_and_says_why_and_how_long() -> None:
    output = runpod.render(task(size=30 * MB), None, "https://x/files/v.mp4?s=1")["output"]
    assert output["video_url"] == "https://x/files/v.mp4?s=1"
    assert "video" not in output
    assert output["warnings"] == [
        "of the worker",
        "the video is too large for an answer of 10 MB, so it came as video_url",
        "video_url works until 1970-01-01T00:46:44Z",
    ]


def test_a_link_is_given_to_whom_wants_one() -> None:
    done = task(input={"delivery": "url"})
    assert not runpod.carries_video(done)
    output = runpod.render(done, None, "https://x/v.mp4")["output"]
    assert output["warnings"] == ["of the worker", "video_url works until 1970-01-01T00:46:44Z"]


@pytest.mark.parametrize("state", ["queued", "throttled"])
def test_a_job_that_waits(state: str) -> None:
    waiting = task(state, started_at_s=None, finished_at_s=None, executor=None)
    assert runpod.render(waiting) == {"id": "t-1", "status": "IN_QUEUE"}


def test_a_job_whose_start_was_noted_in_whole_seconds_waited_no_less_than_nothing() -> None:
    assert runpod.render(task("running", started_at_s=999.4))["delayTime"] == 0


def test_a_job_that_runs_says_how_far_it_is() -> None:
    progress = Progress(step=1, steps=4, progress=0.25, expert="high_noise")
    assert runpod.render(task("running", finished_at_s=None, progress=progress)) == {
        "id": "t-1",
        "status": "IN_PROGRESS",
        "delayTime": 1250,
        "workerId": "gpu-1",
        "output": {"stage": "sampling", "step": 1, "steps": 4, "progress": 0.25, "expert": "high_noise"},
    }


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("OUT_OF_MEMORY", "FAILED", "OUT_OF_MEMORY: why"),
        ("TIMEOUT", "TIMED_OUT", "TIMEOUT: why"),
        ("CANCELLED", "CANCELLED", None),
    ],
)
def test_a_job_that_failed(code: str, status: str, error: str | None) -> None:
    failed = runpod.render(task("failed", outcome=Outcome(failure=Failure(code=code, sentence="why"))))
    assert (failed["status"], failed.get("error"), failed["executionTime"]) == (status, error, 2750)
    assert "output" not in failed


def test_a_job_that_was_cancelled() -> None:
    cancelled = task("cancelled", started_at_s=None, executor=None)
    assert runpod.render(cancelled) == {"id": "t-1", "status": "CANCELLED"}


def test_a_stream_gives_each_step_once_and_ends() -> None:
    streams = runpod.Streams()
    first, second = (Progress(step=n, steps=4, progress=n / 4) for n in (1, 2))
    assert streams.chunks(task("queued", finished_at_s=None)) == []
    assert streams.chunks(task("running", progress=first)) == [{"output": first.to_wire()}]
    assert streams.chunks(task("running", progress=first)) == []
    assert streams.chunks(task("running", progress=second)) == [{"output": second.to_wire()}]
    assert streams.chunks(task(progress=second)) == []


class OneTask:
    """A desk that knows one task."""

    def __init__(self, known: Task, video: str | None = "AAAA") -> None:
        self.known = known
        self.video = video

    def caller(self, _: str | None) -> Any:
        return ANYBODY

    async def get_own(self, *_: Any) -> Task:
        return self.known

    async def wait(self, *_: Any) -> Task:
        return self.known

    async def video_base64(self, _: Task) -> str:
        if self.video is None:
            raise Refusal("NOT_FOUND", "the video is kept no longer")
        return self.video


@pytest.mark.parametrize(("age_s", "status"), [(1799, 200), (1801, 404)])
@pytest.mark.parametrize("path", ["status", "status-sync"])
def test_a_job_is_forgotten_after_half_an_hour(age_s: float, status: int, path: str) -> None:
    desk: Any = OneTask(task(finished_at_s=time.time() - age_s))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(dialect_app(runpod, desk))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get(f"/ep/{path}/t-1")

    answer = asyncio.run(ask())
    assert answer.status_code == status
    if status == 404:
        assert answer.json() == {"error": "NOT_FOUND: job not found"}


def test_a_webhook_that_is_told_too_late_for_the_video_says_so() -> None:
    desk: Any = OneTask(task(), video=None)
    content, headers = asyncio.run(runpod.webhook(desk.known, desk))
    job = json.loads(content)
    assert (job["status"], headers) == ("COMPLETED", {})
    assert job["output"] == {**ANSWER.to_wire(), "warnings": ["of the worker", "the video is kept no longer"]}
