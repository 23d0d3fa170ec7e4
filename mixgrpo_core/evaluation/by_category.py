"""Scores of two models on the same prompts and noise, by category of the prompts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..rewards.stats import RewardStats
from .held_out import Evaluation, win_rate

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One reward over the prompts of one category.

    Attributes:
        means, spreads: per model; NaN where nothing was scored.
        wins: of the last model against the first, 0 to 1, a tie is half; None where there is one model only.
        prompts, images: of the category.
    """

    category: str
    reward: str
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    wins: float | None
    prompts: int
    images: int

    def to_json(self) -> dict[str, object]:
        """Plain values; None for what is no number, as JSON has no NaN."""
        return {
            "category": self.category,
            "reward": self.reward,
            "mean": [_plain(mean) for mean in self.means],
            "spread": [_plain(spread) for spread in self.spreads],
            "wins": None if self.wins is None else _plain(self.wins),
            "prompts": self.prompts,
            "images": self.images,
        }


def by_category(categories: Sequence[str], evaluations: Sequence[Evaluation]) -> list[Row]:
    """Rows of every category in the order of their first prompts, and of all prompts where there are several.

    Args:
        categories: of the prompts, in the order of the evaluations.
        evaluations: one per model, of the same prompts and noise.
    """
    own = list(dict.fromkeys(categories))
    places = {name: [i for i, found in enumerate(categories) if found == name] for name in own}
    if len(own) > 1:
        places[ALL] = list(range(len(categories)))
    rewards = list(evaluations[0].scores)
    return [_row(name, reward, chosen, evaluations) for name, chosen in places.items() for reward in rewards]


def _row(category: str, reward: str, places: Sequence[int], evaluations: Sequence[Evaluation]) -> Row:
    scores = [[one.scores[reward][place] for place in places] for one in evaluations]
    stats = [RewardStats.of(found) for found in scores]
    last = Evaluation(iteration=0, rewards={}, scores={reward: scores[-1]})
    first = Evaluation(iteration=0, rewards={}, scores={reward: scores[0]})
    return Row(
        category=category,
        reward=reward,
        means=tuple(one.mean for one in stats),
        spreads=tuple(one.spread for one in stats),
        wins=win_rate(last, first, reward) if len(evaluations) > 1 else None,
        prompts=len(places),
        images=stats[0].count,
    )


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
