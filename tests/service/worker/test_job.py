"""Jobs over a fake ComfyUI: rows 36-47 of the list of bad inputs, and every fault of the process beneath."""

import asyncio
import base64
import gc
import io
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from wan_relay.service.worker import job, video_job
from wan_relay.service.worker.comfyui import client as comfy_client
from wan_relay.service.worker.comfyui import process as comfy_process
from wan_relay.service.worker.progress_updates import ProgressUpdates
from wan_relay.tests.service.media.fake_s3 import FakeS3
from wan_relay.tests.service.worker.conftest import BOTH_FORMS

MODELS = {
    "text_encoder": "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "vae": "wan_2.1_vae.safetensors",
    "high_noise": "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors",
    "low_noise": "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors",
}


def test_video_comes_with_every_value_and_leaves_nothing(bench):
    [answer] = bench.answer(bench.job(seed=7, length=9, fps=12, lenght=3))
    video = (bench.folder / "video.mp4").read_bytes()
    assert base64.b64decode(answer.pop("video")) == video
    timings = answer.pop("timings")
    assert set(timings) == {"image_s", "ready_s", "comfyui_s", "total_s"}
    assert answer == {
        "workflow": "wan22_i2v_4step",
        "prompt": "a cat",
        "models": [{"role": role, "file": name, "bytes": None, "sha256": None} for role, name in MODELS.items()],
        "seed": 7,
        "width": 64,
        "height": 64,
        "length": 9,
        "fps": 12,
        "duration": 0.75,
        "steps": 4,
        "switch": "step",
        "switch_step": 2,
        "boundary": 0.9,
        "sampler": "euler",
        "scheduler": "simple",
        "shift": 5,
        "high_noise_cfg": 1,
        "low_noise_cfg": 1,
        "sizing": "fixed",
        "fit": "crop",
        "format": "video/mp4",
        "warnings": ["field lenght is not known and was ignored; did you mean length?", "said by the sampler"],
    }
    assert bench.left_files() == []


def test_random_seed_is_the_one_that_was_used(bench):
    first, second = bench.answer(bench.job(seed=-1), bench.job(seed=None))
    assert 0 <= first["seed"] <= 2**53 - 1
    assert first["seed"] != second["seed"]


@BOTH_FORMS
def test_same_request_twice_gives_two_files(bench):
    """Row 36: ComfyUI would answer an unchanged save node from its cache, with a file that is gone."""
    first, second = bench.answer(bench.job(seed=1), bench.job(seed=1))
    assert first["video"] == second["video"]


@BOTH_FORMS
@pytest.mark.parametrize("point", ["boot", "upload", "queued", "sampling", "saving"])
def test_comfyui_killed_once_costs_only_time(bench, point):
    bench.configure(faults={point: ["kill", 1]})
    [answer] = bench.answer(bench.job())
    assert "error" not in answer
    assert answer["video"]
    assert bench.worker.process.starts == 2
    assert bench.left_files() == []


@BOTH_FORMS
def test_comfyui_killed_again_and_again_asks_for_a_fresh_worker(bench):
    bench.configure(faults={"sampling": ["kill", 2]})
    crashed, after = bench.answer(bench.job(), bench.job())
    assert crashed == {"error": "COMFYUI_CRASHED: ComfyUI was ended by SIGKILL", "refresh_worker": True}
    assert after["video"]
    assert bench.left_files() == []


@BOTH_FORMS
def test_comfyui_that_cannot_start(make_bench, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "main.py").write_text("raise SystemExit('torch was not found in /opt/comfyui/lib')\n")
    bench = make_bench(COMFYUI_PATH=tmp_path / "broken")
    [answer] = bench.answer(bench.job())
    assert answer == {
        "error": "COMFYUI_CRASHED: ComfyUI ended with exit code 1; its last line was: torch was not found in lib",
        "refresh_worker": True,
    }


