"""A model file of core's own nodes that is missing among many: ComfyUI leaves its list out, and is asked for it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from wan_relay.service.worker.comfyui.client import Run
from wan_relay.service.worker.comfyui.failures import refused_prompt

GRAPH: dict[str, Any] = {"3": {"class_type": "VAELoader", "inputs": {}, "_meta": {"title": "VAE"}}}
FILES = [f"other_{number}.safetensors" for number in range(30)] + ["wan_2.1_vae.safetensors"]


def refusal(answer: Any) -> str:
    """What the client is told when ComfyUI's /object_info has this answer."""

    async def main() -> str:
        async def object_info(_: web.Request) -> web.Response:
            return web.json_response(answer)

        app = web.Application()
        app.router.add_get("/object_info/VAELoader", object_info)
        async with TestServer(app) as server, ClientSession() as session:
            run = Run(session, SimpleNamespace(url=str(server.make_url("")).rstrip("/")), GRAPH, lambda *_: None)
            extra = {"input_name": "vae_name", "input_config": None, "received_value": "wan_2.1_vae.safetensor"}
            faults = [{"type": "value_not_in_list", "details": "", "extra_info": extra}]
            node_errors = {"3": {"class_type": "VAELoader", "errors": faults}}
            await run._complete_lists(node_errors)
            return str(refused_prompt({"node_errors": node_errors}, GRAPH))

    return asyncio.run(main())


def test_the_closest_of_many_is_named() -> None:
    listed = {"VAELoader": {"input": {"required": {"vae_name": [FILES]}}}}
    closest = "where the closest name is wan_2.1_vae.safetensors"
    assert (
        refusal(listed)
        == f"MODEL_MISSING: wan_2.1_vae.safetensor is not on this worker, {closest} (node VAE, input vae_name)"
    )


@pytest.mark.parametrize("answer", [None, [], {}, {"VAELoader": None}, {"VAELoader": {"input": {}}}])
def test_without_a_list_the_name_is_told(answer: Any) -> None:
    assert refusal(answer) == "MODEL_MISSING: wan_2.1_vae.safetensor is not on this worker (node VAE, input vae_name)"
