"""Which prompts the iterations of a run roll out."""

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