@BOTH_FORMS
def test_lean_start_that_fails_is_followed_by_a_plain_one(make_bench, tmp_path):
    shutil.copytree(Path(__file__).parent / "fake_comfyui", tmp_path / "newer")
    (tmp_path / "newer" / "nodes.py").write_text("# no init_builtin_extra_nodes here\n")
    main = tmp_path / "newer" / "main.py"
    main.write_text("import nodes\n" + main.read_text())
    bench = make_bench(COMFYUI_PATH=tmp_path / "newer")
    [answer] = bench.answer(bench.job())
    assert answer["video"]
    assert bench.worker.process.starts == 2


@BOTH_FORMS
def test_comfyui_that_never_answers(make_bench, tmp_path):
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "main.py").write_text("import time\ntime.sleep(300)\n")
    bench = make_bench(COMFYUI_PATH=tmp_path / "mute", WAN_RELAY_BOOT_TIMEOUT_S=1)
    [answer] = bench.answer(bench.job())
    assert answer == {
        "error": "COMFYUI_UNAVAILABLE: ComfyUI did not answer within 1 s of its start",
        "refresh_worker": True,
    }


@BOTH_FORMS
def test_websocket_that_is_cut_or_never_there(bench):
    bench.configure(faults={"sampling": ["cut", 1]})
    [answer] = bench.answer(bench.job())
    assert answer["video"]
    first = {"stage": "sampling", "step": 1, "steps": 4, "progress": 0.25, "expert": "high_noise"}
    assert bench.progress[0] | first == bench.progress[0], (
        "the first step ends after the cut: its progress comes over a new connection"
    )
    bench.configure(no_websocket=True)
    [answer] = bench.answer(bench.job())
    assert answer["video"]


@BOTH_FORMS
def test_history_that_stays_empty(bench, monkeypatch):
    monkeypatch.setattr(comfy_client, "ABSENT_POLLS", 2)
    bench.configure(faults={"finished": ["forget", 1]})
    [answer] = bench.answer(bench.job())
    assert answer == {"error": "NO_OUTPUT: ComfyUI has neither a result nor the job any more"}


@BOTH_FORMS
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("absent", "NO_OUTPUT: ComfyUI finished, but the video file is not there"),
        ("empty", "NO_OUTPUT: ComfyUI finished, but the video file is empty"),
    ],
)
def test_file_that_is_missing_or_empty(bench, kind, sentence):
    bench.configure(faults={"saving": [kind, 1]})
    assert bench.answer(bench.job()) == [{"error": sentence}]
    assert bench.left_files() == []


@BOTH_FORMS
def test_file_that_is_no_video(bench):
    (bench.folder / "video.mp4").write_bytes(b"<html>not a video</html>")
    expected = {"error": "NO_OUTPUT: ComfyUI finished, but the file it saved is not a video"}
    assert bench.answer(bench.job()) == [expected]


@BOTH_FORMS
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (
            "error:torch.OutOfMemoryError:Allocation on device 0 would exceed allowed memory.",
            {
                "error": "OUT_OF_MEMORY: 64 x 64 x 81 does not fit the GPU; lower the size or the length "
                "(node Wan Relay: Sample)"
            },
        ),
        (
            "error:RuntimeError:CUDA error: an illegal memory access was encountered",
            {
                "error": "GPU_ERROR: the GPU failed: CUDA error: an illegal memory access was encountered "
                "(node Wan Relay: Sample)",
                "refresh_worker": True,
            },
        ),
        (
            "error:OSError:[Errno 28] No space left on device: '/tmp/x/y.mp4'",
            {"error": "DISK_FULL: the worker's disk is full (node Wan Relay: Sample)", "refresh_worker": True},
        ),
        (
            "error:nodes.rules.errors.FileRefused:low_noise must be a low-noise expert; got /m/high.safetensors.",
            {
                "error": "MODEL_REFUSED: low_noise must be a low-noise expert; got high.safetensors "
                "(node Wan Relay: Sample)"
            },
        ),
        (
            "error:x.InvalidInput:width 8 is too small.",
            {"error": "INVALID_VALUE: width 8 is too small (node Wan Relay: Sample) (width)"},
        ),
        ("error:ValueError:what", {"error": "EXECUTION_FAILED: what (node Wan Relay: Sample)"}),
    ],
)
def test_failed_execution(bench, kind, answer):
    bench.configure(faults={"sampling": [kind, 1]})
    failed, after = bench.answer(bench.job(), bench.job())
    assert failed == answer
    assert after["video"]
    assert len(bench.asked("free")) == int("OUT_OF_MEMORY" in answer["error"])


