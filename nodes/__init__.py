"""The nodes of this pack. Only this folder knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .demo import DemoModel
from .prompts import PromptSetNode

NODES: list[type[io.ComfyNode]] = [DemoModel, PromptSetNode]


class MixGRPOExtension(ComfyExtension):
    """All nodes of the pack, in the order of a workflow."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
