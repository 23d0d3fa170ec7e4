"""Mixed ODE-SDE rollout of one group, recording only the trained steps (arXiv 2507.21802, Algorithm 1).

Rows of the state are distinct latents. With shared noise a group is one row until the first stochastic step, where it
fans out: the deterministic prefix is computed once per prompt, and the first trained step has one input for the whole
group. A branching step multiplies the rows again. Leaves stand in the order of their ancestors.

Several prompts are rolled out side by side (`shared_calls`): rows that stand at one level share calls of the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import torch
from torch import Tensor

from ..models.port import Cond, FlowModel, alike
from ..support.seeds import derive_seed
from .kernels import Kernel
from .planners import Step, StepPlan
from .schedule import start_of
from .shared_calls import Asking, Question, answered
from .solvers import Euler, Solver
from .trajectory import State, Trajectory, Transition


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """How rollouts are sampled.

    Attributes:
        kernel: makes the stochastic steps.
        solver: makes the deterministic steps up to the last stochastic one.
        tail_solver: makes the deterministic steps after it; its history starts there.
        shared_noise: all images of a group start from the same noise (the paper's setting; table 17).
        batch: rows per network call; ``None`` is all at once.
        store_dtype: dtype of the recorded latents. The rollout goes on from the stored value, and its log-prob is
            taken of it, so that the ratio starts at 1.
        keep_mean: record the mean of each transition (ratio normalisation needs it).
        keep_start: record the start noise as the state of step 0, whatever the plan records.
    """

    kernel: Kernel
    solver: Solver[Any] = Euler()
    tail_solver: Solver[Any] = Euler()
    shared_noise: bool = True
    batch: int | None = None
    store_dtype: torch.dtype = torch.float32
    keep_mean: bool = False
    keep_start: bool = False


@dataclass(frozen=True, kw_only=True)
class Prompt(Generic[Cond]):
    """A prompt to roll out.

    Attributes:
        cond: its conditioning.
        plan: what each step is; its sigmas are the grid.
        seed: all noise of the rollout is a function of it.
    """

    cond: Cond
    plan: StepPlan
    seed: int


def rollout(
    model: FlowModel[Cond],
    cond: Cond,
    plan: StepPlan,
    sampling: RolloutSettings,
    *,
    group_size: int,
    seed: int,
    on_step: Callable[[int], None] = lambda step: None,
) -> Trajectory:
    """`rollout_together` of one prompt."""
    prompt = Prompt(cond=cond, plan=plan, seed=seed)
    return rollout_together(model, [prompt], sampling, group_size=group_size, on_step=on_step)[0]


def rollout_together(
    model: FlowModel[Cond],
    prompts: Sequence[Prompt[Cond]],
    sampling: RolloutSettings,
    *,
    group_size: int,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Trajectory]:
    """Sample one group of images of each prompt and record their trained transitions.

    Each is what it is alone, up to the rounding of larger calls.

    Args:
        model: the policy.
        prompts: what is rolled out.
        sampling: kernel, solvers and batching.
        group_size: images G of each; a multiple of each plan's ``leaves_per_row``.
        on_step: hears the index of each finished step of each prompt; raising from it cancels all of them.

    Returns:
        The trajectories in the order of the prompts; ``nfe`` holds counted network evaluations of a whole group.
    """
    alone = [_Rollout(model, each.plan, sampling, group_size, each.seed, on_step) for each in prompts]
    kinds = [alike(model, each.cond) for each in prompts]
    with torch.no_grad():
        return model.run(
            [each.cond for each in prompts],
            lambda velocity: answered(
                [each.run() for each in alone], velocity, lambda: model.evaluations, kinds=kinds, batch=sampling.batch
            ),
        )


@dataclass
class _Rollout:
    """One prompt's: it asks for velocities and goes on with the answers."""

    model: FlowModel[Any]
    plan: StepPlan
    sampling: RolloutSettings
    group_size: int
    seed: int
    on_step: Callable[[int], None]

    def __post_init__(self) -> None:
        leaves = self.plan.leaves_per_row
        self.roots, remainder = divmod(self.group_size, leaves)
        if remainder or self.roots < 1:
            raise ValueError(
                f"a plan with {leaves} leaves needs a group size that is a multiple of it, found {self.group_size}"
            )

    def run(self) -> Asking[Trajectory]:
        stochastic = self.plan.stochastic
        first, last = (stochastic[0], stochastic[-1]) if stochastic else (len(self.plan.steps), -1)
        noise = self.model.noise(derive_seed(self.seed, "start"), 1 if self.sampling.shared_noise else self.roots)
        x = start_of(noise, self.plan.sigmas)
        nfe = {"prefix": 0, "window": 0, "suffix": 0}
        transitions: list[Transition] = []
        states: list[State] = []
        solver, state = self.sampling.solver, self.sampling.solver.init()
        for i, step in enumerate(self.plan.steps):
            sigma, sigma_next = self.plan.sigmas[i], self.plan.sigmas[i + 1]
            if step.recorded or (i == 0 and self.sampling.keep_start):
                states.append(State(step=i, x=x, parents=self._ancestors(len(x)), sigma=sigma))
            answer = yield Question(x, sigma)
            nfe["prefix" if i < first else "window" if i <= last else "suffix"] += answer.evaluations
            if step.stochastic:
                children = step.children * (self.roots // len(x) if i == first else 1)
                x, transition = self._stochastic_step(i, step, x, answer.v, children)
                if transition is not None:
                    transitions.append(transition)
                # Noise was injected: a multistep history from before it would mix two different trajectories.
                solver = self.sampling.tail_solver if i == last else self.sampling.solver
                state = solver.init()
            else:
                x, state = solver.step(x, answer.v, sigma, sigma_next, state)
            self.on_step(i)
        final = x.repeat_interleave(self.group_size // len(x), dim=0)
        return Trajectory(
            transitions=tuple(transitions), states=tuple(states), final=final, sigmas=self.plan.sigmas, nfe=nfe
        )

    def _ancestors(self, rows: int, device: torch.device | None = None) -> Tensor:
        """``[G]``: from which of the ``rows`` each member descends; leaves stand in the order of ancestors."""
        return torch.arange(rows, device=device).repeat_interleave(self.group_size // rows)

    def _stochastic_step(
        self, i: int, step: Step, x: Tensor, v: Tensor, children: int
    ) -> tuple[Tensor, Transition | None]:
        sigma, sigma_next = self.plan.sigmas[i], self.plan.sigmas[i + 1]
        kernel = self.sampling.kernel.scaled(step.strength)
        rows = kernel(x, v, sigma, sigma_next)
        parent = torch.arange(len(x), device=x.device).repeat_interleave(children)
        noise = self.model.noise(derive_seed(self.seed, "step", i), len(parent))
        gaussian = replace(rows, mean=rows.mean[parent])
        x_next = gaussian.sample(noise).to(self.sampling.store_dtype)
        if not step.trained:
            return x_next, None
        leaves = self.group_size // len(parent)
        transition = Transition(
            step=i,
            kernel=kernel,
            x=x,
            parents=self._ancestors(len(x)),
            edge=self._ancestors(len(x_next), x.device),
            x_next=_per_leaf(x_next, leaves),
            sigma=sigma,
            sigma_next=sigma_next,
            old_log_prob=_per_leaf(gaussian.log_prob(x_next), leaves),
            old_mean=rows.mean if self.sampling.keep_mean else None,
        )
        return x_next, transition


def _per_leaf(rows: Tensor, leaves: int) -> Tensor:
    """Each row once per leaf under it; with one leaf each no copy: a latent is kept once, not as x and as x_next."""
    return rows if leaves == 1 else rows.repeat_interleave(leaves, dim=0)
