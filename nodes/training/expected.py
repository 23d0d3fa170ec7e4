"""What a run on the canvas will have to do, and how long that will take."""

from collections.abc import Mapping
from typing import Any

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.rewards.wrappers.transforms import afresh
from ...mixgrpo_core.support.sized import typical
from ...mixgrpo_core.training.forecast import Forecast, foretold
from ...mixgrpo_core.training.workload import Workload
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun, all_runs


def workload(prompts: PromptSet, config: TrainConfig) -> Workload:
    """What a run has to do, with its pictures of before and after."""
    return Workload.of_run(config, prompts.train, prompts.held_out)


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
