"""Is a reward any good for these prompts and this model? Figures of images of the base model, and one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..rewards.port import Reward, RewardBatch, Scores, about
from ..rewards.scoring import score
from ..rewards.stats import RewardStats, all_stats

COLUMNS = ("reward", "mean", "spread", "within a prompt", "own noise", "ties", "failed")
_STEP = 1 / 255
_STRONG, _WEAK = 4.0, 2.0  # spread by noise: from the first on it is clear, up to the second it is lost
_TIED, _FAILED, _TOP = 0.5, 0.1, 0.95


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What was found of one reward.

    Attributes:
        name: its.
        scores: of each prompt's images.
        stats: over all of them; ``within_group`` is the spread within a prompt.
        noise: standard deviation of its scores for one picture that is scored again after a rounding to 8 bits and a
            change of 1/255 at random, which nobody sees; None where nothing was scored twice.
        tied: share of the pairs within a prompt that have the same score.
        top: share of the images that lie at the best score.
        groupwise: its scores compare within a prompt only.
    """

    name: str
    scores: Sequence[Scores]
    stats: RewardStats
    noise: float | None
    tied: float
    top: float
    groupwise: bool

    @property
    def strength(self) -> float | None:
        """The spread within a prompt by the reward's own noise; None where there is none of the former."""
        within = self.stats.within_group
        if within is None or self.noise is None:
            return None
        return within / self.noise if self.noise > 0 else (float("inf") if within > 0 else 0.0)

    @property
    def row(self) -> tuple[str, ...]:
        """The figures under ``COLUMNS``."""
        within, stats = self.stats.within_group, self.stats
        return (
            self.name,
            f"{stats.mean:.4g}",
            f"{stats.spread:.3g}",
            "-" if within is None else f"{within:.3g}",
            "-" if self.noise is None else f"{self.noise:.2g}",
            f"{self.tied:.0%}",
            f"{stats.failed} of {stats.count}",
        )

    @property
    def learnable(self) -> bool:
        """Nothing that was found speaks against it."""
        return self.sentence.startswith("yes")

    @property
    def sentence(self) -> str:
        """Can this be learned from? With the figure that says so, and what to do where it cannot."""
        stats, strength = self.stats, self.strength
        if stats.failed > _FAILED * stats.count:
            return (
                f"no: {stats.failed} of {stats.count} images got no score ({stats.reason or 'no reason was given'}): "
                "mend that first"
            )
        if stats.within_group is None or strength is None:
            return "no: there is one image a prompt only, and GRPO learns from differences within one: take more images"
        if stats.within_group == 0 or self.tied >= 1:
            return "no: all images of a prompt score the same: ask for something that some of them have"
        if self.top > _TOP:
            return f"no: {self.top:.0%} of the images have the best score already: there is nothing left to learn"
        if strength < _WEAK:
            return (
                f"no: the spread within a prompt ({stats.within_group:.3g}) is hardly more than the reward's own noise "
                f"({self.noise:.3g}): judge each image several times, or take another reward"
            )
        if self.tied > _TIED:
            return (
                f"with difficulty: {self.tied:.0%} of the pairs within a prompt are ties, so most teach nothing: "
                "take a finer reward, or more images per prompt"
            )
        if strength < _STRONG:
            return (
                f"with difficulty: the spread within a prompt ({stats.within_group:.3g}) is {strength:.1f} times the "
                "reward's own noise: take more images per prompt and smaller steps"
            )
        times = "far above" if strength > 1000 else f"{strength:.0f} times"
        return f"yes: the spread within a prompt ({stats.within_group:.3g}) is {times} the reward's own noise"


def probe(rewards: Mapping[str, Reward], batches: Sequence[RewardBatch], seed: int = 0) -> list[Probed]:
    """Score the images of each prompt, and again as nobody could tell them apart.

    Args:
        batches: one for each prompt.
        seed: of the changes.
    """
    first = [score(rewards, batch)[0] for batch in batches]
    again = [score(rewards, _changed(batch, seed + number))[0] for number, batch in enumerate(batches)]
    scores = {name: [found[name] for found in first] for name in rewards}
    stats = all_stats(scores)
    return [
        Probed(
            name=name,
            scores=groups,
            stats=stats[name],
            noise=_noise(groups, [found[name] for found in again]),
            tied=_tied(groups),
            top=_top(groups),
            groupwise=about(rewards[name]).groupwise,
        )
        for name, groups in scores.items()
    ]


def correlations(found: Sequence[Probed]) -> list[str]:
    """A sentence for each two rewards that can be compared."""
    return [
        f"{one.name} and {other.name}: correlation within prompts {one.stats.correlation[other.name]:+.2f}"
        for place, one in enumerate(found)
        for other in found[place + 1 :]
        if other.name in one.stats.correlation
    ]


def told(found: Sequence[Probed]) -> str:
    """All that was found, in lines: for each reward whether it can be learned from, and its figures; correlations."""
    lines = []
    for one in found:
        figures = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:], one.row[1:], strict=True))
        lines += [f"{one.name}: can this be learned from? {one.sentence}", f"  {figures}"]
    return "\n".join([*lines, *correlations(found)])


def _changed(batch: RewardBatch, seed: int) -> RewardBatch:
    noise = torch.randint(-1, 2, batch.images.shape, generator=torch.Generator().manual_seed(seed)) * _STEP
    rounded = (batch.images.float() / _STEP).round() * _STEP
    return replace(batch, images=(rounded + noise.to(rounded.device)).clamp(0, 1))


def _noise(first: Sequence[Scores], again: Sequence[Scores]) -> float | None:
    gaps = [(a.values - b.values)[a.valid & b.valid].double() for a, b in zip(first, again, strict=True)]
    found = torch.cat(gaps)
    return float((found.square().mean() / 2).sqrt()) if len(found) else None


def _tied(groups: Sequence[Scores]) -> float:
    same = pairs = 0
    for scores in groups:
        values = scores.values[scores.valid]
        alike = values[:, None] == values[None]
        same += int(alike.triu(1).sum())
        pairs += len(values) * (len(values) - 1) // 2
    return same / pairs if pairs else 0.0


def _top(groups: Sequence[Scores]) -> float:
    values = torch.cat([scores.values[scores.valid] for scores in groups])
    return float((values == values.max()).double().mean()) if len(values) > 1 else 0.0


def extremes(probed: Probed, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The best and the worst images over all prompts: ``(prompt, image)``, the best and the worst first.

    A reward that compares within a prompt gives the best and the worst of each prompt first.
    """
    places: list[tuple[float, int, int]] = []
    for number, scores in enumerate(probed.scores):
        values = scores.values - (_middle(scores) if probed.groupwise else 0.0)
        known = scores.valid.nonzero()[:, 0].tolist()
        places += [(float(values[image]), number, image) for image in known]
    order = [(prompt, image) for _, prompt, image in sorted(places, reverse=True)]
    return order[:count], order[::-1][:count]


def _middle(scores: Scores) -> Tensor:
    return scores.values[scores.valid].mean()
