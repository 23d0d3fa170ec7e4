"""What a run on the canvas will have to do, and how long that will take."""

from collections.abc import Mapping
from typing import Any

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.evaluation.shown import shown_prompts
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.rewards.wrappers.transforms import afresh
from ...mixgrpo_core.support.sized import typical
from ...mixgrpo_core.training.forecast import Forecast, foretold
from ...mixgrpo_core.training.gallery import SHOWN_PROMPTS
from ...mixgrpo_core.training.workload import Workload
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun, all_runs
from .loop import SHOWN_IMAGES


def shown_of(prompts: PromptSet) -> list[str]:
    """The prompts that pictures are made of."""
    return shown_prompts(prompts.train, prompts.held_out, SHOWN_PROMPTS)


def workload(prompts: PromptSet, config: TrainConfig) -> Workload:
    """What a run has to do, with its pictures of before and after."""
    at_the_end = 2 * SHOWN_IMAGES * len(shown_of(prompts))
    return Workload(config, held_out=len(prompts.held_out), images_at_the_end=at_the_end)


def forecast(
    policy: HostModel,
    prompts: PromptSet,
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    run: CanvasRun,
    setup: Mapping[str, Any],
) -> Forecast | None:
    """Of what is left of the run; None where nothing is. ``rewards`` are as the host keeps them, and stay so."""
    if run.done >= config.end:
        return None
    work, usual = workload(prompts, config), typical(prompts.train, policy.resolution)
    asked = {name: afresh(reward) for name, reward in rewards.items()}
    return foretold(work, policy, usual, all_runs(), setup, rewards=asked, done=run.done)
