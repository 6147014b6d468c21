"""One real video: the local executor, ComfyUI and the toy family."""

import io
import json
import os
import sys
from pathlib import Path

import av
import pytest
from wan_relay.service.worker.comfyui.process import pack_folder
from wan_relay.tests.service.executors.deployment import ROOT, deployed
from wan_relay.tools.toy_workflows import TOY_FILES

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_a_toy_video_by_the_local_executor(tmp_path: Path, toy_models: Path) -> None:
    pack = pack_folder(tmp_path / "base")
    pack.parent.mkdir(parents=True)
    pack.symlink_to(ROOT)
    variables = {
        "COMFYUI_PATH": os.environ["COMFYUI_PATH"],
        "COMFYUI_PYTHON": sys.executable,
        "COMFYUI_ARGS": "--cpu",
        "COMFYUI_BASE": tmp_path / "base",
        "WAN_RELAY_MODELS": toy_models,
        "WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES),
        "WAN_RELAY_PROMPT_CACHE": tmp_path / "prompts",
        "WAN_RELAY_JOB_TIMEOUT_S": 250,
        "OMP_NUM_THREADS": 1,
    }
    with deployed(tmp_path) as here:
        machine = here.machine(**variables).start().ready()
        request = {"length": 5, "steps": 2, "seed": 3, "interpolation": "rife"}
        task = here.wait(here.submit(here.order(request=request)), limit_s=250)
        assert task.outcome.failure is None, machine.said()[-3000:]
        assert task.outcome.video is not None
        assert task.outcome.answer is not None
        content = here.play(here.store.get(task.outcome.video.key))
        with av.open(io.BytesIO(content)) as file:
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert {frame.shape for frame in frames} == {(64, 64, 3)}
        assert len(frames) == task.outcome.answer.length == 9
        said = [line.text for line in task.log]
        assert said[-7:] == [
            "ComfyUI is ready",
            "high-noise expert, step 1 of 2",
            "low-noise expert, step 2 of 2",
            "decoding the frames",
            "making the frames in between",
            "saving the video",
            "video saved",
        ]
        assert task.outcome.answer.timings.high_noise_s is not None
        assert here.results() == [task.outcome.video.key]
        assert machine.left_files() == []
    here.wait_no_process()
