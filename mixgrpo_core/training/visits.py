"""Which prompts the iterations of a run roll out."""

from collections.abc import Sequence

from ..evaluation.shown import shown_prompts
from ..settings.config import TrainConfig
from ..settings.prompt_sources.port import PromptDraw


def visited(config: TrainConfig, first: int, pool: int) -> list[int]:
    """Which of ``pool`` prompts the iterations from ``first`` on may roll out, ascending."""
    if config.endless:
        return list(range(pool))
    return config.prompt_source.visited(prompt_draw(config, first, pool), config.iterations)


def prompt_draw(config: TrainConfig, iteration: int, pool: int) -> PromptDraw:
    """What the prompt source is asked for one iteration."""
    return PromptDraw(seed=config.seed, iteration=iteration, count=config.prompts_per_iteration, pool=pool)


def needed(config: TrainConfig, train: Sequence[str], held_out: Sequence[str], done: int = 0) -> list[str]:
    """Prompts that a run encodes once ``done`` iterations are behind it: for rollouts, evaluations and pictures."""
    rolled_out = (train[index] for index in visited(config, done, len(train)))
    return list(dict.fromkeys([*rolled_out, *held_out, *shown_prompts(train, held_out)]))
