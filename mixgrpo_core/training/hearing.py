"""What those who learn from a run hear of an iteration: guards, and planner and prompt source."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.guards import IterationView
from ..objectives.figures import UpdateStats
from ..rewards.port import Scores
from ..rewards.stats import RewardStats
from ..sampling.planners import GroupResult
from ..settings.config import TrainConfig
from ..support.memory import NOTHING, Memory


def iterated(
    iteration: int,
    groups: Sequence[Mapping[str, Scores]],
    rewards: Mapping[str, RewardStats],
    weights: Mapping[str, float],
    update: UpdateStats,
    config: TrainConfig,
) -> IterationView:
    """An iteration as guards hear of it; ``groups`` are their scores."""
    means = [
        {name: float(scores.values[scores.valid].mean()) for name, scores in group.items() if scores.valid.any()}
        for group in groups
    ]
    return IterationView(
        iteration=iteration,
        rewards=rewards,
        weights=weights,
        groups=means,
        figures=update.figures,
        learning_rate=update.figures.get("rate", config.first_rate),
    )


def learned(
    heard: Sequence[GroupResult], config: TrainConfig, memories: Mapping[str, Memory]
) -> dict[str, dict[str, Any]]:
    """What planner and prompt source remember after hearing of the groups, in the form that a checkpoint gives back."""
    found = {
        "planner": config.planner.learn(memories.get("planner", NOTHING), heard),
        "prompt_source": config.prompt_source.learn(memories.get("prompt_source", NOTHING), heard),
    }
    kept = {name: dict(memory) for name, memory in found.items() if memory}
    return json.loads(json.dumps(kept, allow_nan=False))  # so that a resumed run remembers the same; NaN is refused
