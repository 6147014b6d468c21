"""Makes the checkout importable as the package `wan_relay`, and ComfyUI importable beside it, on the CPU."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

spec = importlib.util.spec_from_file_location("wan_relay_dev", ROOT / "dev.py")
assert spec and spec.loader
dev = importlib.util.module_from_spec(spec)
sys.modules["wan_relay_dev"] = dev
spec.loader.exec_module(dev)

dev.register_package()
if "COMFYUI_PATH" in os.environ:
    dev.use_comfyui(Path(os.environ["COMFYUI_PATH"]))
