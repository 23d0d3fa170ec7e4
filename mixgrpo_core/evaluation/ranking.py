"""Images in the order that rewards put them in: what `Score Images` and ``mixgrpo score`` show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..advantages.group import mix_advantages, require_weights
from ..rewards.port import Reward, RewardBatch, Scores
from ..rewards.scoring import Failure, score


@dataclass(frozen=True, kw_only=True)
class ImageRanking:
    """Scores of images, and their order.

    Attributes:
        scores: per reward, of all images in the order they were given.
        order: indices of the images, best first; those without any score last.
        failures: what rewards could not score, and why.
    """

    scores: Mapping[str, Scores]
    order: tuple[int, ...]
    failures: Sequence[Failure] = ()

    def words(self, index: int) -> list[str]:
        """``name value`` of every reward for one image; a dash where it was not scored."""
        return [in_words(name, found, index) for name, found in self.scores.items()]

    def table(self, labels: Sequence[str]) -> str:
        """A line per image, best first, and a sentence per failure."""
        lines = [f"{place}. {labels[i]}: {', '.join(self.words(i))}" for place, i in enumerate(self.order, start=1)]
        return "\n".join([*lines, *map(str, self.failures)])


def ranked(
    batches: Sequence[RewardBatch], rewards: Mapping[str, Reward], weights: Mapping[str, float] | None = None
) -> ImageRanking:
    """Score ``batches`` and rank all their images together, see `ranking_of`.

    Args:
        batches: of one size each; a batch is a group to groupwise rewards.
        weights: per reward; 1 where unnamed.

    Raises:
        ValueError: no images, no rewards, or weights that are no weights; before anything is scored.
    """
    if not batches:
        raise ValueError("expected images and rewards, found none: give at least one of each")
    weights = weights_of(rewards, weights or {})
    return ranking_of([score(rewards, batch) for batch in batches], weights)


def weights_of(rewards: Mapping[str, Reward], weights: Mapping[str, float]) -> dict[str, float]:
    """How much each reward counts; 1 where unnamed. Raises ``ValueError``: no rewards, or weights that are none."""
    if not rewards:
        raise ValueError("expected images and rewards, found none: give at least one of each")
    found = {name: weights.get(name, 1.0) for name in rewards}
    require_weights(found)
    return found


def ranking_of(
    scored: Sequence[tuple[Mapping[str, Scores], Sequence[Failure]]], weights: Mapping[str, float]
) -> ImageRanking:
    """The images of all batches that were ``scored``, ranked together.

    Several rewards are each brought to mean 0 and spread 1 over the images and averaged with their weights, as in
    training; a reward of weight 0 is shown and does not count.
    """
    found, failures = zip(*scored, strict=True)
    scores = {
        name: Scores(torch.cat([each[name].values for each in found]), torch.cat([each[name].valid for each in found]))
        for name in weights
    }
    return ImageRanking(
        scores=scores,
        order=_order(mix_advantages(scores, weights), torch.stack([each.valid for each in scores.values()]).any(0)),
        failures=[failure for each in failures for failure in each],
    )


def in_words(name: str, scores: Scores, index: int) -> str:
    """``name value`` of one image; a dash where it was not scored."""
    return f"{name} {float(scores.values[index]):.4g}" if bool(scores.valid[index]) else f"{name} -"


def _order(advantage: Tensor, scored: Tensor) -> tuple[int, ...]:
    """Best first; equal ones stay as they were given; unscored ones come last."""
    return tuple(sorted(range(len(advantage)), key=lambda i: (not bool(scored[i]), -float(advantage[i]))))
