"""The workflow that a demo runs."""

from pathlib import Path

import pytest
from wan_relay.tools.command_line import command_line
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE, demo_workflow
from wan_relay.tools.processes import DevError
from wan_relay.tools.toy_workflows import bundled_workflow, inputs_of, with_toy_files

PHOTO = str(EXAMPLE_IMAGE)


def demo_of(*arguments: str) -> tuple[dict, dict, dict | None]:
    return demo_workflow(command_line().parse_args(["demo", *arguments]))


def test_the_demo_is_the_bundled_workflow_on_toy_files_at_toy_size() -> None:
    workflow, images, models = demo_of()
    expected = with_toy_files(bundled_workflow("wan22_i2v_4step"))
    inputs_of(expected, "WanRelay_PrepareLatent").update(width=240, height=160, length=33, sizing="match image")
    inputs_of(expected, "WanRelay_EncodePrompts")["prompt"] = "The camera pans left."
    assert (workflow, images, models) == (expected, {"Start image": EXAMPLE_IMAGE}, None)


def test_every_option_reaches_its_input() -> None:
    workflow, images, _ = demo_of(
        *("--prompt", "a", "--negative-prompt", "b", "--width", "527", "--height", "300", "--length", "80"),
        *("--steps", "6", "--seed", "9", "--fps", "24", "--end-image", PHOTO),
    )
    encode = inputs_of(workflow, "WanRelay_EncodePrompts")
    assert (encode["prompt"], encode["negative_prompt"]) == ("a", "b")
    latent = inputs_of(workflow, "WanRelay_PrepareLatent")
    assert {key: latent[key] for key in ("width", "height", "length", "sizing")} == {
        "width": 527,
        "height": 300,
        "length": 80,
        "sizing": "fixed",
    }
    sample = inputs_of(workflow, "WanRelay_Sample")
    assert (sample["steps"], sample["seed"], sample["switch_step"]) == (6, 9, 3)
    assert inputs_of(workflow, "WanRelay_SaveVideo")["fps"] == 24
    assert images == {"Start image": EXAMPLE_IMAGE, "End image": Path(PHOTO)}
    source, slot = latent["end_image"]
    assert (workflow[source]["class_type"], workflow[source]["_meta"]["title"], slot) == ("LoadImage", "End image", 0)


def test_real_files_keep_the_size_of_the_workflow() -> None:
    workflow, _, models = demo_of("--high", "h.gguf", "--low", "l.gguf", "--vae", "v", "--text-encoder", "t")
    assert models == {
        "diffusion_models/h.gguf": Path("h.gguf"),
        "diffusion_models/l.gguf": Path("l.gguf"),
        "vae/v": Path("v"),
        "text_encoders/t": Path("t"),
    }
    assert inputs_of(workflow, "WanRelay_LoadExperts")["low_noise"] == "l.gguf"
    assert inputs_of(workflow, "WanRelay_PrepareLatent")["length"] == 81


def test_the_toy_demo_says_that_it_lowers_the_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    sample = inputs_of(demo_of("--workflow", "wan22_i2v_reference")[0], "WanRelay_Sample")
    assert (sample["high_noise_cfg"], sample["low_noise_cfg"]) == (1.5, 1.5)
    said = "The toy family needs less guidance than the real one: {} is 1.5.\n"
    assert capsys.readouterr().err == said.format("high_noise_cfg") + said.format("low_noise_cfg")


def test_the_toy_demo_of_the_smooth_workflow_has_ffmpeg_make_the_frames_in_between() -> None:
    workflow, _, _ = demo_of("--workflow", "wan22_i2v_smooth", "--fps", "12")
    interpolate = inputs_of(workflow, "WanRelay_InterpolateFrames")
    assert (interpolate["fps"], "model" in interpolate) == (12, False)
    assert inputs_of(workflow, "WanRelay_SaveVideo")["fps"] == ["11", 1]
    assert inputs_of(workflow, "UpscaleModelLoader") == {"model_name": "toy_upscaler_x2.safetensors"}
    with pytest.raises(DevError, match="wan22_i2v_smooth needs an upscaling model as well, which the demo does not"):
        demo_of(
            *("--workflow", "wan22_i2v_smooth", "--high", "h.gguf", "--low", "l.gguf", "--vae", "v"),
            *("--text-encoder", "t"),
        )
