"""The nodes of the pack, in the order in which they are registered."""

from comfy_api.latest import io

NODES: list[type[io.ComfyNode]] = []
