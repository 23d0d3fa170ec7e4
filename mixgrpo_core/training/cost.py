"""What an iteration costs, counted by running it: the real rollout and update on a network that only counts."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Parameter

from ..models.lagged import Lagged
from ..models.port import LoraAbout, LoraState, R, Velocity
from ..objectives.packs import side_by_side, waves
from ..objectives.pieces import Group
from ..objectives.port import TRANSITIONS
from ..objectives.update import update_policy
from ..sampling.planners import Step
from ..sampling.rollouts import Prompt, rollout_together
from ..settings.config import TrainConfig
from ..settings.course import course
from ..settings.grids import USUAL
from ..settings.presets import dance_grpo
from ..support.phases import PhaseClock
from ..support.seeds import seeded_noise
from .probing import EVERY

BACKWARD = 1.0
"""A backward pass costs about one forward pass (`benchmarks/rows.py`), for weights that stay as they are have no
gradient; with gradient checkpointing, two."""


@dataclass(frozen=True, kw_only=True)
class IterationCost:
    """Network evaluations per image, those of them that are differentiated, and their sum in forward passes.

    Attributes:
        calls: of the network per image, whatever rows they have; a backward pass counts as in ``units``.
    """

    nfe: Mapping[str, float]
    differentiated: float
    calls: float

    @property
    def units(self) -> float:
        return sum(self.nfe.values()) + BACKWARD * self.differentiated


MOST_STRETCHES = 30


@torch.inference_mode(False)
@torch.enable_grad()
def iteration_cost(config: TrainConfig, iteration: int, *, evaluations_per_call: int = 1) -> IterationCost:
    """Count one iteration of ``config``, with the probe of the ratio that the first one has.

    ``evaluations_per_call`` is 2 where guidance doubles every call.
    """
    model = _CountingModel(evaluations_per_call)
    clock = PhaseClock(lambda: model.evaluations)
    sigmas, count = config.sigmas(model), config.images_per_prompt
    plans = [config.plan(iteration, place, sigmas) for place in range(config.prompts_per_iteration)]
    prompts: list[Prompt[None]] = [Prompt(cond=None, plan=plan, seed=iteration) for plan in plans]
    most = side_by_side(config.rollout_batch, count, whole=config.decode_beside)
    with clock.phase("rollout"):
        rolled = [rollout_together(model, w, config.sampling(), group_size=count) for w in waves(prompts, most)]
    groups = [Group(cond=None, trajectory=t, advantage=torch.zeros(count)) for wave in rolled for t in wave]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    lagged = {name: Lagged(lag, model.lora_state()) for name, lag in config.objective.policies.items()}
    updating = replace(config.updating(sigmas), look_back=True)
    with clock.phase("train"):
        update_policy(model, groups, config.objective, optimizer, updating, clock=clock, lagged=lagged)
    images = config.prompts_per_iteration * config.images_per_prompt
    return IterationCost(
        nfe={phase: count / images for phase, count in clock.evaluations.items() if count},
        differentiated=model.differentiated / images,
        calls=(model.calls + BACKWARD * model.calls_back) / images,
    )


def dance_iteration_cost(config: TrainConfig, *, evaluations_per_call: int = 1) -> IterationCost:
    """The cost of an iteration of DanceGRPO with the same steps, images and updates: what a plan is compared with."""
    return iteration_cost(_dance_like(config), 0, evaluations_per_call=evaluations_per_call)


def _dance_like(config: TrainConfig) -> TrainConfig:
    same = ("steps", "shift", "images_per_prompt", "prompts_per_iteration", "shared_noise", "updates", "epochs")
    return replace(dance_grpo(), **{name: getattr(config, name) for name in same})


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What a method costs per image, a mean over looks at its run.

    Attributes:
        rollout: network evaluations of sampling.
        training: those of the update, other policies and the probe of the ratio included.
        against_dance: all of it in forward passes, where a backward pass counts as one, over that of DanceGRPO with
            the same steps, images, updates and kind of start noise.
    """

    rollout: float
    training: float
    against_dance: float


def method_cost(config: TrainConfig, looks: int = 100) -> MethodCost:
    """The mean over ``looks`` at iterations spread evenly over a run, the first and the last among them.

    A look is at one prompt and one update: more would cost the same per image where each update has prompts of its own,
    but for the probe of the ratio, which looks at one group in every tenth iteration and counts by its share, and the
    look back at one group, where updates cannot tell each other's moves.
    """
    found, dance = _looked_at(config, looks), _looked_at(_dance_like(config), looks)
    rollout = sum(cost.nfe["rollout"] for cost in found) / looks
    return MethodCost(
        rollout=rollout,
        training=sum(sum(cost.nfe.values()) for cost in found) / looks - rollout,
        against_dance=sum(cost.units for cost in found) / sum(cost.units for cost in dance),
    )


