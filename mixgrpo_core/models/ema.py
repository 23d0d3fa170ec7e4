"""Exponential moving average of the LoRA."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Ema:
    """``average <- decay * average + (1 - decay) * weights`` after every optimizer step, in float32."""

    def __init__(self, decay: float, weights: Mapping[str, Tensor]) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an EMA decay lies in 0..1 (below 1), found {decay}")
        self.decay = decay
        self.average = {name: weight.detach().float().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            self.average[name].lerp_(weight.detach().float(), 1 - self.decay)

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(average[name])
