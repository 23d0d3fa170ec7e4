"""From scored rollouts to optimizer steps (arXiv 2507.21802, Algorithm 1, lines 10-16).

A batch of groups is split into as many chunks as there are updates; each update accumulates the gradient of its chunk
piece by piece (one trained step and a few rows at a time) and takes one optimizer step.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Generic

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..models.ema import Ema
from ..models.port import Cond, FlowModel, LoraState, Policy, Velocity
from ..sampling.trajectory import Piece, Trajectory
from ..support.phases import PhaseClock
from .port import MEAN_OLD, OLD, TRANSITIONS, LossReport, Objective


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is NaN or infinite; no step was taken with it."""


@dataclass(frozen=True, kw_only=True)
class Group(Generic[Cond]):
    """One prompt's images, ready to train on: ``advantage [G]``, ``[G, W]`` or ``[G, W, *latent]``."""

    cond: Cond
    trajectory: Trajectory
    advantage: Tensor

    def select(self, members: Tensor) -> "Group[Cond]":
        """The group of some members, as if the others had never been sampled."""
        return replace(self, trajectory=self.trajectory.select(members), advantage=self.advantage[members])


@dataclass(frozen=True, kw_only=True)
class Updating:
    """How groups become optimizer steps.

    Attributes:
        updates: optimizer steps per pass over the groups.
        epochs: passes over the groups.
        batch: rows per forward and backward; more than one piece is gradient accumulation.
        max_grad_norm: the gradient's norm is clipped to it.
    """

    updates: int = 4
    epochs: int = 1
    batch: int = 16
    max_grad_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class UpdateStats:
    """Figures of all updates of one iteration; ``None`` where nothing gave them.

    ``ratio_first`` is max |ratio - 1| before the first step: the noise between rollout and update. ``recomputed`` says
    that it exceeded a tenth of the clip range, so that the old log-probs were taken again in the update's batching
    (``ratio_noise`` is what the probe found).
    """

    steps: int
    loss: float | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    kl: float | None = None
    grad_norm: float | None = None
    ratio_first: float | None = None
    ratio_max: float | None = None
    ratio_noise: float | None = None
    recomputed: bool = False


def update_policy(
    model: FlowModel[Cond],
    groups: Sequence[Group[Cond]],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    updating: Updating,
    *,
    clock: PhaseClock,
    ema: Ema | None = None,
    on_update: Callable[[int, int], None] = lambda done, total: None,
) -> UpdateStats:
    """Take ``updates * epochs`` optimizer steps (fewer when there are fewer members than updates).

    Raises:
        NonFiniteLoss: before a step would be taken with a loss or gradient that is not finite.
    """
    chunks = split_into_chunks(groups, updating.updates)
    if not chunks:
        return UpdateStats(steps=0)
    run = _Updater(model, objective, optimizer, updating, clock, _old_policy(model, objective))
    noise, chunks = run.recompute_if_noisy(chunks)
    figures, total = [], len(chunks) * updating.epochs
    for _ in range(updating.epochs):
        for chunk in chunks:
            figures.append(run.step(chunk))
            if ema is not None:
                ema.update(model.lora_state())
            on_update(len(figures), total)
    return _summary(figures, noise, run.recomputed)


def split_into_chunks(groups: Sequence[Group[Cond]], updates: int) -> list[list[Group[Cond]]]:
    """Groups dealt out to ``updates`` chunks: whole groups while there are enough, else interleaved members of each.

    Whole groups keep the shared first step one evaluation per group; nothing is dropped.
    """
    parts_per_group = ceil(updates / len(groups)) if groups else 1
    if parts_per_group == 1:
        return [list(groups[i::updates]) for i in range(min(updates, len(groups)))]
    parts = [
        group.select(torch.arange(start, group.trajectory.group_size, parts_per_group))
        for start in range(parts_per_group)
        for group in groups
        if start < group.trajectory.group_size
    ]
    return [chunk for chunk in (parts[i::updates] for i in range(updates)) if chunk]


def _old_policy(model: FlowModel, objective: Objective) -> LoraState | None:
    if OLD not in objective.needs:
        return None
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}


