"""dev.py's arguments, and its sentences about mistakes."""

import errno
import socket
from pathlib import Path

import pytest
from wan_relay.tools import checks, command_line
from wan_relay.tools.comfyui_server import free_port
from wan_relay.tools.command_line import main, parse
from wan_relay.tools.demo_workflow import EXAMPLE_IMAGE
from wan_relay.tools.environment import ROOT, Environment
from wan_relay.tools.processes import DevError

PHOTO = str(EXAMPLE_IMAGE)


SENTENCES = {
    "demo --steps 0": "Argument --steps: expected a whole number from 1 to 200, got '0'.",
    "demo --steps 1.5": "Argument --steps: expected a whole number from 1 to 200, got '1.5'.",
    "demo --seed -5": "Argument --seed: expected a whole number from 0 to 18446744073709551615, got '-5'.",
    "demo --length many": "Argument --length: expected a whole number from 1 to 1025, got 'many'.",
    "demo --fps 0": "Argument --fps: expected a number from 1 to 480, got '0'.",
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
    "gateway --backend runpod": "--backend: expected local or the URL of a RunPod endpoint, got runpod.",
    "gateway --backend https:///x": "--backend: expected local or the URL of a RunPod endpoint, got https:///x.",
    "gateway --port 70000": "Argument --port: expected a whole number from 1 to 65535, got '70000'.",
    "render": "Argument COMMAND: invalid choice: 'render' (choose from demo, test, serve, worker, gateway, bench, env, "
    "run).",
}


@pytest.mark.parametrize("line", SENTENCES)
def test_a_mistake_is_one_sentence(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    out, err = capfd.readouterr()
    assert (
        out,
        err.replace(
            "(choose from 'demo', 'test', 'serve', 'worker', 'gateway', 'bench', 'env', 'run')",
            "(choose from demo, test, serve, worker, gateway, bench, env, run)",
        ),
    ) == ("", SENTENCES[line] + "\n")


@pytest.mark.parametrize("line", ["", "-q", "tests/toy -q", "-q tests/toy", "-k lora -x tests/toy", "--durations=5 -q"])
def test_pytest_gets_its_arguments_in_their_order(line: str) -> None:
    assert parse(["test", *line.split()]).arguments == line.split()


def test_options_alone_run_all_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    env = Environment(*map(Path, ("python", "comfyui", "models", "pack")))
    monkeypatch.setattr(checks, "environment", lambda purpose: env)
    monkeypatch.setattr(checks, "need_browser", lambda: None)
    monkeypatch.setattr(checks, "check_javascript", lambda _: None)
    monkeypatch.setattr(checks, "output_of", lambda *_, **__: (0, ""))
    monkeypatch.setattr(checks, "become", lambda command, _: ran.append([str(part) for part in command]))
    monkeypatch.chdir(ROOT)
    tests, one = str(ROOT / "tests"), f"{ROOT}/tests/test_dev.py::test_that"
    for line in ("", "-q", f"-q {one}", "tests/toy -q", "-k worker"):
        main(["test", *line.split()])
    given = [command[command.index("--rootdir") + 2 :] for command in ran]
    assert given == [[tests], ["-q", tests], ["-q", one], ["tests/toy", "-q"], ["-k", "worker", tests]]


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")

    monkeypatch.setattr(command_line, "environment", full)
    assert main(["env"]) == 1
    assert capsys.readouterr().err == "No space left on device: /somewhere/file.\n"


@pytest.mark.parametrize(("line", "options"), [("", ["toy-size"]), ("--full-size --tls", ["full-size", "tls"])])
def test_the_gateways_options_reach_it(line: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    env = Environment(*map(Path, ("python", "comfyui", "models", "pack")))
    monkeypatch.setattr(command_line, "environment", lambda purpose: env)
    monkeypatch.setattr(command_line, "become", lambda command, _: ran.append([str(part) for part in command]))
    port = str(free_port())
    main(["gateway", "--port", port, *line.split()])
    assert [command[command.index("tools.gateway") + 1 :] for command in ran] == [[port, "local", *options]]


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevError, match=f"^Port {port} is taken; name another one with --port.$"):
            command_line.check_port(port)
    command_line.check_port(free_port())
