"""Side-by-side benchmarks; each module is one, and this is what they share."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_fresh_process(benchmark: str, *arguments: object, **variables: object) -> Any:
    """What `bench.<benchmark>` prints last, as JSON, when it is run by itself with these arguments and environment
    variables: a process that has loaded nothing else yet. Raises RuntimeError with what it wrote when it fails.
    """
    command = [sys.executable, "-P", Path(__file__).parents[1] / "dev.py", "run", f"bench.{benchmark}", *arguments]
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def memory_mb(field: str, process: int | str = "self") -> float:
    """Megabytes by Linux's account: VmRSS, what a process holds, or VmHWM, the most it held since `forget_peak`."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def forget_peak() -> float:
    """Let this process's peak start anew, which a new process has from its parent; returns what it holds now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # see proc(5)
    return memory_mb("VmRSS")
