"""Gradient checkpointing of a network's blocks, with all that each of them is told.

Diffusers' own has its call of every block written twice, and the one of Chroma leaves out the attention mask.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from .peft_lora import PeftLora
from .repeated import repeated_blocks


class Checkpointing:
    """Whether the repeated blocks are computed again in the backward pass instead of kept."""

    def __init__(self, network: nn.Module, lora: PeftLora) -> None:
        self._lora = lora
        self._blocks = list(repeated_blocks(network, lora).values())
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
