"""The same tasks on a local executor and on one for a RunPod endpoint."""

import pytest
from wan_relay.tests.service.executors.conftest import Site
from wan_relay.tests.service.executors.deployment import png
from wan_relay.tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)
MODELS = {
    "text_encoder": "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "vae": "wan_2.1_vae.safetensors",
    "high_noise": "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors",
    "low_noise": "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors",
}


def test_a_task_from_order_to_video(site: Site) -> None:
    before = site.here.results()
    task = site.here.wait(site.here.submit(site.here.order(request={"seed": 7, "length": 9, "fps": 12})))
    assert task.outcome.failure is None, site.machine.said()
    answer = task.outcome.answer
    assert answer is not None
    assert set(answer.to_wire()["timings"]) == {"image_s", "ready_s", "comfyui_s", "total_s"}
    assert answer.to_wire() | {"timings": None} == {
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
        "warnings": ["said by the sampler"],
        "timings": None,
    }
    video = task.outcome.video
    assert video is not None
    content = site.here.play(site.here.store.get(video.key))
    assert (content, video.size) == (site.here.video.read_bytes(), len(content))
    assert video.key.startswith(f"results/{task.id}/")
    assert len(video.key) == len(f"results/{task.id}/") + 12 + len(".mp4")
    assert set(site.here.results()) - set(before) == {video.key}
    assert (task.state, task.executor) == ("succeeded", site.machine.name)


def test_a_running_task_says_where_it_is(site: Site) -> None:
    site.machine.configure(step_s=0.4)
    task_id = site.here.submit(site.here.order(request={"steps": 8}))
    seen = set()

    def is_final() -> bool:
        task = site.here.task(task_id)
        if task.progress:
            seen.add((task.progress.stage, task.progress.step, task.progress.expert))
        return task.is_final

    wait_until(is_final)
    task = site.here.task(task_id)
    said = [line.text for line in task.log]
    assert ("sampling", 1, "high_noise") in seen, seen
    assert said[-2:] == ["saving the video", "video saved"]
    assert next(line for line in said if "step" in line) == "high-noise expert, step 1 of 8"
    assert task.progress is not None
    assert (task.progress.stage, task.progress.progress) == ("saving", 1.0)
    if site.here.kind == "local":
        assert said[:3] == ["waiting for ComfyUI", "pictures read", "ComfyUI is ready"]
        assert [line for line in said if "low-noise" in line] == [
            f"low-noise expert, step {step} of 8" for step in range(5, 9)
        ]
        assert "decoding the frames" in said


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ({"sampling": ["error:OutOfMemoryError:Allocation on device", 1]}, "OUT_OF_MEMORY"),
        ({"sampling": ["error:ValueError:wrong shape", 1]}, "EXECUTION_FAILED"),
        ({"saving": ["absent", 1]}, "NO_OUTPUT"),
    ],
)
def test_a_fault_of_comfyui_is_the_tasks(site: Site, faults: dict, code: str) -> None:
    before = site.here.results()
    site.machine.configure(faults=faults)
    task = site.here.wait(site.here.submit())
    assert task.outcome.failure is not None
    assert (task.state, task.outcome.failure.code, task.outcome.video) == ("failed", code, None)
    assert site.here.results() == before


def test_a_picture_that_is_none_or_gone(site: Site) -> None:
    site.here.play(site.here.store.put("uploads/page.png", b"<html>", "image/png"))
    wrong = [{"image_base64": "uploads/page.png"}, {"image_base64": "uploads/gone.png"}]
    tasks = [site.here.wait(site.here.submit(site.here.order(pictures=pictures))) for pictures in wrong]
    failures = [task.outcome.failure for task in tasks]
    assert [(failure.code, failure.field) for failure in failures if failure] == [
        ("INVALID_IMAGE", "image_base64"),
        ("FILE_NOT_FOUND", "image_base64"),
    ]


def test_both_pictures_come_out_of_the_store(site: Site) -> None:
    keys = {"image_base64": "uploads/first.png", "end_image_base64": "uploads/last.png"}
    for key in keys.values():
        site.here.play(site.here.store.put(key, png(), "image/png"))
    order = site.here.order(pictures=keys, request={"workflow": "wan22_flf2v_4step"})
    task = site.here.wait(site.here.submit(order))
    assert task.state == "succeeded", task.outcome.failure


def test_an_order_that_the_contract_refuses(site: Site) -> None:
    task = site.here.wait(site.here.submit(site.here.order(request={"steps": 1000})))
    assert task.outcome.failure is not None
    assert (task.outcome.failure.code, task.outcome.failure.field) == ("OUT_OF_RANGE", "steps")


@pytest.mark.parametrize("point", ["sampling", "saving"])
def test_cancelled_while_it_runs(site: Site, point: str) -> None:
    before = site.here.results()
    site.machine.configure(faults={point: ["hang", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("hang")
    site.here.play(site.here.engine.cancel(task_id))
    assert site.here.wait(task_id).state == "cancelled"
    after = site.here.wait(site.here.submit())
    assert after.state == "succeeded", "ComfyUI is free again"
    assert after.outcome.video is not None
    assert set(site.here.results()) - set(before) == {after.outcome.video.key}


def test_deleted_while_it_runs(site: Site) -> None:
    """As a gateway does with a task that its owner deletes: the machine is free again."""
    before = site.here.results()
    site.machine.configure(faults={"sampling": ["hang", 1]})
    task_id = site.here.submit()
    site.machine.wait_met("hang")
    site.here.play(site.here.engine.cancel(task_id))
    site.here.play(site.here.engine.delete([task_id]))
    assert site.here.wait(site.here.submit()).state == "succeeded"
    assert len(site.here.results()) == len(before) + 1


def test_cancelled_while_it_waits(site: Site) -> None:
    site.machine.configure(faults={"sampling": ["stop", 1]})
    prompts = site.machine.prompts()
    first = site.here.submit()
    site.machine.wait_met("stop")
    second = site.here.submit()
    if site.here.kind == "runpod":  # it is taken at once, and waits at RunPod
        wait_until(lambda: "queued at RunPod" in [line.text for line in site.here.task(second).log])
    site.here.play(site.here.engine.cancel(second))
    site.machine.release()
    assert site.here.wait(second).state == "cancelled"
    assert site.here.wait(first).state == "succeeded"
    assert site.machine.prompts() == prompts + 1


def test_deadline(site: Site) -> None:
    site.machine.configure(faults={"sampling": ["hang", 1]})
    task = site.here.wait(site.here.submit(site.here.order(deadline_s=3.0)))
    assert task.outcome.failure is not None
    assert str(task.outcome.failure) == "TIMEOUT: the task did not finish within 3 s"
    assert site.here.wait(site.here.submit()).state == "succeeded"
