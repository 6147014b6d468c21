"""Jobs with a client's own workflow over a fake ComfyUI; test_job.py has the faults of the process beneath."""

import asyncio
import base64
import json

import pytest
from PIL import Image
from wan_relay.service.worker import progress_updates
from wan_relay.service.worker.graph_request import own_workflows, read_graph_request
from wan_relay.service.worker.progress_updates import ProgressUpdates
from wan_relay.service.worker.workflow import PREPARE
from wan_relay.tests.service.worker.conftest import png

WORKFLOW_KEYS = {"images", "video", "workflow", "seed", "warnings", "timings"}


@pytest.fixture
def volume(bench):
    for name in ("input", "workflows"):
        (bench.settings.volume / name).mkdir(parents=True)
    return bench.settings.volume


def without_images(job: dict, image: str = "of_the_volume.png") -> dict:
    del job["input"]["images"]
    job["input"]["workflow"]["1"]["inputs"]["image"] = image
    return job


def test_answer_has_the_stock_shape_and_ours_and_leaves_nothing(bench):
    [answer] = bench.answer(bench.graph_job())
    video = base64.b64encode((bench.folder / "video.mp4").read_bytes()).decode()
    assert answer["images"] == [{"filename": "wan_relay_00001_.mp4", "type": "base64", "data": video}]
    assert answer["video"] == video
    assert answer.keys() >= WORKFLOW_KEYS
    assert [answer[name] for name in ("workflow", "seed", "width", "length")] == ["request", 0, 64, 81]
    assert answer["warnings"] == ["said by the sampler"]
    assert bench.left_files() == []


def test_whole_input_and_workflow_as_json_text(bench):
    job = bench.graph_job()
    job["input"]["workflow"] = json.dumps(job["input"]["workflow"])
    job["input"] = json.dumps(job["input"])
    assert bench.answer(job)[0]["video"]


def test_progress_has_the_nodes_title(bench):
    bench.answer(bench.graph_job())
    first = {"stage": "sampling", "step": 1, "steps": 4, "progress": 0.25, "expert": "high_noise"}
    assert bench.progress == [first | {"node": "Wan Relay: Sample"}]


@pytest.mark.parametrize("links_its_length", [False, True])
def test_progress_of_a_long_video_runs_over_all_its_segments(bench, monkeypatch, links_its_length):
    """Its experts are known where the graph is built like ours."""
    monkeypatch.setattr(progress_updates, "EVERY_S", 0.0)
    job = bench.graph_job(prompt="a cat")
    job["input"]["workflow"] = graph = json.loads((bench.settings.workflows / "wan22_i2v_long.json").read_text())
    graph["5"]["inputs"] |= {"width": 64, "height": 64}
    if links_its_length:
        graph["7"]["inputs"]["segment_length"] = ["9", 0]
        graph["9"] = {"class_type": "PrimitiveInt", "inputs": {"value": 81}, "_meta": {"title": "Frames"}}
    bars = [
        ["7", 0, 2],
        ["7.0.0.1.6", 2, 4],
        ["7.0.0.1.6", 3, 4],
        ["7", 1, 2],
        ["7.0.0.2.6", 1, 4],
        ["7.0.0.2.6", 3, 4],
    ]
    bench.configure(progress=[*bars, ["7", 2, 2], ["8", 1, 2]])
    assert "video" in bench.answer(job)[0]

    def told(step: int, expert: str) -> dict:
        known = {} if links_its_length else {"expert": expert}
        progress = {"stage": "sampling", "step": step, "steps": 8, "progress": step / 8, **known}
        return progress | {"node": "Wan Relay: Sample"}

    of_saving = {"stage": "sampling", "step": 1, "steps": 2, "progress": 0.5, "node": "Wan Relay: Save Video"}
    steps = [told(2, "high_noise"), told(3, "low_noise"), told(5, "high_noise"), told(7, "low_noise")]
    assert bench.progress == [*steps, of_saving]


