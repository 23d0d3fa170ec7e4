"""Gradient checkpointing of a network's blocks, with all that each of them is told.

Diffusers' own has its call of every block written twice, and the one of Chroma leaves out the attention mask.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from .peft_lora import PeftLora

_PART_OF_A_UNET = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(attentions|resnets)\.\d+")


class Checkpointing:
    """Whether the blocks that carry a LoRA are computed again in the backward pass instead of kept."""

    def __init__(self, network: nn.Module, lora: PeftLora) -> None:
        self._lora = lora
        self._blocks = _unet_blocks(network) or [
            block
            for blocks in network.children()
            if isinstance(blocks, nn.ModuleList)
            for block in blocks.children()
            if any(module in lora.layers for module in block.modules())
        ]
        self._whole: list[Callable[..., object]] = []

    @property
    def on(self) -> bool:
        return bool(self._whole)

    @on.setter
    def on(self, wanted: bool) -> None:
        if wanted == self.on:
            return
        if wanted:
            self._whole = [block.forward for block in self._blocks]
            for block, forward in zip(self._blocks, self._whole, strict=True):
                block.forward = partial(self._again, forward)
            return
        for block, forward in zip(self._blocks, self._whole, strict=True):
            block.forward = forward
        self._whole = []

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """Inside, it is on or off."""
        before = self.on
        try:
            self.on = on
            yield
        finally:
            self.on = before

    def _again(self, forward: Callable[..., object], *inputs: object, **named: object) -> object:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return self._lora.checkpointed(forward, *inputs, **named)


def _unet_blocks(network: nn.Module) -> list[nn.Module]:
    """The parts of a UNet's blocks. Those without a LoRA too: a gradient passes through them, and they hold most."""
    return [module for path, module in network.named_modules() if _PART_OF_A_UNET.fullmatch(path)]
