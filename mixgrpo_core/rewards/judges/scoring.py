"""What a judge is asked for, and how its answer becomes a number.

    Rating       numbers behind labels, weighted                sum_a w_a s_a / sum_a w_a
    YesNo        how sure the judge is                          P(Yes) / (P(Yes) + P(No))        (VQAScore)
    Levels       expectation over levels                        sum_k v_k P(k) / sum_k P(k)      (Q-Align)

P is of the first token of the answer: spellings and capitals of a word are summed, and a token that begins one word
only counts for it. Where a judge offers no log-probs, YesNo and Levels read the written word: a number out of a few,
with many ties. Sources: VQAScore, arXiv 2404.01291; Q-Align, arXiv 2312.17090; UnifiedReward, arXiv 2503.05236.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...support.setting import require_finite
from .chat import Answer
from .reading import Reading, excerpt, labelled_number, lone_word

ALTERNATIVES = 20
"""Alternatives of the first token: as many as servers give."""


class Mode(Protocol):
    """How a judge is asked, and read.

    Attributes:
        template: file of the question, see `templates.read_template`.
        max_tokens: of the answer.
        alternatives: of the first token that the mode can use; 0 for a mode that reads text only.
        expected: (low, high) of its values.
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

    @property
    @abstractmethod
    def alternatives(self) -> int:
        """Alternatives of the first token that it can use; 0 where it reads text only."""
        ...

    @property
    @abstractmethod
    def expected(self) -> tuple[float, float]:
        """(low, high) of its values."""
        ...

    @abstractmethod
    def read(self, answer: Answer, *, by_probability: bool) -> Reading:
        """The value; ``by_probability`` where the judge offers log-probs and the mode asks for them."""
        ...


def check_weights(aspects: Sequence[tuple[str, float]]) -> None:
    """Raises ``ValueError`` unless the weights of (label, weight) can make a mean."""
    if min((weight for _, weight in aspects), default=0) < 0 or not sum(weight for _, weight in aspects):
        raise ValueError(f"expected weights of at least 0, one of them above, found {aspects}")


def weighted_mean(aspects: Sequence[tuple[str, float]], read: Callable[[str], Reading]) -> Reading:
    """Of what ``read`` finds under the labels that weigh something; nothing where one of them is missing."""
    total = 0.0
    for label, weight in aspects:
        if weight:
            reading = read(label)
            if reading.problem:
                return reading
            total += weight * reading.value
    return Reading(total / sum(weight for _, weight in aspects))


@dataclass(frozen=True)
class Rating:
    """Numbers that the judge writes behind labels: ``Score: 7.5``.

    Attributes:
        aspects: (label, weight); the value is the weighted mean, in the judge's own units. Labels of weight 0 are not
            looked for; where one of the others is missing, there is no value.
        low, high: what a number must lie in.
        template, max_tokens: see `Mode`.
    """

    aspects: tuple[tuple[str, float], ...] = (("Score", 1.0),)
    low: float = 1.0
    high: float = 10.0
    template: str = "rubric.txt"
    max_tokens: int = 512

    def __post_init__(self) -> None:
        require_finite(self)
        check_weights(self.aspects)

    @property
    def alternatives(self) -> int:
        return 0

    @property
    def expected(self) -> tuple[float, float]:
        return self.low, self.high

    def read(self, answer: Answer, *, by_probability: bool) -> Reading:
        return weighted_mean(self.aspects, lambda label: labelled_number(answer.text, label, self.low, self.high))


@dataclass(frozen=True)
class UnifiedRewardScore(Rating):
    """UnifiedReward's one score, 1 to 5, after a list of what the image shows ("score" of MixGRPO)."""

    aspects: tuple[tuple[str, float], ...] = (("Final Score", 1.0),)
    high: float = 5.0
    template: str = "unified_reward_score.txt"
    max_tokens: int = 2048


@dataclass(frozen=True)
class UnifiedRewardSemantic(Rating):
    """UnifiedReward 1.5's three scores, 1 to 5, after one per word ("semantic" of MixGRPO: alignment only)."""

    aspects: tuple[tuple[str, float], ...] = (("Alignment Score", 1.0), ("Coherence Score", 0.0), ("Style Score", 0.0))
    high: float = 5.0
    template: str = "unified_reward_semantic.txt"
    max_tokens: int = 4096


