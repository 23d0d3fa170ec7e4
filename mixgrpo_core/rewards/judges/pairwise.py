"""Images against each other: a group's win rates, for judges that compare better than they rate.

    w_i = mean over the answered pairs {i, j} of (p(i, j) + 1 - p(j, i)) / 2

p(i, j) is the judge's preference for the image that it is shown first, so a liking for the first place cancels. A pair
of which an answer is missing is left out; an image without any pair left is masked. A group's win rates as rewards are
those of Pref-GRPO (arXiv 2508.20751).
"""

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Protocol

from ...support.seeds import derive_seed
from ...support.setting import require_finite
from ..port import RewardBatch, RewardInfo, Scores, StatelessReward
from .chat import Chat, Question
from .judge import of_the_model, problems, scores_of
from .reading import Reading, share_of_first, verdict
from .scoring import check_weights, weighted_mean
from .templates import SLOT, fill, read_template


class Comparison(Protocol):
    """How a judge is asked about two images.

    Attributes:
        template: file of the question, see `templates.read_template`.
        max_tokens: of the answer.
    """

    @property
    @abstractmethod
    def template(self) -> str:
        """File of the question, see `templates.read_template`."""
        ...

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Tokens of the answer at most."""
        ...

    @abstractmethod
    def read(self, text: str) -> Reading:
        """Preference for the first image, 0 to 1."""
        ...


@dataclass(frozen=True)
class Verdict:
    """ "Image 1 is better", "Image 2 is better", or both are equally good: 1, 0 or 1/2."""

    template: str = "pair_rank.txt"
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        require_finite(self)

    def read(self, text: str) -> Reading:
        return verdict(text)


@dataclass(frozen=True)
class PairScores:
    """UnifiedReward 2.0's shares of two images per aspect; the weighted mean.

    Attributes:
        aspects: (label, weight).
    """

    aspects: tuple[tuple[str, float], ...] = (("Alignment Score", 1.0), ("Coherence Score", 1.0), ("Style Score", 1.0))
    template: str = "pair_scores.txt"
    max_tokens: int = 256

    def __post_init__(self) -> None:
        require_finite(self)
        check_weights(self.aspects)

    def read(self, text: str) -> Reading:
        return weighted_mean(self.aspects, lambda label: share_of_first(text, label))


@dataclass(frozen=True)
class PairwiseReward(StatelessReward):
    """The share of comparisons within its group that an image wins, 0 to 1.

    A group of G takes G (G - 1) questions; with opponents, G times their number.

    Attributes:
        chat: who is asked.
        comparison: what for.
        opponents: how many other images each is compared with; 0 for all. They are drawn per group and iteration.
        template: file of another question than the comparison's own.
        question: that question itself; ``{prompt}`` in it is where the prompt goes.
        seed: of the draw.
    """

    chat: Chat
    comparison: Comparison = Verdict()
    opponents: int = 0
    template: str = ""
    question: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.opponents < 0:
            raise ValueError(f"expected opponents of at least 0 (all), found {self.opponents}")

    @property
    def about(self) -> RewardInfo:
        return replace(of_the_model(self.chat), expected=(0.0, 1.0), groupwise=True)

    def prepare(self, prompts: Sequence[str]) -> None:
        """See that the template and the judge are there. Raises one sentence."""
        self._question  # noqa: B018 - reads the file
        self.chat.check()

    def __call__(self, batch: RewardBatch) -> Scores:
        if len(set(batch.prompts)) > 1:
            raise ValueError("expected one prompt for all images of a group, found several: they cannot be compared")
        prompt = batch.prompts[0]
        if not prompt.strip() and SLOT in self._question:
            return scores_of([Reading(problem="the prompt is empty")] * len(batch.images))
        seed = derive_seed("opponents", self.seed, batch.context.iteration or 0, batch.group)
        pairs = drawn_pairs(len(batch.images), self.opponents, seed)
        images, text = batch.images.detach().float().cpu().unbind(), fill(self._question, prompt)
        orders = [order for i, j in pairs for order in ((i, j), (j, i))]
        questions = [Question(text, (images[i], images[j]), self.comparison.max_tokens) for i, j in orders]
        found = [
            Reading(problem=answer.problem) if answer.problem else self.comparison.read(answer.text)
            for answer in self.chat.ask(questions)
        ]
        return win_rates(len(images), dict(zip(orders, found, strict=True)))

    @cached_property
    def _question(self) -> str:
        return self.question or read_template(self.template or self.comparison.template)


def win_rates(count: int, found: Mapping[tuple[int, int], Reading]) -> Scores:
    """Win rates ``[count]`` from preferences for the first image of ordered pairs, both orders of which are there."""
    wins: list[list[float]] = [[] for _ in range(count)]
    for (i, j), reading in found.items():
        other = found[j, i]
        if i < j and not reading.problem and not other.problem:
            share = (reading.value + 1 - other.value) / 2
            wins[i].append(share)
            wins[j].append(1 - share)
    why = problems(reading.problem for reading in found.values()) or "there is no other image to compare with"
    return scores_of([Reading(sum(won) / len(won)) if won else Reading(problem=why) for won in wins])


def drawn_pairs(count: int, opponents: int, seed: int) -> list[tuple[int, int]]:
    """Pairs ``i < j`` in which every one of ``count`` images has ``opponents`` others (0: all), chosen by ``seed``.

    Everyone plays as often as everyone else: neighbours on a circle in random order. An odd number of opponents of an
    odd number of images is impossible, and is rounded up.
    """
    if not opponents or opponents >= count - 1:
        return list(combinations(range(count), 2))
    order = list(range(count))
    random.Random(seed).shuffle(order)
    steps = list(range(1, opponents // 2 + 1))
    if opponents % 2:
        steps.append(count // 2 if count % 2 == 0 else opponents // 2 + 1)
    edges = [(order[a], order[(a + step) % count]) for step in steps for a in range(count)]
    return sorted({(min(edge), max(edge)) for edge in edges})
