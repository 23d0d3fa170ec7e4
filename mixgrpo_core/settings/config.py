"""Everything that decides a run's mathematics, in one frozen dataclass, and its form in files.

A config file or a flag spells an object as the Python call that makes it (``kernel = "DanceSDE(eta=0.3)"``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

import torch

from ..advantages import Credit, WeightedAdvantages
from ..advantages.port import require_stages
from ..evaluation.guards import Collapse, DiversityLoss, Guard, HeldOutFall, PixelDrift
from ..objectives import GRPO, Regulariser, UpdateSettings
from ..objectives.own_step import AUTO, FIRST_RATE, Auto, own_count
from ..objectives.pieces import StepNumbers
from ..objectives.port import GROUP, NEEDS, OLD_MEAN, START, TRANSITIONS, Objective
from ..sampling.kernels import FlowSDE, Kernel
from ..sampling.planners import Planner, StepPlan, WindowPlanner
from ..sampling.rollouts import RolloutSettings
from ..sampling.solvers import Euler, Solver
from ..support.memory import NOTHING, Memory
from ..support.quoting import shown
from ..support.setting import described, require_ranges, setting
from ..support.spelling import spell, suggest
from .grids import USUAL, Gridded, grid_of
from .prompt_sources import PromptSource, Shuffled
from .values import checked

RENAMED: Mapping[str, str] = MappingProxyType({"combination": "credit"})
"""Settings by an older name, which files may still use."""

UNTIL_STOPPED = -1
"""As the number of iterations: the run goes on until somebody or a guard stops it."""
SHOWN = 1000
"""Iterations for which the plan of such a run is drawn and counted."""

DecodeDtype = Literal["float32", "auto"]


@described
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run. The defaults are MixGRPO's; ``mixgrpo_core.settings.presets`` holds the published ones."""

    iterations: int = setting(
        300,
        "How often images are made, scored and learned from; -1 is until it is stopped. May be raised later to extend "
        "a finished run.",
        least=1,
        besides=UNTIL_STOPPED,
        may_change=True,
    )
    seed: int = setting(0, "All randomness of the run follows from it. Another seed is another run.")
    steps: int = setting(25, "Denoising steps of a training image. Fewer are faster.", least=1, below=10_001)
    shift: float | None = setting(
        None, "Timestep shift of the steps; without one the grid is the model's own.", above=0
    )
    images_per_prompt: int = setting(
        12,
        "Images of one prompt that are compared with each other: at least 2, 8 to 24 are usual.",
        least=2,
        below=10_001,
        why="advantages compare the images of one prompt with each other",
    )
    prompts_per_iteration: int = setting(
        4, "Prompts of one iteration. The publications use 32 to 96 on 24 to 32 GPUs.", least=1, below=100_001
    )
    shared_noise: bool = setting(True, "Whether the images of a prompt start from the same noise.")
    planner: Planner = setting(WindowPlanner(), "Which steps are noisy and trained in which iteration.")
    kernel: Kernel = setting(FlowSDE(eta=0.7), "How noise enters in the steps that are trained.")
    solver: Solver = setting(Euler(), "How the steps up to the window's end are solved.")
    tail_solver: Solver = setting(Euler(), "How the steps after the window are solved.")
    objective: Objective = setting(GRPO(), "The loss.")
    regularisers: tuple[Regulariser, ...] = setting((), "What is added to the loss, besides the objective's own.")
    prompt_source: PromptSource = setting(Shuffled(), "Which prompts an iteration rolls out.")
    reward_weights: Mapping[str, float] = setting(
        make=dict,
        help="Weight per reward in the advantage, 1 where unnamed. 0 keeps a reward out of training: it is then scored "
        "on held-out samples only.",
        least=0,
        each="the weight of reward {}",
        why="to punish what a reward likes, negate the reward",
    )
    credit: tuple[Credit, ...] = setting((WeightedAdvantages(),), "How scores become advantages, stage by stage.")
    spread_floor: float = setting(
        0.0,
        "Differences of reward smaller than this count for less: the least standard deviation that a group's rewards "
        "are divided by, in the reward's units. A reward that declares a larger one gets that.",
        least=0,
    )
    spread_floors: Mapping[str, float] = setting(
        make=dict,
        help="The same for single rewards by name, in place of both.",
        least=0,
        each="the spread floor of reward {}",
    )
    learning_rate: float | Auto = setting(
        3e-4,
        "How big the steps of learning are; 3e-4 is published for LoRAs. Lower it when images break. auto: the trainer "
        "sets it, so that an iteration moves the policy by 5 % of its velocity, and by less as the run goes on.",
        above=0,
        besides=AUTO,
    )
    weight_decay: float = setting(1e-4, "Weight decay of AdamW.", least=0)
    beta1: float = setting(0.9, "AdamW's decay of the gradient's mean.", least=0, below=1, such_as="0.9")
    beta2: float = setting(0.999, "AdamW's decay of its square.", least=0, below=1, such_as="0.999")
    updates: int | Auto = setting(
        4,
        "Optimizer steps per pass over an iteration's images. auto: up to 16, of 6 images or more each.",
        least=1,
        below=100_001,
        besides=AUTO,
    )
    epochs: int = setting(1, "Passes over an iteration's images.", least=1, below=100_001)
    max_grad_norm: float = setting(1.0, "Gradients are scaled down to this norm.", above=0)
    ema: float | None = setting(
        None,
        "Decay of a running average of the LoRA, which then is evaluated and kept as the result.",
        least=0,
        below=1,
        such_as="0.99",
    )
    rollout_batch: int = setting(
        16, "Images sampled at once; fewer need less memory.", least=1, below=100_001, may_change=True
    )
    decode_batch: int = setting(16, "Images decoded at once.", least=1, below=100_001, may_change=True)
    decode_dtype: DecodeDtype = setting(
        "float32",
        "In which precision rollouts are decoded. auto: in bfloat16 where no score of the first group moves by more "
        "than a tenth of the group's spread; held-out images stay in float32.",
    )
    decode_beside: bool = setting(
        False,
        "Whether a group is decoded while the next prompts are rolled out, in the memory of both. Not on the canvas.",
        may_change=True,
    )
    update_batch: int = setting(16, "Images trained on at once.", least=1, below=100_001, may_change=True)
    eval_every: int = setting(
        10,
        "Iterations between evaluations of held-out prompts; there is one before the first and after the last too. 0 "
        "is never.",
        least=0,
    )
    eval_images: int = setting(4, "Held-out images per prompt.", least=1, below=10_001)
    eval_steps: int | None = setting(
        None, "Denoising steps of held-out images; without a number as many as in training.", least=1, below=10_001
    )
    guards: tuple[Guard, ...] = setting(
        (HeldOutFall(), DiversityLoss(), PixelDrift(), Collapse()),
        "What watches held-out images for reward hacking and iterations for collapse, and warns or stops the run.",
        may_change=True,
    )
    checkpoint_every: int = setting(
        10, "Iterations between checkpoints; the end, a stop and a new best always make one.", least=1, may_change=True
    )
    checkpoint_minutes: float = setting(
        15.0,
        "Minutes after which the end of an iteration makes a checkpoint as well; 0 is by iterations only.",
        least=0,
        may_change=True,
    )
    keep: int = setting(3, "Checkpoints that are kept besides the best.", least=1, may_change=True)

    def __post_init__(self) -> None:
        require_ranges(self)
        if not self.kernel.eta > 0:
            raise ValueError(
                f"the kernel's eta must be above 0, found {self.kernel.eta}: without noise nothing can be learned"
            )
        unknown = self.objective.needs - NEEDS
        if unknown:
            raise ValueError(f"the objective needs {sorted(unknown)}; known needs are {sorted(NEEDS)}")
        require_stages(self.credit)
        trains = self.planner.candidates(self.sigmas())  # a window that does not fit so many steps says so itself
        self._require_strengths()
        if TRANSITIONS in self.objective.needs and not trains:
            wanted = f"{type(self.objective).__name__} learns from trained steps, choose a planner that has some"
            raise ValueError(
                f"the planner trains none of the {self.steps} steps (the last one never is): "
                + ("take more steps" if self.steps < 2 else f"{wanted}, such as WindowPlanner()")
            )

    def _require_strengths(self) -> None:
        """Raise ``ValueError`` where the planner makes the kernel noisier than it can be."""
        strongest = max((step.strength for step in self.planner.trainable(self.sigmas())), default=1.0)
        try:
            self.kernel.scaled(strongest)
        except ValueError as error:
            planner, kernel = type(self.planner).__name__, type(self.kernel).__name__
            raise ValueError(
                f"{planner} makes noise up to {strongest:g} times as strong, which {kernel} cannot be: {error} Lower "
                f"its eta to {self.kernel.eta / strongest:.2g} at most, or the planner's growth"
            ) from error

    @property
    def endless(self) -> bool:
        """Whether it goes on until it is stopped."""
        return self.iterations == UNTIL_STOPPED

    @property
    def end(self) -> float:
        """Iterations in all, infinite where it goes on until it is stopped."""
        return math.inf if self.endless else self.iterations

    @property
    def foreseen(self) -> int:
        """The iterations that a plan shows: all of them, or as many as it makes sense to draw where there is no end."""
        return SHOWN if self.endless else self.iterations

    def sigmas(self, model: Gridded = USUAL) -> torch.Tensor:
        """The base grid ``[steps + 1]`` of rollouts: the model's own, or the one of ``shift``."""
        return grid_of(model, self.steps, self.shift)

    def eval_sigmas(self, model: Gridded = USUAL) -> torch.Tensor:
        """The grid ``[T + 1]`` of held-out samples, float32."""
        return grid_of(model, self.eval_steps or self.steps, self.shift)

    def plan(self, iteration: int, prompt: int, sigmas: torch.Tensor, memory: Memory = NOTHING) -> StepPlan:
        """The planner's plan of a group over ``sigmas [T + 1]``, with no trained step where the objective asks none."""
        plan = self.planner.plan(iteration, prompt, sigmas, memory)
        return plan if TRANSITIONS in self.objective.needs else plan.untrained()

    @property
    def first_rate(self) -> float:
        """The learning rate of the first update."""
        return FIRST_RATE if self.learning_rate == AUTO else self.learning_rate

    @property
    def update_count(self) -> int:
        """Optimizer steps per pass over an iteration's images; fewer where there are not so many."""
        if self.updates != AUTO:
            return self.updates
        return own_count(self.prompts_per_iteration, self.images_per_prompt, whole=GROUP in self.objective.needs)

    def sampling(self) -> RolloutSettings:
        """How a plan becomes a trajectory, with what the objective needs recorded."""
        return RolloutSettings(
            kernel=self.kernel,
            solver=self.solver,
            tail_solver=self.tail_solver,
            shared_noise=self.shared_noise,
            batch=self.rollout_batch,
            keep_mean=OLD_MEAN in self.objective.needs,
            keep_start=START in self.objective.needs,
        )

    def updating(self, sigmas: torch.Tensor) -> UpdateSettings:
        """How groups become optimizer steps; ``sigmas [T + 1]`` is the base grid."""
        return UpdateSettings(
            updates=self.update_count,
            epochs=self.epochs,
            batch=self.update_batch,
            max_grad_norm=self.max_grad_norm,
            regularisers=self.regularisers,
            candidates=[
                StepNumbers.of(self.kernel.scaled(step.strength), step.sigma, step.sigma_next)
                for step in self.planner.trainable(sigmas)
            ],
        )


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain JSON values; objects as the call that makes them. ``from_dict`` reads it back."""
    return {item.name: _plain(getattr(config, item.name)) for item in fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [spell(item) for item in value]
    return value if isinstance(value, int | float | bool | str | None) else spell(value)


def from_dict(values: Mapping[str, Any], base: TrainConfig | None = None) -> TrainConfig:
    """A config from plain values, over ``base`` (the defaults when None).

    Raises:
        ValueError: an unknown key (with the nearest known one), or a value of another kind than the setting's.
    """
    hints = get_type_hints(TrainConfig)
    given = {item.name: getattr(base, item.name) for item in fields(TrainConfig)} if base else {}
    for old, value in checked("train", Mapping[str, Any], values).items():
        name = RENAMED.get(old, old)
        if name not in hints:
            raise ValueError(f"unknown setting {shown(name)}; {suggest(name, hints)}")
        if name != old and name in values:
            raise ValueError(f"{old} is the old name of {name}: give one of the two")
        given[name] = checked(name, hints[name], value)
    return TrainConfig(**given)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Sentences "name: old -> new" for every setting that differs."""
    names = sorted(old.keys() | new.keys())
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]
