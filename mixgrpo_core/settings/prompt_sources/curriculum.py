"""A curriculum of prompts from easy to hard, after POCA (arXiv 2604.24171): it learns from the training's rollouts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...sampling.planners import GroupResult
from ...support.facts import RunFacts
from ...support.memory import NOTHING, Memory
from ...support.seeds import derive_seed
from ...support.setting import require_finite
from .port import PromptDraw, PromptSource

MEANS = "means"
"""What is remembered: the running mean of the difficulty reward by the prompt's number, as text for JSON's sake."""
Shares = tuple[float, float, float]
"""Of easy, medium and hard prompts."""


def ecdf(values: Tensor) -> Tensor:
    """The empirical distribution at its own points ``[N]``: the share of ``values`` that are at most as large."""
    return torch.searchsorted(values.sort().values, values, right=True).double() / len(values)


def difficulty_classes(means: Tensor, easy: float, hard: float, drop: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which prompts are easy, medium and hard: bool ``[N]`` each; an extreme one is none of them.

    Args:
        means: ``[N]``, mean reward of each prompt; a large one is easy.
        easy: least ECDF of an easy prompt, which is of no other class.
        hard: largest ECDF of a hard one.
        drop: a prompt is extreme where at most this share of all is as hard as it, or harder; or as easy, or easier.
            Where all are extreme, none is dropped.
    """
    at_most, at_least = ecdf(means), ecdf(-means)
    kept = (at_most > drop) & (at_least > drop)
    if not bool(kept.any()):
        kept = torch.ones_like(kept)
    is_easy = at_most >= easy
    is_hard = ~is_easy & (at_most <= hard)
    return is_easy & kept, ~is_easy & ~is_hard & kept, is_hard & kept