@dataclass
class _Updater:
    model: FlowModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    updating: Updating
    clock: PhaseClock
    old: LoraState | None
    recomputed: bool = False

    def pieces(self, group: Group) -> Iterator[Piece]:
        trajectory = group.trajectory
        by_step = TRANSITIONS in self.objective.needs
        return (trajectory.step_pieces if by_step else trajectory.member_pieces)(self.updating.batch)

    def weight(self, group: Group) -> int:
        columns = len(group.trajectory.transitions) if TRANSITIONS in self.objective.needs else 1
        return group.trajectory.group_size * columns

    def loss(self, velocity: Velocity, group: Group, piece: Piece) -> LossReport:
        policy = Policy(velocity, self.model.using, self.old, self.clock.phase)
        return self.objective.loss(policy, piece.trajectory, piece.advantage(group.advantage))

    def step(self, chunk: Sequence[Group]) -> tuple[dict[str, float], dict[str, float]]:
        """One optimizer step on the mean loss over the chunk's members and trained steps."""
        means, maxima = defaultdict(float), defaultdict(float)
        total = sum(self.weight(group) for group in chunk)
        self.optimizer.zero_grad(set_to_none=True)
        for group in chunk:

            def accumulate(velocity: Velocity, group: Group = group) -> None:
                for piece in self.pieces(group):
                    report = self.loss(velocity, group, piece)
                    share = len(piece.members) / total
                    (report.loss * share).backward()
                    means["loss"] += float(report.loss.detach()) * share
                    for name, value in report.means.items():
                        means[name] += float(value) * share
                    for name, value in report.maxima.items():
                        maxima[name] = max(maxima[name], float(value))

            self.model.run(group.cond, accumulate)
        norm = float(clip_grad_norm_(list(self.model.parameters()), self.updating.max_grad_norm))
        if not all(map(_finite, (means["loss"], norm))):
            raise NonFiniteLoss(
                f"the update's loss is {means['loss']} and its gradient norm {norm}; expected finite numbers. The "
                "weights before it are kept, and the same seed would end here again: start a new run from them "
                "(lora/last) with a lower learning rate, or compute in float32 if this is bf16"
            )
        self.optimizer.step()
        return {**means, "grad_norm": norm}, dict(maxima)

    @torch.no_grad()
    def recompute_if_noisy(self, chunks: list[list[Group]]) -> tuple[float | None, list[list[Group]]]:
        """Old log-probs in the update's own batching, when rollout and update disagree by over a tenth of the clip."""
        group = chunks[0][0]
        clip = self.objective.clip_range(group.trajectory.final[0].numel())
        if clip is None or TRANSITIONS not in self.objective.needs:
            return None, chunks
        last_step = [piece for piece in self.pieces(group) if piece.column == len(group.trajectory.transitions) - 1]
        probes = last_step[:1] + last_step[1:][-1:]  # a full batch, and what is left over

        def deviation(velocity: Velocity) -> float:
            return max(float(self.loss(velocity, group, probe).maxima["ratio_deviation"]) for probe in probes)

        with self.clock.phase("probe"):
            noise = self.model.run(group.cond, deviation)
        if noise <= min(clip) / 10:
            return noise, chunks
        self.recomputed = True
        with self.clock.phase("probe"):
            return noise, [[self._rescored(group) for group in chunk] for chunk in chunks]

    def _rescored(self, group: Group) -> Group:
        transitions = list(group.trajectory.transitions)

        def rescore(velocity: Velocity) -> None:
            for piece in self.pieces(group):
                (transition,) = piece.trajectory.transitions
                rows = transition.gaussian(velocity(transition.x, transition.sigma))
                log_prob = transition.per_member(rows).log_prob(transition.x_next)
                mean = rows.mean if MEAN_OLD in self.objective.needs else None
                transitions[piece.column] = transitions[piece.column].rescored(piece.members, log_prob, mean)

        self.model.run(group.cond, rescore)
        return replace(group, trajectory=replace(group.trajectory, transitions=tuple(transitions)))


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _summary(
    figures: list[tuple[dict[str, float], dict[str, float]]], noise: float | None, recomputed: bool
) -> UpdateStats:
    def mean(name: str) -> float | None:
        values = [means[name] for means, _ in figures if name in means]
        return sum(values) / len(values) if values else None

    ratios: list[Any] = [maxima.get("ratio_deviation") for _, maxima in figures]
    return UpdateStats(
        steps=len(figures),
        loss=mean("loss"),
        clip_low=mean("clip_low"),
        clip_high=mean("clip_high"),
        kl=mean("kl"),
        grad_norm=mean("grad_norm"),
        ratio_first=ratios[0],
        ratio_max=None if ratios[0] is None else max(ratios),
        ratio_noise=noise,
        recomputed=recomputed,
    )