@BOTH_FORMS
def test_deadline_interrupts_this_prompt_only(make_bench):
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=5)
    bench.configure(faults={"sampling": ["hang", 1]})
    bench.boot()
    late, after = bench.answer(bench.job(), bench.job())
    assert late == {"error": "TIMEOUT: the job did not finish within 5 s; lower the size or the steps"}
    assert after["video"]
    assert bench.worker.process.starts == 1
    assert bench.asked("interrupt") == [["interrupt", bench.asked("delete")[0][1]]]
    assert bench.left_files() == []


@BOTH_FORMS
def test_comfyui_that_is_deaf_to_the_interrupt_is_replaced(make_bench, monkeypatch):
    monkeypatch.setattr(comfy_client, "ABANDON_S", 0.5)
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=5)
    bench.configure(faults={"sampling": ["deaf", 1]})
    bench.boot()
    [late] = bench.answer(bench.job())
    assert late == {"error": "TIMEOUT: the job did not finish within 5 s; lower the size or the steps"}
    assert (bench.worker.process.starts, bench.worker.process.is_running) == (2, True), "the next job finds it booting"
    bench.boot()
    assert bench.answer(bench.job())[0]["video"]
    assert bench.left_files() == []


@BOTH_FORMS
@pytest.mark.parametrize("point", ["upload", "queued", "sampling"])
def test_comfyui_that_hangs_is_known_long_before_the_deadline(bench, monkeypatch, point):
    bench.configure(faults={point: ["stop", 1]})
    with monkeypatch.context() as soon:
        soon.setattr(comfy_client, "PATIENCE_S", 0.5)
        soon.setattr(comfy_process, "SILENCE_S", 2.0)
        [hung] = bench.answer(bench.job())
    assert hung == {
        "error": "COMFYUI_UNAVAILABLE: ComfyUI did not answer for 2 s and was ended",
        "refresh_worker": True,
    }
    assert (bench.worker.process.starts, bench.worker.process.is_running) == (2, True), "the next job finds it booting"
    assert bench.answer(bench.job())[0]["video"]
    assert bench.left_files() == []


@BOTH_FORMS
def test_comfyui_that_hangs_at_the_deadline_did_not_get_too_large_a_job(make_bench, monkeypatch):
    bench = make_bench(WAN_RELAY_JOB_TIMEOUT_S=5)
    bench.configure(faults={"sampling": ["stop", 1]})
    bench.boot()
    monkeypatch.setattr(job, "LAST_ANSWER_S", 0.5)
    [hung] = bench.answer(bench.job())
    assert hung == {"error": "COMFYUI_UNAVAILABLE: ComfyUI does not answer any more", "refresh_worker": True}
    bench.boot()
    assert bench.answer(bench.job())[0]["video"]
    assert bench.left_files() == []


@BOTH_FORMS
def test_comfyui_that_went_mute_between_jobs_is_replaced_within_the_job(bench, monkeypatch):
    monkeypatch.setattr(comfy_process, "SILENCE_S", 2.0)

    async def stopped_before(job: dict) -> dict:
        os.kill(bench.worker.process.pid, signal.SIGSTOP)
        return await bench.worker.answer(job)

    async def jobs() -> None:
        assert (await bench.worker.answer(bench.job()))["video"]
        assert (await stopped_before(bench.job()))["video"]
        assert bench.worker.process.starts == 2
        mute = await stopped_before({"id": "2", "input": {"action": "ping"}})
        assert mute == {
            "error": "COMFYUI_UNAVAILABLE: ComfyUI did not answer for 2 s and was ended",
            "refresh_worker": True,
        }

    bench.play(jobs())
    assert bench.left_files() == []