@dataclass(frozen=True)
class UnifiedReward2(Rating):
    """UnifiedReward 2.0's three scores, 1 to 5 with many digits: fewer ties than its forerunners."""

    aspects: tuple[tuple[str, float], ...] = (("Alignment Score", 1.0), ("Coherence Score", 0.0), ("Style Score", 0.0))
    high: float = 5.0
    template: str = "unified_reward_2.txt"
    max_tokens: int = 128


@dataclass(frozen=True)
class Levels:
    """Expectation over levels that the judge may answer with.

    Attributes:
        levels: (word, value); no word begins another one.
        least: probability of all words together below which there is no value: the judge wants to say something else.
        template, max_tokens: see `Mode`; the tokens are for judges without log-probs, whose words are read.
    """

    levels: tuple[tuple[str, float], ...] = (("1", 1.0), ("2", 2.0), ("3", 3.0), ("4", 4.0), ("5", 5.0))
    least: float = 0.1
    template: str = "levels.txt"
    max_tokens: int = 16

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.least < 1:
            raise ValueError(f"expected least between 0 and 1, found {self.least}")
        words = [word.casefold() for word, _ in self.levels]
        clash = next(((a, b) for a in words for b in words if a is not b and b.startswith(a)), None)
        if len(words) < 2 or clash or "" in words:
            raise ValueError(f"expected two levels and more of which none begins another one, found {self.levels}")

    @property
    def alternatives(self) -> int:
        return ALTERNATIVES

    @property
    def expected(self) -> tuple[float, float]:
        values = [value for _, value in self.levels]
        return min(values), max(values)

    def read(self, answer: Answer, *, by_probability: bool) -> Reading:
        if not by_probability:
            reading = lone_word(answer.text, [word for word, _ in self.levels])
            return reading if reading.problem else Reading(self.levels[int(reading.value)][1])
        if not answer.first:
            return Reading(problem="the answer came without log-probs")
        shares = word_probabilities(answer.first, [word for word, _ in self.levels])
        total = sum(shares)
        if not total >= self.least:
            wanted = ", ".join(word for word, _ in self.levels)
            likeliest = max(answer.first, key=lambda token: answer.first[token])
            return Reading(
                problem=f"expected an answer that begins with one of {wanted}, found them at probability {total:.2g} "
                f"and {excerpt(likeliest)} likeliest (switch off the judge's thinking if it has any)"
            )
        return Reading(sum(share * value for share, (_, value) in zip(shares, self.levels, strict=True)) / total)


@dataclass(frozen=True)
class Adjectives(Levels):
    """Q-Align's five levels of quality, 0 to 1; the shipped question does not look at the prompt."""

    levels: tuple[tuple[str, float], ...] = (
        ("excellent", 1.0),
        ("good", 0.75),
        ("fair", 0.5),
        ("poor", 0.25),
        ("bad", 0.0),
    )
    template: str = "quality.txt"


@dataclass(frozen=True)
class YesNo(Levels):
    """How sure the judge is that the image shows the prompt, 0 to 1."""

    levels: tuple[tuple[str, float], ...] = (("yes", 1.0), ("no", 0.0))
    template: str = "yes_no.txt"


def word_probabilities(first: Mapping[str, float], words: Sequence[str]) -> list[float]:
    """Probability that the answer is each of ``words``, from the first token's log-probs.

    ``" Yes"``, ``"yes"`` and ``"YES"`` are one word; ``"ex"`` counts for ``"excellent"`` when no other word begins so.
    """
    names = [word.casefold() for word in words]
    shares = [0.0] * len(names)
    for token, log_prob in first.items():
        bare = token.replace("\u2581", " ").replace("\u0120", " ").strip().casefold()
        begun = [place for place, name in enumerate(names) if bare and name.startswith(bare)]
        if len(begun) == 1 and (len(bare) > 1 or bare == names[begun[0]]):
            shares[begun[0]] += math.exp(log_prob)
    return shares
