"""A child process is ended with all that it started, and does not outlive its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from wan_relay.service.child_process import end_child, start_child
from wan_relay.tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

# Starts a grandchild, says both process ids, and waits; `polite` ends on SIGTERM and says so.
FAMILY = """
import os, signal, subprocess, sys, time
grandchild = subprocess.Popen(["sleep", "600"])
def stop(*_):
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop if sys.argv[1] == "polite" else signal.SIG_IGN)
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """A zombie has ended; in a container without an init process it may stay one."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state not in ("", "Z", "Zs")


def wait_until_gone(*pids: int) -> None:
    wait_until(lambda: not any(map(is_running, pids)))


@pytest.mark.parametrize(
    ("manners", "grace_s", "last"), [("polite", 20.0, "stopped\n"), ("rude", 0.3, ""), ("polite", 0, "")]
)
def test_the_whole_group_is_ended(manners: str, grace_s: float, last: str) -> None:
    child = start_child([sys.executable, "-c", FAMILY, manners], stdout=subprocess.PIPE, text=True)
    own, grandchild = map(int, child.stdout.readline().split())
    assert own == child.pid == os.getpgid(grandchild) != os.getpgid(0)
    end_child(child, grace_s)
    assert child.returncode == (0 if last else -signal.SIGKILL)
    wait_until_gone(own, grandchild)
    assert child.stdout.read() == last
    end_child(child, grace_s)  # a second time does nothing


def test_what_a_child_that_ended_by_itself_left_behind_is_ended() -> None:
    child = start_child([sys.executable, "-c", FAMILY, "polite"], stdout=subprocess.PIPE, text=True)
    own, grandchild = map(int, child.stdout.readline().split())
    os.kill(own, signal.SIGKILL)
    child.wait(30)
    assert is_running(grandchild)
    end_child(child)
    wait_until_gone(grandchild)
    child.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a death signal")
def test_a_child_dies_with_its_parent() -> None:
    parent_code = f"""
import runpy, sys, time
start = runpy.run_path({str(ROOT / "service" / "child_process.py")!r})["start_child"]
print(start(["/bin/sleep", "600"]).pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait(30)
    wait_until_gone(child)
    parent.stdout.close()