@BOTH_FORMS
def test_cancelled_job_is_taken_out_of_comfyui(bench):
    async def cancel_twice() -> dict:
        bench.configure(faults={"sampling": ["hang", 1]})
        task = asyncio.create_task(bench.worker.answer(bench.job()))
        while not list(bench.settings.input_directory.glob("wan_relay_*")):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bench.left_files() == []
        return await bench.worker.answer(bench.job())

    assert bench.play(cancel_twice())["video"]
    assert [entry[0] for entry in bench.asked("interrupt")] == ["interrupt"]
    assert bench.worker.process.starts == 1


@BOTH_FORMS
def test_two_clients_cancel_one_running_and_one_waiting(bench):
    async def both() -> dict:
        bench.configure(faults={"sampling": ["hang", 1]})
        tasks = [asyncio.create_task(bench.worker.answer(bench.job(f"sync-{i}"))) for i in range(2)]
        while not bench.asked("interrupt"):
            await asyncio.sleep(0.02)
            if list(bench.settings.input_directory.glob("wan_relay_*")):
                await asyncio.sleep(0.2)
                tasks[1].cancel()
                tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        return await bench.worker.answer(bench.job())

    assert bench.play(both())["video"]
    assert bench.left_files() == []


@BOTH_FORMS
def test_jobs_at_the_same_time_take_turns(bench):
    """Row 47."""

    async def three() -> list[dict]:
        jobs = [bench.job(f"sync-{i}", seed=i) for i in range(3)]
        return await asyncio.gather(*(bench.worker.answer(each) for each in jobs))

    assert [answer["seed"] for answer in bench.play(three())] == [0, 1, 2]


def test_bad_image_is_answered_before_comfyui_is_up(make_bench, tmp_path):
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "main.py").write_text("import time\ntime.sleep(300)\n")
    bench = make_bench(COMFYUI_PATH=tmp_path / "mute")
    [answer] = bench.answer(bench.job(image_base64="aGVsbG8="))
    assert answer["error"].startswith("INVALID_IMAGE: image_base64 is not an image that can be read")


@pytest.mark.parametrize(("bad", "slow"), [("image", "end_image"), ("end_image", "image")])
def test_bad_image_ends_the_download_of_the_other(make_bench, bad, slow):
    """With a server that sends one byte in a while, and would for a minute."""
    bench = make_bench(WAN_RELAY_TRUSTED_HOSTS="127.0.0.1", WAN_RELAY_DOWNLOAD_TIMEOUT_S=40)
    served: list[web.BaseRequest] = []

    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        served.append(request)
        if request.path == "/bad":
            while len(served) < 2:
                await asyncio.sleep(0.01)
            return web.Response(status=404)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async def main() -> tuple[dict, list[str]]:
        runner = web.ServerRunner(web.Server(drip), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            job = bench.job(image_base64=None, **{f"{bad}_url": f"{base}/bad", f"{slow}_url": f"{base}/slow"})
            answer = await bench.worker.answer(job)
            running = [repr(task.get_coro()) for task in asyncio.all_tasks()]
            return answer, [each for each in running if "VideoJob" in each]
        finally:
            await runner.cleanup()

    answer, left = bench.play(main())
    assert answer == {"error": f"DOWNLOAD_FAILED: the server of {bad}_url answered HTTP 404 ({bad}_url)"}
    assert left == []


@BOTH_FORMS
def test_little_disk_is_known_before(make_bench):
    bench = make_bench(WAN_RELAY_MIN_FREE_DISK_MB=10**9)
    [answer] = bench.answer(bench.job())
    assert answer["error"].startswith("DISK_FULL: ")
    assert answer["error"].endswith(" MB of disk are free, 1000000000 MB are needed")
    assert answer["refresh_worker"] is True


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not allow mounting a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], stdin=subprocess.DEVNULL, timeout=20, check=True)


@pytest.mark.parametrize("side", ["input", "output"])
def test_disk_that_fills_up(make_bench, small_disk, side):
    (small_disk / "output").mkdir()
    bench = make_bench(WAN_RELAY_RUN_DIR=small_disk)
    fields = {}
    if side == "input":
        (small_disk / "filler").write_bytes(bytes(4_500_000))
        noise = Image.frombytes("RGB", (800, 800), os.urandom(800 * 800 * 3))
        out = io.BytesIO()
        noise.save(out, "PNG")
        fields = {"image_base64": base64.b64encode(out.getvalue()).decode()}
        expected = "ComfyUI could not store the image"
    else:
        (bench.folder / "video.mp4").write_bytes(bytes(8_000_000))
        expected = "the worker's disk is full (node Wan Relay: Sample)"
    [full] = bench.answer(bench.job(**fields))
    assert full == {"error": f"DISK_FULL: {expected}", "refresh_worker": True}
    assert bench.left_files() == []