@dataclass(frozen=True)
class PocaCurriculum(PromptSource):
    """Mostly easy prompts first, mostly medium ones later, then hard ones; which are which is learned on the way.

    A prompt's difficulty is the running mean of a reward over its rollouts. With F the empirical distribution of these
    means, prompts of ``F >= easy`` are easy, of ``F <= hard`` hard, the others medium. In each of three stages the
    classes have their shares of an iteration's prompts, drawn evenly within a class, each prompt once an iteration
    where there are enough.

    Prompts that were never rolled out have no class: they have the share of the iteration that they have of the pool,
    so at first all is exploration, and no prompt is drawn for being easy before there is something to compare it with.
    The share of a class without prompts goes to the others (where all prompts are alike they are of one class, and the
    draw is even), and so do places that a class is too small for. Where the pool is smaller than the iteration, every
    prompt comes before any comes again.

    After POCA (arXiv 2604.24171), from a detailed note on the paper: thresholds, shares and three stages are the
    paper's. Differences: it scores the whole pool anew at each stage, a rollout per prompt; here the means are those
    of the training's own rollouts, and classes follow them in every iteration. Its stages' lengths and which prompts
    are extreme are not known: the lengths here are thirds of its 300 iterations.

    Traps: a mean lags behind the policy by about ``1 / rate`` visits. A reward that compares images within a group
    (``RewardInfo.groupwise``) has the same mean for every prompt and tells no difficulty. What is dropped is not rolled
    out and keeps its mean, until enough others have passed it.

    Attributes:
        reward: name of the reward that tells the difficulty, large for easy prompts, among those that are trained on;
            empty for the plain mean of all of them.
        until: the iterations at which the second and the third stage begin.
        shares: of easy, medium and hard prompts in each stage.
        easy, hard: thresholds of the distribution.
        drop: share at either end that counts as too hard or too easy and is left out; of fewer than 1 / drop prompts
            none is.
        rate: what a new mean weighs against the remembered one, 0 < rate <= 1 (ours).
    """

    label: ClassVar[str] = "curriculum (after POCA)"

    reward: str = ""
    until: tuple[int, int] = (100, 200)
    shares: tuple[Shares, Shares, Shares] = ((0.6, 0.3, 0.1), (0.4, 0.5, 0.1), (0.1, 0.6, 0.3))
    easy: float = 0.7
    hard: float = 0.3
    drop: float = 0.02
    rate: float = 0.5

    def __post_init__(self) -> None:
        require_finite(self)
        if not (len(self.until) == 2 and 0 <= self.until[0] <= self.until[1]):
            raise ValueError(f"until holds the two iterations at which stages begin, ascending, found {self.until}")
        whole = [len(stage) == 3 and min(stage) >= 0 and abs(sum(stage) - 1) < 1e-6 for stage in self.shares]
        if whole != [True] * 3:
            raise ValueError(f"shares holds three stages of three shares that sum to 1, found {self.shares}")
        if not 0 <= self.hard < self.easy <= 1:
            raise ValueError(f"expected 0 <= hard < easy <= 1, found hard={self.hard} and easy={self.easy}")
        if not 0 <= self.drop < 0.5:
            raise ValueError(f"drop must be 0 or more and below 0.5, found {self.drop}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must be above 0 and at most 1, found {self.rate}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` where the reward that tells the difficulty is none of the trained ones."""
        if self.reward and self.reward not in facts.rewards:
            raise ValueError(
                f"PocaCurriculum goes by the reward {self.reward!r}, but those that are trained on are "
                f"{sorted(facts.rewards)}: name one of them, or leave it empty for all"
            )
        telling = {self.reward} if self.reward else {*facts.rewards}
        if telling <= {*facts.groupwise}:
            raise ValueError(
                f"PocaCurriculum goes by mean rewards of prompts, but {' and '.join(sorted(telling))} compares the "
                "images of a prompt with each other and has one mean for all prompts: name another "
                "reward, or take Shuffled()"
            )

    def choose(self, draw: PromptDraw, memory: Memory = NOTHING) -> list[int]:
        """Places of a draw of (seed, iteration, memory), in a random order."""
        generator = torch.Generator().manual_seed(derive_seed("curriculum", draw.seed, draw.iteration))
        classes = self._classes(draw.pool, memory.get(MEANS, {}))
        there = [place for members in classes for place in members]
        again, count = divmod(draw.count, len(there))
        shares = self._shares(draw, [len(members) for members in classes])
        numbers = _numbers(shares, count, float(torch.rand((), generator=generator, dtype=torch.float64)))
        chosen, spare = [], []
        for members, number in zip(classes, numbers, strict=True):
            shuffled = _shuffled(members, generator)
            chosen += shuffled[:number]
            spare += shuffled[number:]
        chosen += _shuffled(spare, generator)[: count - len(chosen)]
        return _shuffled(there * again + chosen, generator)

    def learn(self, memory: Memory, groups: Sequence[GroupResult]) -> Memory:
        """With the means of these groups' valid scores; several groups of one prompt count as one."""
        heard: dict[str, list[float]] = {}
        for group in groups:
            mean = self._mean(group)
            if mean is not None:
                heard.setdefault(str(group.prompt), []).append(mean)
        means = dict(memory.get(MEANS, {}))
        for prompt, found in heard.items():
            new = math.fsum(found) / len(found)
            means[prompt] = means[prompt] + self.rate * (new - means[prompt]) if prompt in means else new
        return {**memory, MEANS: means} if means else memory

    def _mean(self, group: GroupResult) -> float | None:
        """Of the difficulty reward over one group; None where no image has a score."""
        judging = [group.scores[self.reward]] if self.reward else list(group.scores.values())
        means = [float(scores.values[scores.valid].double().mean()) for scores in judging if bool(scores.valid.any())]
        mean = math.fsum(means) / len(means) if means else math.nan
        return mean if math.isfinite(mean) else None

    def _classes(self, pool: int, means: Mapping[str, float]) -> list[list[int]]:
        """Places that were never rolled out, easy, medium and hard ones; ascending."""
        seen = [place for place in range(pool) if str(place) in means]
        unseen = [place for place in range(pool) if str(place) not in means]
        known = torch.tensor([means[str(place)] for place in seen], dtype=torch.float64)
        if not seen:
            return [unseen, [], [], []]
        masks = difficulty_classes(known, self.easy, self.hard, self.drop)
        return [unseen, *([seen[i] for i in mask.nonzero()[:, 0].tolist()] for mask in masks)]

    def _shares(self, draw: PromptDraw, sizes: Sequence[int]) -> list[float]:
        """What the four classes have of an iteration; of those with prompts they sum to 1."""
        stage = self.shares[sum(draw.iteration >= start for start in self.until)]
        fresh = sizes[0] / draw.pool
        there = [share if size else 0.0 for share, size in zip(stage, sizes[1:], strict=True)]
        if not any(there):  # only classes of share 0 have prompts
            there = [float(size) for size in sizes[1:]]
        total = sum(there) or 1.0
        return [fresh, *((1 - fresh) * share / total for share in there)]


def _numbers(shares: Sequence[float], count: int, offset: float) -> list[int]:
    """Whole numbers near ``count * shares`` that sum to ``count``, and are these on the mean over offsets in 0..1."""
    edges, so_far = [], 0.0
    for share in shares:
        so_far += share * count
        edges.append(min(count, math.floor(so_far + offset)))
    edges[-1] = count  # whatever rounding did to the sum
    return [edge - before for edge, before in zip(edges, [0, *edges[:-1]], strict=True)]


def _shuffled(places: Sequence[int], generator: torch.Generator) -> list[int]:
    return [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]
