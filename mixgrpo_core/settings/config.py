"""Everything that decides a run's mathematics, in one frozen dataclass, and its form in files.

``CLASSES`` is the one table that names classes: a config file or a flag spells an object as the Python call that makes
it (``kernel = "DanceSDE(eta=0.3)"``). A new class is one line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

import torch

from ..advantages import BatchNormalised, Credit, WeightedAdvantages, WeightedRewards
from ..advantages.port import require_stages
from ..evaluation.guards import DiversityLoss, Guard, HeldOutFall, PixelDrift, SmallPixels
from ..objectives import GRPO, Even, FlatGradient, GuardGRPO, GuardWeight, Regulariser, StepWeight, Updating, VelocityKL
from ..objectives.pieces import StepNumbers
from ..objectives.port import MEAN_OLD, NEEDS, START, Objective
from ..sampling.kernels import DanceSDE, FlowCPS, FlowSDE, Kernel, PreciseSDE
from ..sampling.planners import FullPlanner, Planner, WindowPlanner
from ..sampling.rollouts import Sampling
from ..sampling.schedule import flow_sigmas
from ..sampling.solvers import DPMpp2M, Euler, Solver
from ..sampling.windows import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow
from ..support.spelling import parse, spell, suggest
from .prompt_sources import PromptSource, Shuffled
from .ranges import require_ranges

CLASSES: Mapping[str, type] = MappingProxyType(
    {
        cls.__name__: cls
        for cls in (
            *(FlowSDE, DanceSDE, FlowCPS, PreciseSDE),
            *(Euler, DPMpp2M),
            *(SlidingWindow, FrozenWindow, RandomWindow, DecayingWindow),
            *(WindowPlanner, FullPlanner),
            *(GRPO, GuardGRPO, Even, FlatGradient, GuardWeight, VelocityKL, Shuffled),
            *(WeightedAdvantages, WeightedRewards, BatchNormalised),
            *(HeldOutFall, DiversityLoss, PixelDrift, SmallPixels),
        )
    }
)


RENAMED: Mapping[str, str] = MappingProxyType({"combination": "credit"})
"""Settings by an older name, which files may still use."""


class Gridded(Protocol):
    """What has a sigma grid of its own: a model (`FlowModel.grid`)."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``."""
        ...


class UsualGrid:
    """The grid of a shift of 3, as of Stable Diffusion 3: for drawings and costs where no model is at hand."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``."""
        return flow_sigmas(steps, 3.0)


