"""`dev.py test`: format, lint and types, then pytest."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .environment import ROOT, environment
from .npm_packages import has_npm, installed_packages
from .processes import DevError, become, output_of, say

CHROMIUM = Path("/usr/bin/chromium")


def test(options: argparse.Namespace) -> None:
    env = environment("test")
    need_browser()
    caches = env.models.parent
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wan_relay").symlink_to(ROOT)  # a checkout's folder may have any name; the package has this one
        checks: dict[str, list[Any]] = {
            "Formatting": ["ruff", "format", "--check", "--no-cache", ROOT],
            "Lint": ["ruff", "check", "--no-cache", ROOT],
            "Types": [
                "mypy",
                "--config-file",
                ROOT / "pyproject.toml",
                "--cache-dir",
                caches / "mypy",
                "-p",
                "wan_relay",
            ],
        }
        for title, command in checks.items():
            say(f"{title}: {command[0]}")
            code, errors = output_of([env.python, "-m", *command], timeout_s=1800, cwd=folder)
            if code:
                say(errors)
                raise DevError(f"{title}: {command[0]} found something, above.")
    check_javascript(caches)
    tests = ROOT / "tests"
    pytest = [env.python, "-P", "-m", "pytest", "-c", tests / "pytest.ini", "--rootdir", ROOT]
    paths = (Path(argument.partition("::")[0]).resolve() for argument in options.arguments)
    names_tests = any(path.is_relative_to(tests) and path.exists() for path in paths)
    become([*pytest, *options.arguments, *([] if names_tests else [tests])], env.variables())


def check_javascript(caches: Path) -> None:
    """The types of js/, by TypeScript, which is installed once in the cache; said and skipped where there is no npm."""
    if not has_npm():
        say("There is no npm, so the types of js/ are not checked.")
        return
    say("Types of js/: tsc")
    project = ROOT / "tools" / "js_check"
    tsc = installed_packages(project, caches, "js") / "node_modules" / ".bin" / "tsc"
    code, _ = output_of([tsc, "--project", project], timeout_s=300)
    if code:
        raise DevError("Types of js/: tsc found something, above.")


def need_browser() -> None:
    """The browser tests drive Debian's Chromium: install it where that can be done, else say what will be skipped."""
    if CHROMIUM.exists():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("Installing Chromium for the browser tests.")
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        output_of([*apt, "update"], timeout_s=300, env=quiet)
        output_of([*apt, "install", "-y", "--no-install-recommends", "chromium"], timeout_s=900, env=quiet)
    if not CHROMIUM.exists():
        say(f"There is no {CHROMIUM}, and it cannot be installed from here: the tests in tests/browser are skipped.")
