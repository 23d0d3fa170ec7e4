"""Any Python function as a reward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .port import RewardBatch, Scores, StatelessReward


@dataclass(frozen=True)
class FunctionReward(StatelessReward):
    """``function(images [G, H, W, 3] in 0..1, prompts) -> [G]`` numbers, higher is better; those not finite are masked.

    Example:
        ``FunctionReward(lambda images, prompts: images[..., 0].mean((1, 2)))`` likes red.
    """

    function: Callable[[Tensor, tuple[str, ...]], Tensor | Sequence[float]]

    def __call__(self, batch: RewardBatch) -> Scores:
        values = self.function(batch.images, batch.prompts)
        return Scores.of(values if isinstance(values, Tensor) else Tensor(list(values)))