USUAL = UsualGrid()


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run. The defaults are MixGRPO's; ``mixgrpo_core.settings.presets`` holds the published ones.

    Attributes:
        iterations: rollout-and-update rounds; may be raised later to extend a finished run.
        seed: all randomness of the run is a function of it.
        steps: denoising steps T of a rollout.
        shift: timestep shift of the sigma grid; None is the model's own grid.
        images_per_prompt: images G of a group, at least 2.
        prompts_per_iteration: groups P of an iteration.
        shared_noise: the images of a group start from the same noise.
        planner: which steps are SDE and trained in which iteration.
        kernel: how an SDE step is sampled.
        solver: ODE solver up to the window's end.
        tail_solver: ODE solver after it.
        objective: the loss.
        regularisers: what is added to it, besides the objective's own.
        prompt_source: which prompts an iteration rolls out.
        reward_weights: weight per reward in the advantage (1 where unnamed); 0 keeps a reward out of training: it is
            then scored on held-out samples only.
        credit: how scores become advantages, stage by stage.
        spread_floor: least standard deviation a group's rewards are divided by, in the reward's units; a reward that
            declares a larger one of its own (``About.spread_floor``) gets that.
        spread_floors: the same for single rewards by name, in place of both.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        beta1: AdamW's decay of the gradient's mean.
        beta2: AdamW's decay of its square.
        updates: optimizer steps per pass over an iteration's images.
        epochs: passes.
        max_grad_norm: the gradient's norm is clipped to it.
        ema: decay of an average of the LoRA, which is then what is evaluated; None for none.
        rollout_batch: images per network call in rollouts and evaluations.
        decode_batch: images per decode.
        update_batch: images per forward and backward.
        eval_every: iterations between held-out evaluations (also before the first and after the last); 0 for none.
        eval_images: held-out images per prompt.
        eval_steps: denoising steps of held-out samples; None takes ``steps``.
        guards: what watches held-out evaluations for reward hacking, and warns or stops; may be changed later.
        checkpoint_every: iterations between checkpoints (the end, a stop and a new best always make one).
        keep: checkpoints kept besides the best.
    """

    iterations: int = 300
    seed: int = 0
    steps: int = 25
    shift: float | None = None
    images_per_prompt: int = 12
    prompts_per_iteration: int = 4
    shared_noise: bool = True
    planner: Planner = WindowPlanner()
    kernel: Kernel = FlowSDE(eta=0.7)
    solver: Solver = Euler()
    tail_solver: Solver = Euler()
    objective: Objective = GRPO()
    regularisers: tuple[Regulariser, ...] = ()
    prompt_source: PromptSource = Shuffled()
    reward_weights: Mapping[str, float] = field(default_factory=dict)
    credit: tuple[Credit, ...] = (WeightedAdvantages(),)
    spread_floor: float = 0.0
    spread_floors: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    updates: int = 4
    epochs: int = 1
    max_grad_norm: float = 1.0
    ema: float | None = None
    rollout_batch: int = 16
    decode_batch: int = 16
    update_batch: int = 16
    eval_every: int = 10
    eval_images: int = 4
    eval_steps: int | None = None
    guards: tuple[Guard, ...] = (HeldOutFall(), DiversityLoss(), PixelDrift())
    checkpoint_every: int = 10
    keep: int = 3

    def __post_init__(self) -> None:
        if self.images_per_prompt < 2:
            raise ValueError(
                f"images_per_prompt must be at least 2, found {self.images_per_prompt}: advantages compare the images "
                "of one prompt with each other (12 is the paper's)"
            )
        require_ranges(vars(self))
        if not self.kernel.eta > 0:
            raise ValueError(
                f"the kernel's eta must be above 0, found {self.kernel.eta}: without noise nothing can be learned"
            )
        unknown = self.objective.needs - NEEDS
        if unknown:
            raise ValueError(f"the objective needs {sorted(unknown)}; known needs are {sorted(NEEDS)}")
        require_stages(self.credit)
        if not self.planner.candidates(self.sigmas()):  # a window that does not fit so many steps says so itself
            raise ValueError(
                f"the planner trains none of the {self.steps} steps (the last one never is): take more steps"
            )

    def sigmas(self, model: Gridded = USUAL) -> torch.Tensor:
        """The base grid ``[steps + 1]`` of rollouts: the model's own, or the one of ``shift``."""
        return self._grid(model, self.steps)

    def eval_sigmas(self, model: Gridded = USUAL) -> torch.Tensor:
        """The grid of held-out samples."""
        return self._grid(model, self.eval_steps or self.steps)

    def _grid(self, model: Gridded, steps: int) -> torch.Tensor:
        return model.grid(steps) if self.shift is None else flow_sigmas(steps, self.shift)

    def sampling(self) -> Sampling:
        return Sampling(
            kernel=self.kernel,
            solver=self.solver,
            tail_solver=self.tail_solver,
            shared_noise=self.shared_noise,
            batch=self.rollout_batch,
            keep_mean=MEAN_OLD in self.objective.needs,
            keep_start=START in self.objective.needs,
        )

    def updating(self, sigmas: torch.Tensor) -> Updating:
        """How groups become optimizer steps; ``sigmas`` is the base grid."""
        return Updating(
            updates=self.updates,
            epochs=self.epochs,
            batch=self.update_batch,
            max_grad_norm=self.max_grad_norm,
            regularisers=self.regularisers,
            candidates=[
                StepNumbers.of(self.kernel, sigmas[step], sigmas[step + 1]) for step in self.planner.candidates(sigmas)
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
            raise ValueError(f"unknown setting {name!r}; {suggest(name, hints)}")
        if name != old and name in values:
            raise ValueError(f"{old} is the old name of {name}: give one of the two")
        given[name] = checked(name, hints[name], value)
    return TrainConfig(**given)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Sentences "name: old -> new" for every setting that differs."""
    names = sorted(old.keys() | new.keys())
    return [f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names if old.get(name) != new.get(name)]


def checked(name: str, hint: Any, value: Any) -> Any:
    """``value`` as a setting of type ``hint`` holds it: a list as a tuple, a whole number as a float, text as the
    object that it spells.

    Raises:
        ValueError: "name expects ..., found ...", for a value of another kind.
    """
    kinds = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    for kind in kinds:
        try:
            return _as_kind(kind, value)
        except TypeError:
            continue
    raise ValueError(f"{name} expects {' or '.join(map(_in_words, kinds))}, found {value!r}")


def _as_kind(kind: Any, value: Any) -> Any:
    return _as_object(kind, value) if kind in _METHODS else _as_plain(kind, value)


def _as_plain(kind: Any, value: Any) -> Any:
    """Numbers, words, lists and tables. Raises ``TypeError`` when ``value`` is none of this kind."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in inner):
        return value
    if origin is tuple and isinstance(value, str) and inner[0] in _METHODS:
        return (_as_kind(inner[0], value),)  # one object stands for a list of one
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_as_kind(inner[0], item) for item in value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {_as_plain(inner[0], key): _as_plain(inner[1], item) for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise TypeError


def _as_object(kind: Any, value: Any) -> Any:
    """An object of the table. One of another copy of this package (a host may load it twice) is made again here."""
    if is_dataclass(value) and not isinstance(value, type):
        try:
            made = parse(spell(value), CLASSES)
        except ValueError as error:
            raise TypeError from error
    else:
        made = parse(value, CLASSES) if isinstance(value, str) else value
    if type(made) not in CLASSES.values() or not callable(getattr(made, _METHODS[kind], None)):
        raise TypeError
    return made


_WORDS: Mapping[Any, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "nothing",
        Planner: "a planner such as 'WindowPlanner(window=SlidingWindow(size=4), tail_ratio=0.4)'",
        Kernel: "a kernel such as 'FlowSDE(eta=0.7)'",
        Solver: "a solver such as 'Euler()' or 'DPMpp2M()'",
        Objective: "an objective such as 'GRPO(clip=0.001)'",
        Credit: "a stage of credit such as 'WeightedAdvantages()' or 'BatchNormalised()'",
        StepWeight: "a step weight such as 'FlatGradient()'",
        Regulariser: "a regulariser such as 'VelocityKL(weight=0.001)'",
        PromptSource: "a prompt source such as 'Shuffled()'",
        tuple[Credit, ...]: "stages of credit such as ['WeightedAdvantages()']",
        tuple[Regulariser, ...]: "a list of regularisers such as ['VelocityKL(weight=0.001)']",
        tuple[Guard, ...]: "a list of guards such as ['DiversityLoss(warn=0.7, stop=0.5)', 'PixelDrift()']",
        Mapping[str, float]: "a table of numbers, such as {aesthetic = 1.0}",
        dict[str, str]: 'a table of calls in quotes, such as {shape = "ShapeReward()"}',
        Mapping[str, Any]: "a table: its name in brackets on a line, such as [train], and a setting per line below",
        tuple[str, ...]: "a list of texts",
    }
)
_METHODS: Mapping[Any, str] = MappingProxyType(
    {
        Planner: "plan",
        Kernel: "coefficients",
        Solver: "step",
        Objective: "loss",
        Credit: "of_iteration",
        StepWeight: "loss_factor",
        Regulariser: "penalty",
        PromptSource: "choose",
        Guard: "judge",
    }
)


def _in_words(kind: Any) -> str:
    return " or ".join(map(repr, get_args(kind))) if get_origin(kind) is Literal else _WORDS[kind]
