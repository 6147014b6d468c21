#!/usr/bin/env bash
# The container's command: the handler under RunPod's SDK, which starts and watches ComfyUI itself. With
# WAN_RELAY_ENDPOINT_TYPE=LB it serves HTTP of its own on PORT, for an endpoint of type Load Balancer.
# `start.sh platform [--port 8000] [--host 0.0.0.0 --api-key KEY]` serves RunPod's HTTP API in front of the same worker;
# a host that other machines reach needs the key. `start.sh executor` takes tasks from a gateway's queue.
set -euo pipefail

: "${COMFYUI_PATH:=/comfyui}"
: "${COMFYUI_BASE:=$COMFYUI_PATH}"
: "${COMFYUI_PYTHON:=/opt/comfyui/bin/python}"
: "${HANDLER_PYTHON:=/opt/handler/bin/python}"
: "${WAN_RELAY_VOLUME:=/runpod-volume}"
export COMFYUI_PATH COMFYUI_BASE COMFYUI_PYTHON WAN_RELAY_VOLUME

# Known prompts spare the text encoder, for every worker on the same volume.
if [[ -z ${WAN_RELAY_PROMPT_CACHE:-} && -w $WAN_RELAY_VOLUME ]]; then
    export WAN_RELAY_PROMPT_CACHE=$WAN_RELAY_VOLUME/wan_relay/prompts
fi

# tcmalloc keeps ComfyUI's memory from growing with every model that is swapped.
# grep reads the list to its end: ldconfig would die of a closed pipe, and the whole pipeline count as failed.
if [[ -z ${LD_PRELOAD:-} ]] && tcmalloc=$(ldconfig -p 2>/dev/null | grep -o '/.*libtcmalloc_minimal\.so\.[0-9]*'); then
    export LD_PRELOAD=${tcmalloc%%$'\n'*}
fi

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ ${1:-} == platform ]]; then
    exec "$HANDLER_PYTHON" -m service.local_runpod "${@:2}"
fi
if [[ ${1:-} == executor ]]; then
    exec "$HANDLER_PYTHON" -m service.executors.local
fi
exec "$HANDLER_PYTHON" -m service.worker.handler "$@"
