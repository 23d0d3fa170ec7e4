"""The repeated blocks of a network: what gradient checkpointing computes again, and what may wait in main memory."""

import re
from collections.abc import Mapping

from torch import nn

from .peft_lora import PeftLora

_PART_OF_A_UNET = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(attentions|resnets)\.\d+")
AT_ONCE = 2
"""Blocks that wait in main memory and are on the device: the one whose turn it is, and the next."""


def repeated_blocks(network: nn.Module, lora: PeftLora) -> Mapping[str, nn.Module]:
    """By their paths: the blocks that carry the LoRA. Of a UNet its attentions and its residual parts, of which those
    without a LoRA hold most."""
    parts = {path: module for path, module in network.named_modules() if _PART_OF_A_UNET.fullmatch(path)}
    return parts or {
        f"{path}.{place}": block
        for path, blocks in network.named_children()
        if isinstance(blocks, nn.ModuleList)
        for place, block in blocks.named_children()
        if any(module in lora.layers for module in block.modules())
    }


def waiting_places(count: int, blocks: int, network: str) -> list[int]:
    """Which of a network's blocks wait in main memory: ``count`` of them, evenly over all.

    Raises:
        ValueError: there are fewer, or so few are asked for that it saves nothing.
    """
    if count and not blocks:
        raise ValueError(f"a {network} has no repeated blocks that could wait: leave model.offload out")
    if count > blocks:
        raise ValueError(f"expected at most the {blocks} blocks of a {network} in model.offload, found {count}")
    if 0 < count <= AT_ONCE:
        raise ValueError(
            f"expected model.offload of {AT_ONCE + 1} or more, found {count}: the block whose turn it is and the next "
            "one are on the device at once, so that fewer save nothing"
        )
    return [place for place in range(blocks) if (place + 1) * count // blocks > place * count // blocks]
