"""The reward port: images in, one score and one validity flag per image out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """What a reward sees: the images of one group.

    Attributes:
        images: ``[G, H, W, 3]`` in 0..1, on any device.
        prompts: the prompt of every image, ``G`` of them (all equal within a group).
        group: a number that tells groups apart.
        context: what some rewards ask for beyond the prompt (negative prompt, reference image, mask, seed).
    """

    images: Tensor
    prompts: tuple[str, ...]
    group: int = 0
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise ValueError(f"expected images [G, H, W, 3], found {list(self.images.shape)}")
        if len(self.prompts) != len(self.images):
            raise ValueError(f"expected one prompt per image ({len(self.images)}), found {len(self.prompts)}")


@dataclass(frozen=True)
class Scores:
    """Values ``[G]`` and which of them count ``[G]``. A failed score is a masked sample, never a 0."""

    values: Tensor
    valid: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "Scores":
        """Scores that all count where they are finite numbers."""
        values = values.detach().float()
        return cls(values, torch.isfinite(values))


class Reward(Protocol):
    """Scores a group of images. It owns its device and its memory; higher is better."""

    def prepare(self, prompts: Sequence[str]) -> None:
        """Hears every prompt of the run once before it starts (to embed texts, to refuse what it cannot score)."""
        ...

    def __call__(self, batch: RewardBatch) -> Scores: ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume: tensors and JSON values; usually nothing."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
