#!/usr/bin/env bash
# The steps of the image, each of which also runs outside Docker:
#   service/worker/install.sh comfyui    ComfyUI at its pinned version, in COMFYUI_PATH
#   service/worker/install.sh torch      ComfyUI's environment with torch and ComfyUI's own requirements, in COMFYUI_ENV
#   service/worker/install.sh handler    the handler's environment, without torch, in HANDLER_ENV
#   service/worker/install.sh pack       this checkout as a custom node of COMFYUI_PATH (the handler runs from there too)
#   service/worker/install.sh check      boots ComfyUI on the CPU and asks the worker for a ping's worth of nodes
set -euo pipefail

COMFYUI_VERSION=0.30.0
TORCH=(torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${COMFYUI_PATH:=/comfyui}"
: "${COMFYUI_ENV:=/opt/comfyui}"
: "${HANDLER_ENV:=/opt/handler}"
: "${PYTHON:=python3}"
pack=$COMFYUI_PATH/custom_nodes/ComfyUI-WanRelay

comfyui() {
    git clone --quiet --depth 1 --branch "v$COMFYUI_VERSION" https://github.com/comfyanonymous/ComfyUI "$COMFYUI_PATH"
    grep -q "\"$COMFYUI_VERSION\"" "$COMFYUI_PATH/comfyui_version.py"
    rm -rf "$COMFYUI_PATH/.git"
}

torch() {
    "$PYTHON" -m venv "$COMFYUI_ENV"
    "$COMFYUI_ENV/bin/pip" install --no-cache-dir "${TORCH[@]}" -r "$COMFYUI_PATH/requirements.txt"
    "$COMFYUI_ENV/bin/python" -m compileall -q "$COMFYUI_PATH"
}

handler() {
    "$PYTHON" -m venv "$HANDLER_ENV"
    "$HANDLER_ENV/bin/pip" install --no-cache-dir -r "$here/service/worker/requirements.txt"
}

pack() {
    mkdir -p "$pack"
    # What ComfyUI and the handler run; tests, benchmarks and the toy family stay out.
    for part in __init__.py nodes js locales service workflows pyproject.toml LICENSE; do
        rm -rf "${pack:?}/$part"
        cp -R "$here/$part" "$pack/$part"
    done
    find "$pack" -name __pycache__ -type d -prune -exec rm -rf {} +
}

check() {
    cd "$pack"
    local scratch
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' RETURN
    COMFYUI_PATH=$COMFYUI_PATH COMFYUI_BASE=$COMFYUI_PATH COMFYUI_PYTHON=$COMFYUI_ENV/bin/python \
        COMFYUI_ARGS=--cpu COMFYUI_PORT=0 WAN_RELAY_RUN_DIR=$scratch WAN_RELAY_READ_AHEAD=0 \
        "$HANDLER_ENV/bin/python" -m service.worker.handler --test_input '{"id": "check", "input": {"action": "ping"}}'
}

for step in "$@"; do
    case $step in
        comfyui | torch | handler | pack | check) "$step" ;;
        *) echo "install.sh: unknown step $step" >&2 && exit 2 ;;
    esac
done
