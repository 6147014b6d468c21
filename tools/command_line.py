"""The commands of dev.py and their arguments: each sets up what it needs, then becomes the program that does it."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from . import demo_workflow
from .arguments import Parser, number
from .checks import test
from .environment import ROOT, environment
from .processes import DevError, become, child, run_command, say
from .toy_workflows import TOY_FILES

ABOUT = "The project's one command: sets the environment up on first use, then does what it is asked."


def demo(options: argparse.Namespace) -> None:
    demo_workflow.check_files(options)
    demo_workflow.demo_workflow(options)
    env = environment()
    become(env.inside("tools.demo", *options.given), env.variables())


def serve(options: argparse.Namespace) -> None:
    env = environment()
    check_port(options.port)
    become(env.inside("tools.serve", options.port), env.variables())


def worker(options: argparse.Namespace) -> None:
    env = environment("worker")
    check_port(options.port)
    how = ["--api-key", options.api_key] if options.api_key else []
    how += ["--load-balancer"] if options.load_balancer else []
    toy = {"WAN_RELAY_MODEL_FILES": json.dumps(TOY_FILES)}
    become(env.inside("service.local_runpod", "--port", options.port, *how), env.variables() | toy)


def gateway(options: argparse.Namespace) -> None:
    parts = urlsplit(options.backend)
    if options.backend != "local" and not (parts.scheme in ("http", "https") and parts.hostname):
        raise DevError(f"--backend: expected local or the URL of a RunPod endpoint, got {options.backend}.")
    env = environment("gateway")
    check_port(options.port)
    how = ["full-size" if options.full_size else "toy-size", *(["tls"] if options.tls else [])]
    keys = {"WAN_RELAY_API_KEYS": options.api_key} if options.api_key else {}
    become(env.inside("tools.gateway", options.port, options.backend, *how), env.variables() | keys)


def check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        raise DevError(f"Port {port} is taken; name another one with --port.") from None


def bench(options: argparse.Namespace) -> None:
    names = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem != "__init__")
    if options.name and options.name not in names:
        raise DevError(f"There is no benchmark {options.name!r}; there are {', '.join(names)}.")
    env = environment("test")
    for name in [options.name] if options.name else names:
        say(f"--- {name}")
        with child(env.inside(f"bench.{name}"), env=os.environ | env.variables()) as process:
            if process.wait():
                raise DevError(f"The benchmark {name} ended with exit code {process.returncode}.")


def show_env(_: argparse.Namespace) -> None:
    print(json.dumps({key: str(value) for key, value in environment()._asdict().items()}))


def run(options: argparse.Namespace) -> None:
    env = environment("test")
    become(env.inside(options.module, *options.arguments), env.variables())


def command_line() -> Parser:
    parser = Parser(prog="dev.py", description=ABOUT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    demo_workflow.add_arguments(command("demo", demo, "one image to an mp4, through a ComfyUI of its own"))
    added = command("test", test, "format, lint, types, then pytest with the arguments given")
    added.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    added = command("serve", serve, "ComfyUI with this pack and the toy models, for the graph editor")
    added.add_argument("--port", type=number(1, 65535), default=8188)
    added = command("worker", worker, "the RunPod worker on a local RunPod platform")
    added.add_argument("--port", type=number(1, 65535), default=8000)
    added.add_argument("--api-key", metavar="KEY")
    added.add_argument("--load-balancer", action="store_true", help="as a worker of a Load Balancer endpoint")
    added = command("gateway", gateway, "an HTTP gateway for several providers' clients, with one executor")
    added.add_argument("--port", type=number(1, 65535), default=8100)
    added.add_argument("--api-key", metavar="KEY")
    added.add_argument(
        "--backend", default="local", metavar="local|URL", help="ComfyUI here, or a RunPod endpoint's URL"
    )
    added.add_argument("--full-size", action="store_true", help="as large as it was asked for, not at toy size")
    added.add_argument("--tls", action="store_true", help="HTTPS, by a certificate of the gateway's own")
    added = command("bench", bench, "the benchmarks in bench/, or one of them")
    added.add_argument("name", nargs="?", metavar="NAME")
    command("env", show_env, "where everything lies, as one JSON object")
    added = command("run", run, "run one module of this checkout in the environment")
    added.add_argument("module", metavar="MODULE")
    added.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; `given` is what followed the command's name, as it was typed."""
    parser = command_line()
    options, unknown = parser.parse_known_args(arguments)
    if unknown and options.run is not test:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if unknown:  # argparse hands on what follows a first plain argument; pytest's options may come before it
        options.arguments = [*unknown, *options.arguments]
    options.given = arguments[1:]
    return options


def main(arguments: list[str]) -> int:
    def command() -> None:
        options = parse(arguments)
        options.run(options)

    return run_command(command)