@pytest.mark.parametrize("loops_itself", [False, True])
def test_a_loop_that_request_and_workflow_ask_for(bench, loops_itself):
    """Prepare Latent refuses an end image beside its own loop."""
    job = bench.graph_job(loop=True, image_base64=base64.b64encode(png()).decode())
    job["input"]["workflow"]["5"]["inputs"]["loop"] = loops_itself
    [answer] = bench.answer(job)
    assert answer["loop"] is True
    [prepare] = [node["inputs"] for node in bench.graphs()[0].values() if node["class_type"] == PREPARE]
    assert (prepare["loop"], "end_image" in prepare) == (loops_itself, not loops_itself)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, {}),
        ({"frame_order": "ping-pong", "drop_last_frame": True}, {"frame_order": "ping-pong", "loop": True}),
        ({"frame_order": ["9", 0], "drop_last_frame": ["9", 1]}, {}),
    ],
)
def test_what_save_video_itself_says_is_answered(bench, inputs, told):
    job = bench.graph_job()
    graph = job["input"]["workflow"]
    graph["8"]["inputs"] |= inputs
    graph["9"] = {"class_type": "PrimitiveInt", "inputs": {"value": 81}, "_meta": {"title": "Frames"}}
    [answer] = bench.answer(job)
    assert {name: answer[name] for name in ("frame_order", "loop") if name in answer} == told


def test_picture_of_the_volume_and_one_that_no_node_names(bench, volume):
    (volume / "input" / "of_the_volume.png").write_bytes(png())
    [answer] = bench.answer(without_images(bench.graph_job()))
    assert answer["video"]
    job = bench.graph_job()
    job["input"]["images"].append(job["input"]["images"][0] | {"name": "spare.png"})
    [answer] = bench.answer(job)
    assert answer["warnings"][0] == "images: spare.png is named by no node of the workflow"
    assert bench.left_files() == []


def test_pictures_that_are_refused(bench, volume, tmp_path):
    (tmp_path / "secret.png").write_bytes(png())
    (volume / "input" / "link.png").symlink_to(tmp_path / "secret.png")
    bad = bench.graph_job()
    bad["input"]["images"][0]["image"] = "data:image/png;base64,aGVsbG8="
    jobs = [bad, *(without_images(bench.graph_job(), name) for name in ("gone.png", "link.png", "../secret.png"))]
    errors = [answer["error"] for answer in bench.answer(*jobs)]
    assert errors[0].startswith("INVALID_IMAGE: images[0] is not an image that can be read")
    assert errors[1:] == [
        "FILE_NOT_FOUND: gone.png is neither one of images nor in the volume's input folder (node Start image) (image)",
        f"INVALID_PATH: image must be a file under the network volume, which is {volume.name} here (node Start image) "
        "(image)",
        "INVALID_PATH: image must not lead out of the job's folders (node Start image)",
    ]
    assert not bench.noted("POST /upload/image")
    assert bench.left_files() == []


def test_comfyui_is_started_whole_once_a_node_needs_it(bench):
    bench.configure(extra=["VAEDecode"])
    process = bench.worker.process
    first, second, third = bench.answer(bench.job(), bench.graph_job(), bench.graph_job())
    assert first["video"]
    assert second["video"]
    assert third["video"]
    assert (process.starts, process.is_whole) == (2, True)
    assert "--whitelist-custom-nodes" not in process.command()
    assert not any("lean_boot" in part for part in process.command())


