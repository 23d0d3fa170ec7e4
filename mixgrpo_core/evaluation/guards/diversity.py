"""Diversity: a policy that draws every prompt in one way has found what the reward likes, and nothing else is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from ...support.embedding import Embedding, SmallPixels
from ...support.setting import require_finite
from .port import Alarm, EvaluationView, Guard, Memory, level_of, require_thresholds


@dataclass(frozen=True)
class DiversityLoss(Guard):
    """The mean distance between the images of a held-out prompt, as a share of what it was at the first evaluation.

    Learning to obey the prompt costs diversity, too, where the model ignored it before: a run of the demo model, which
    draws a wrong colour or shape every other time, honestly keeps 40 %. Ours.

    Attributes:
        warn, stop: shares in 0..1 below which there is an alarm; None for never. Common for tuned models are 0.7, 0.5.
        embed: what distances are taken of. Needs at least two held-out images per prompt.
    """

    label: ClassVar[str] = "sameness"

    warn: float | None = 0.7
    stop: float | None = None
    embed: Embedding = SmallPixels()

    def __post_init__(self) -> None:
        require_finite(self)
        require_thresholds(self.warn, self.stop)

    def measure(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        if len(images) < 2:
            return {}
        distances = functional.pdist(self.embed(images).double())
        return {"distance": [float(distances.mean())]}

    def judge(self, seen: EvaluationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        distances = seen.measured.get("distance")
        if not distances:
            return None, memory
        mean, embed = sum(distances) / len(distances), repr(self.embed)
        if memory.get("embed") != embed:  # the first evaluation, or distances of another kind
            return None, {"embed": embed, "distance": mean}
        share = mean / memory["distance"] if memory["distance"] else 1.0
        level = level_of(self.warn, self.stop, lambda least: share < least)
        return level and Alarm(guard="DiversityLoss", level=level, sentence=_sentence(share)), memory


def _sentence(share: float) -> str:
    return (
        f"the images of a prompt have become alike ({share:.0%} of the diversity at the start): stop here, or go on "
        "with a lower learning rate, a KL weight, more prompts or a second reward"
    )