KEYS = {"BUCKET_ACCESS_KEY_ID": "id", "BUCKET_SECRET_ACCESS_KEY": "secret", "BUCKET_NAME": "videos"}


@BOTH_FORMS
def test_bucket_that_never_answers_leaves_time_for_the_video(make_bench):
    """The operator's own bucket, on a private address, with a longer patience than the job has time."""
    s3 = FakeS3("mute")

    async def main() -> tuple[dict, bytes]:
        async with s3.serving() as endpoint:
            limits = {"WAN_RELAY_JOB_TIMEOUT_S": 12, "WAN_RELAY_UPLOAD_TIMEOUT_S": 60}
            bench = make_bench(BUCKET_ENDPOINT_URL=endpoint, **KEYS, **limits)
            return await bench.worker.answer(bench.job(delivery="url")), (bench.folder / "video.mp4").read_bytes()

    answer, video = asyncio.run(asyncio.wait_for(main(), 60))
    assert base64.b64decode(answer["video"]) == video
    pattern = r"the bucket did not take the video: it took longer than [\d.]+ s, so it came as base64"
    assert re.fullmatch(pattern, answer["warnings"][-1])
    assert s3.bodies == [video]


@BOTH_FORMS
@pytest.mark.parametrize("trusts", [False, True])
def test_bucket_of_a_job_must_be_public_or_trusted(make_bench, trusts):
    s3 = FakeS3()

    async def main() -> dict:
        async with s3.serving() as endpoint:
            bench = make_bench(WAN_RELAY_TRUSTED_HOSTS=endpoint.removeprefix("http://") if trusts else "example.com")
            own = {"endpointUrl": endpoint, "accessId": "id", "accessSecret": "secret", "bucketName": "videos"}
            return await bench.worker.answer(bench.job(delivery="url") | {"s3Config": own})

    answer = asyncio.run(asyncio.wait_for(main(), 60))
    assert ("video_url" in answer, len(s3.requests)) == ((True, 1) if trusts else (False, 0))
    refused = "the bucket did not take the video: its host is not allowed, so it came as base64"
    assert (refused in answer["warnings"]) is not trusts


def test_progress_is_throttled_and_ends_before_the_last_step():
    clock = iter([0.0, 0.5, 2.1, 3.0, 9.0])
    sent: list[dict] = []
    updates = ProgressUpdates(lambda progress: sent.append(progress.to_wire()), lambda: next(clock))
    for step in range(1, 6):
        updates.step(step, 5, 2)
    assert sent == [
        {"stage": "sampling", "step": 1, "steps": 5, "progress": 0.2, "expert": "high_noise"},
        {"stage": "sampling", "step": 3, "steps": 5, "progress": 0.6, "expert": "low_noise"},
    ]


def test_progress_names_the_opening_leg():
    sent: list[dict] = []
    clock = iter(range(0, 100, 10))
    updates = ProgressUpdates(lambda progress: sent.append(progress.to_wire()), lambda: next(clock))
    for switch_step in (2, None):
        for step in range(1, 4):
            updates.step(step, 4, switch_step, 1)
    experts = [update.get("expert") for update in sent]
    assert experts == ["opening", "high_noise", "low_noise", "opening", None, None]


def test_progress_reaches_the_platform(bench):
    bench.answer(bench.job())
    assert bench.progress[0]["expert"] == "high_noise"
    assert len(bench.progress) == 1


def test_ping(bench):
    [answer] = bench.answer({"id": "1", "input": {"action": "ping"}})
    assert set(answer["timings"]) == {"boot_s", "total_s"}
    assert answer["status"] == "ready"
    assert answer["comfyui_version"] == "0.30.0"
    missing = answer["workflows"]["wan22_i2v_4step"]["missing"]
    assert "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors" in missing