def test_node_that_is_not_installed(bench):
    bench.configure(unknown=["VAEDecode", "VAELoader"])
    first, second = bench.answer(bench.graph_job(), bench.graph_job())
    sentence = "this worker's ComfyUI has no node VAELoader (node VAE); and 1 more fault"
    assert first == second == {"error": f"NODE_MISSING: {sentence}"}
    assert bench.worker.process.starts == 2, "it was looked for among all packs once"


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"WAN_RELAY_GRAPHS": "0"}, "this worker runs no workflow that comes with a request"),
        (
            {"WAN_RELAY_GRAPH_NODES": "*, !VAEDecode"},
            "this worker takes no VAEDecode in a request's workflow (node VAE Decode)",
        ),
        (
            {"WAN_RELAY_GRAPH_MODELS": "*, !umt5*"},
            "this worker takes no umt5_xxl_fp8_e4m3fn_scaled.safetensors in a request's workflow "
            "(node Wan Relay: Encode Prompts, input text_encoder)",
        ),
    ],
)
def test_what_the_operator_does_not_let_a_request_use(make_bench, setting, error):
    """His own workflows are his own affair."""
    bench = make_bench(**setting)
    folder = bench.settings.own_workflows
    folder.mkdir(parents=True)
    job = bench.graph_job()
    (folder / "mine.json").write_text(json.dumps(job["input"]["workflow"]))
    refused, named = bench.answer(job, {"id": "1", "input": job["input"] | {"workflow": "mine", "seed": 8}})
    assert refused == {"error": f"INVALID_VALUE: {error} (workflow)"}
    assert (named["workflow"], named["seed"]) == ("mine", 8)
    assert named["video"]


def test_operators_workflows(bench, volume, tmp_path):
    folder = volume / "workflows"
    (tmp_path / "outside.json").write_text("{}")
    for name, text in {"broken": "{", "editor": '{"nodes": []}', "wan22_i2v_4step": "{}", ".hidden": "{}"}.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "link.json").symlink_to(tmp_path / "outside.json")
    assert own_workflows(bench.settings) == ["broken", "editor", "link"]
    assert read_graph_request({"workflow": "wan22_i2v_4step"}, bench.settings) is None
    errors = [
        answer["error"]
        for answer in bench.answer(*({"id": "1", "input": {"workflow": name}} for name in ("broken", "editor", "link")))
    ]
    assert errors[0] == "INVALID_VALUE: workflows/broken.json on the volume is not JSON (workflow)"
    assert errors[1].startswith(
        "INVALID_VALUE: workflows/editor.json on the volume: workflow has the editor's own format"
    )
    assert errors[2].startswith("INVALID_PATH: workflow must be a file under the network volume")


def test_what_a_node_leaves_elsewhere_goes_too(bench, monkeypatch):
    """In ComfyUI's folders, and nothing that lay there before."""
    settings = bench.settings
    kept = settings.output_directory / "kept.txt"
    kept.write_text("before")
    left = [settings.temp_directory / "a" / "preview.png", settings.output_directory / "other" / "b.png"]

    async def job_and_strays() -> dict:
        bench.configure(step_s=0.2)
        task = asyncio.create_task(bench.worker.answer(bench.graph_job()))
        while not bench.progress:
            await asyncio.sleep(0.02)
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return await task

    assert bench.play(job_and_strays())["video"]
    assert kept.read_text() == "before"
    assert not any(path.exists() or path.parent.exists() for path in left[1:])
    assert not left[0].exists()


def test_transparent_picture_is_told_of(bench):
    job = bench.graph_job()
    out = bench.folder / "t.png"
    Image.new("RGBA", (48, 48), (0, 0, 0, 0)).save(out)
    job["input"]["images"][0]["image"] = base64.b64encode(out.read_bytes()).decode()
    assert bench.answer(job)[0]["warnings"][0] == "example.png: the image has transparency; it was laid over white"


def test_ping_lists_the_operators_workflows(bench, volume):
    (volume / "workflows" / "mine.json").write_text("{}")
    [answer] = bench.answer({"id": "1", "input": {"action": "ping"}})
    assert answer["own_workflows"] == ["mine"]


@pytest.mark.parametrize(("now", "slept"), [(10.2, 0.3), (11.0, 0.0)])
def test_last_update_is_given_time_to_arrive(monkeypatch, now, slept):
    """An update travels in a thread of its own, and one that overtakes the answer would take its place."""
    clock, waits = iter([10.0, now]), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    updates = ProgressUpdates(lambda _: None, lambda: next(clock))
    updates.step(1, 4, None, node="Upscale")
    with asyncio.Runner() as runner:
        runner.run(updates.quiet())
    assert waits == [pytest.approx(slept)]
