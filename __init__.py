"""ComfyUI-WanRelay: Wan2.2 image-to-video with both experts in one sampler run."""

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .nodes.editor.routes import add_routes
from .nodes.node_list import NODES

WEB_DIRECTORY = "./js"


class WanRelayExtension(ComfyExtension):
    async def on_load(self) -> None:
        add_routes(PromptServer.instance.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> WanRelayExtension:
    return WanRelayExtension()