def _looked_at(config: TrainConfig, looks: int) -> list[IterationCost]:
    """The costs of iterations spread over a run; what has the same rows is counted once."""
    one, sigmas = replace(config, prompts_per_iteration=1, updates=1), config.sigmas()
    shares = {"probe": 1 / (config.prompts_per_iteration * EVERY), "look back": look_back_share(config, one)}
    counted: dict[Hashable, IterationCost] = {}
    found = []
    for look in range(looks):
        iteration = (config.foreseen - 1) * look // max(1, looks - 1)
        rows = _rows(one.plan(iteration, 0, sigmas).steps)
        if rows not in counted:
            counted[rows] = in_part(iteration_cost(one, iteration), shares)
        found.append(counted[rows])
    return found


def _rows(steps: Sequence[Step]) -> Hashable:
    """What the rows of each step follow from: whether noise came before it, and by how much rows have branched."""
    rolled, noisy, branches = [], False, 1
    for step in steps:
        rolled.append((noisy, branches))
        noisy, branches = noisy or step.stochastic, branches * step.children
    return tuple(rolled), tuple(rows for rows, step in zip(rolled, steps, strict=True) if step.trained)


def look_back_share(config: TrainConfig, counted: TrainConfig) -> float:
    """How much of the look back per image in ``counted``, which has one update for some prompts, ``config`` has."""
    if counted is config:
        return 1.0
    looks = config.update_count == 1 or TRANSITIONS not in config.objective.needs
    return looks * counted.prompts_per_iteration / config.prompts_per_iteration


def in_part(cost: IterationCost, shares: Mapping[str, float]) -> IterationCost:
    """The cost with a share of some phases, by name."""
    nfe = {phase: count * shares.get(phase, 1.0) for phase, count in cost.nfe.items()}
    return replace(cost, nfe={phase: count for phase, count in nfe.items() if count})


def stretches(config: TrainConfig) -> list[tuple[int, int, tuple[int, ...]]]:
    """Iterations ``first`` to ``last`` that train the same steps (of their first prompt): (first, last, steps).

    Where the steps change too often for a table (random ones), even parts, costed by their first iteration.
    """
    sigmas, iterations = config.sigmas(), config.foreseen
    changes = course(lambda iteration: config.plan(iteration, 0, sigmas).trained, iterations)
    if len(changes) > MOST_STRETCHES:
        return [(at[0], at[-1], changes[0][1]) for at in _even_parts(iterations, MOST_STRETCHES // 2)]
    ends = [*(first for first, _ in changes[1:]), iterations]
    return [(first, end - 1, steps) for (first, steps), end in zip(changes, ends, strict=True)]


def _even_parts(count: int, parts: int) -> list[range]:
    """0 .. count - 1 in ``parts`` pieces of about equal length."""
    edges = [round(i * count / parts) for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges) if a < b]


class _CountingModel:
    """The smallest flow model there is: one latent element, one parameter."""

    latent_shape = (1,)
    device = torch.device("cpu")
    min_steps = 1
    digest = ""
    guided = False
    lora_about = LoraAbout()

    def __init__(self, evaluations_per_call: int) -> None:
        self.evaluations = self.differentiated = self.calls = self.calls_back = 0
        self._per_call = evaluations_per_call
        self._slope = Parameter(torch.zeros(1))

    def encode(self, prompt: str) -> None:
        return None

    def prepare(self, prompts: Sequence[str]) -> None: ...

    def noise(self, seed: int, count: int) -> Tensor:
        return seeded_noise(seed, (count, 1))

    def grid(self, steps: int) -> Tensor:
        return USUAL.grid(steps)

    def places(self, maps: Tensor) -> Tensor:
        return maps.mean((1, 2))[:, None]

    def run(self, conds: Sequence[None], body: Callable[[Velocity], R]) -> R:
        def velocity(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
            count = len(x) * self._per_call
            self.evaluations += count
            self.differentiated += count if torch.is_grad_enabled() else 0
            self.calls += 1
            self.calls_back += int(torch.is_grad_enabled())
            return x * self._slope

        return body(velocity)

    @contextmanager
    def with_weights(self, weights: LoraState | None) -> Iterator[None]:
        yield

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        return x[:, None, None].expand(-1, 1, 1, 3)

    def parameters(self) -> list[Parameter]:
        return [self._slope]

    def lora_state(self) -> LoraState:
        return {"slope": self._slope.detach()}

    def load_lora_state(self, state: LoraState) -> None:
        self._slope.data.copy_(state["slope"])