def test_fault_of_our_own_shows_nothing(bench, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(video_job, "build_plan", broken)
    [answer] = bench.answer(bench.job())
    assert answer == {"error": "INTERNAL_ERROR: the worker failed; its log says more under this job's id"}
    assert bench.left_files() == []


def test_comfyui_dies_with_the_worker(bench, tmp_path):
    """Also when the worker is killed with SIGKILL and cannot clean up."""
    script = (
        "import sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "from service.worker.comfyui.process import ComfyProcess\nfrom service.worker.settings import Settings\n"
        "process = ComfyProcess(Settings.from_environment())\nprocess.start()\n"
        "print(process.pid, flush=True)\ntime.sleep(300)\n"
    )
    root = Path(__file__).resolve().parents[3]
    variables = os.environ | {
        "COMFYUI_PATH": str(bench.settings.comfyui_path),
        "COMFYUI_PYTHON": bench.settings.comfyui_python,
        "COMFYUI_PORT": "0",
        "WAN_RELAY_RUN_DIR": str(bench.run_folder),
    }
    owner = subprocess.Popen(
        [bench.settings.comfyui_python, "-c", script, str(root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables,
        start_new_session=True,
        text=True,
    )
    try:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert _alive(child)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(30)
        for _ in range(300):
            if not _alive(child):
                break
            asyncio.run(asyncio.sleep(0.1))
        assert not _alive(child)
    finally:
        owner.kill()
        owner.wait(30)
        owner.stdout.close()


def _alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def resident_kb(pid: int) -> int:
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def open_files() -> int:
    gc.collect()  # what earlier tests left in reference cycles is closed by this
    return len(os.listdir("/proc/self/fd"))


BAD: list[dict[str, Any]] = [
    {"width": 1},
    {"image_base64": "aGVsbG8="},
    {"image_base64": None, "image_path": "/etc/passwd"},
    {"image_base64": None, "image_url": "http://127.0.0.1:8188/"},
    {"prompt": None},
    {"workflow": "wan22_t2v_4step"},
]


def test_fifty_jobs_with_every_third_one_bad(bench):
    def jobs(count: int) -> list[dict]:
        return [bench.job(f"sync-{i}", seed=i, **(BAD[i // 3 % len(BAD)] if i % 3 == 2 else {})) for i in range(count)]

    async def soak() -> tuple[list[dict], list[int], list[int]]:
        answers = [await bench.worker.answer(each) for each in jobs(10)]
        memory, files = [resident_kb(os.getpid())], [open_files()]
        answers += [await bench.worker.answer(each) for each in jobs(50)[10:]]
        return answers, [*memory, resident_kb(os.getpid())], [*files, open_files()]

    answers, memory, files = bench.play(soak(), 240)
    assert ["error" in answer for answer in answers] == [i % 3 == 2 for i in range(50)]
    assert all(answer.get("video") or answer["error"].count(":") for answer in answers)
    assert memory[1] - memory[0] < 12_000
    assert files[1] <= files[0]
    assert bench.worker.process.starts == 1
    assert bench.left_files() == []


def test_answers_are_plain_json(bench):
    [answer] = bench.answer(bench.job())
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_files_are_read_ahead_at_the_start_and_low_noise_while_sampling(make_bench, tmp_path):
    names = {"text_encoder": "t", "vae": "v", "high_noise": "h", "low_noise": "l"}
    for folder, name in (("text_encoders", "t"), ("vae", "v"), ("diffusion_models", "h"), ("diffusion_models", "l")):
        (tmp_path / "models" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / folder / name).write_bytes(bytes(10))
    roles = {f"WAN_RELAY_{role.upper()}": name for role, name in names.items()}
    bench = make_bench(WAN_RELAY_MODELS=tmp_path / "models", **roles)
    bench.worker.start()
    [boot] = bench.worker._readers
    assert boot.join(30)
    assert [path.name for path in boot.read_bytes] == ["t", "v", "h", "l"]
    assert bench.answer(bench.job())[0]["video"]
    [reader] = bench.worker._readers
    assert reader.join(30)
    assert [path.name for path in reader.read_bytes] == ["l"]
