"""``mixgrpo demo``: a LoRA by reinforcement learning on the shipped demo model; no download, no GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from rich.console import Console

from ..demo import demo_config, held_out_prompts, train_prompts
from .model_config import ModelConfig
from .settings import PromptConfig, RunConfig
from .training import start


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Attributes:
    out: the run folder; it must not exist yet.
    iterations: None takes the demo's own number.
    seed: of the run and of the LoRA's first values.
    """

    out: str = "runs/demo"
    iterations: int | None = None
    seed: int = 0


def demo(arguments: Sequence[str]) -> int:
    """Train, report, and say where everything is."""
    flags = tyro.cli(DemoFlags, args=arguments, prog="mixgrpo demo", description="Train a LoRA on the demo model.")
    return start(demo_run(flags.out, flags.iterations, flags.seed), Console())


def demo_run(out: str, iterations: int | None = None, seed: int = 0) -> RunConfig:
    """The demo as a run: the graded reward is trained on, adherence and cleanliness are only watched."""
    return RunConfig(
        out=out,
        model=ModelConfig(seed=seed),
        prompts=PromptConfig(train=train_prompts(), held_out=held_out_prompts()),
        rewards={"shape": "ShapeReward()", "adherence": "ShapeAdherence()", "clean": "ShapeCleanliness()"},
        train=demo_config(iterations=iterations, seed=seed),
    )
