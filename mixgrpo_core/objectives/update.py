"""From scored rollouts to optimizer steps (arXiv 2507.21802, Algorithm 1, lines 10-16).

A batch of groups is split into as many chunks as there are updates; each update accumulates the gradient of its chunk
piece by piece (one column and a few rows at a time) and takes one optimizer step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..models.ema import Ema
from ..models.lagged import Lagged
from ..models.policy import OLD, REFERENCE, Policy
from ..models.port import FlowModel, LoraState, Velocity, alike
from ..models.sizes import sized
from ..support.phases import PhaseClock
from ..support.queued import index_on
from ..support.ranks import ALONE, Ranks
from ..support.seeds import derive_seed
from ..support.sized import Size, size_of
from .chunks import split_into_chunks
from .figures import Figures, Step, UpdateStats, finite, joined, summary
from .look_back import LookBack
from .noise_probe import NoiseProbe, noise_allowed, without_noise
from .packs import Asked, calls, waves
from .pieces import (
    Column,
    Draw,
    Elsewhere,
    Group,
    Moment,
    Piece,
    StepNumbers,
    draw_columns,
    draw_pieces,
    transition_columns,
    transition_pieces,
)
from .port import COLUMNS, GROUP, TRANSITIONS, DrawRequest, Objective
from .regularisers import Regulariser
from .steering import Steering, tells
from .table import advantages_of, cells_of, coefficients, fill, one_pass, second_pass


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is NaN or infinite; no step was taken with it."""


@dataclass(frozen=True, kw_only=True)
class UpdateSettings:
    """How groups become optimizer steps.

    Attributes:
        updates: optimizer steps per pass over the groups.
        probe: the noise between rollout and update is looked at before the first step.
        move: share of the velocity that the learning rate steers to (`own_step`); None where it is fixed.
        look_back: a move that no update can tell of another is looked at after the last one.
        epochs: passes over the groups.
        batch: rows per forward and backward; more than one piece is gradient accumulation.
        max_grad_norm: the gradient's norm is clipped to it.
        regularisers: what is added to the objective's loss, besides its own.
        candidates: numbers of every step that the planner may ever train; step weights have mean 1 over them.
        of_sizes: the same for prompts with a size of their own, where the grid is another.
    """

    updates: int = 4
    probe: bool = True
    move: float | None = None
    look_back: bool = False
    epochs: int = 1
    batch: int = 16
    max_grad_norm: float = 1.0
    regularisers: Sequence[Regulariser] = ()
    candidates: Sequence[StepNumbers] = ()
    of_sizes: Mapping[Size, Sequence[StepNumbers]] = field(default_factory=dict)

    def candidates_of(self, prompt: str) -> Sequence[StepNumbers]:
        """Those of a prompt's size."""
        size = size_of(prompt)
        return self.candidates if size is None else self.of_sizes.get(size, self.candidates)


def update_policy(
    model: FlowModel[Any],
    groups: Sequence[Group | Elsewhere],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    updating: UpdateSettings,
    *,
    clock: PhaseClock,
    moment: Moment = Moment(),  # noqa: B008 (frozen)
    ema: Ema | None = None,
    lagged: Mapping[str, Lagged] = MappingProxyType({}),
    on_update: Callable[[int, int], None] = lambda done, total: None,
    ranks: Ranks = ALONE,
) -> UpdateStats:
    """Take ``updates * epochs`` optimizer steps (fewer when there are fewer members than updates).

    Args:
        moment: the first update's; forward draws are a function of it.
        ema, lagged: policies that follow the trained one after every step; the objective may ask lagged ones by name.
        on_update: hears how many steps are done, of how many.
        ranks: who train on the groups together.

    Raises:
        NonFiniteLoss: before a step would be taken with a loss or gradient that is not finite.
    """
    chunks = split_into_chunks(groups, updating.updates, whole=GROUP in objective.needs)
    if not chunks:
        return UpdateStats(steps=0)
    states = _states(model, objective, updating.regularisers, lagged)
    steering = Steering(optimizer, len(chunks), updating.move, ranks)
    run = _Updater(model, objective, optimizer, updating, clock, states, steering, ranks)
    probe = NoiseProbe(model, objective, updating.batch, run.policy) if updating.probe else None
    with clock.phase("probe"):
        noise, recomputed, own = without_noise(probe, chunks, ranks)
    told = (run.by_step and tells(chunks)) or not updating.look_back
    look = None if told else LookBack(model, _copy(model.lora_state()), updating.batch)
    figures: list[Step] = []
    total = len(chunks) * updating.epochs
    for _ in range(updating.epochs):
        for chunk in own:
            figures.append(run.step(chunk, replace(moment, update=moment.update + len(figures))))
            trained = model.lora_state()
            if ema is not None:
                ema.update(trained)
            for policy in lagged.values():
                policy.passed("update", trained)
            on_update(len(figures), total)
    if look is not None:
        with clock.phase("look back"):
            first = own[0][0] if isinstance(chunks[0][0], Group) else None
            steering.settle(*((0.0, 0.0) if first is None else look.sums(first, moment)))
    return UpdateStats(
        steps=len(figures),
        figures={**summary(figures), **steering.figures},
        ratio_noise=noise,
        noise_allowed=noise_allowed(objective, model.latent_shape),
        recomputed=recomputed,
    )


def _states(
    model: FlowModel[Any], objective: Objective, regularisers: Sequence[Regulariser], lagged: Mapping[str, Lagged]
) -> dict[str, LoraState | None]:
    """The policies that can be asked by name; the old one is copied only where somebody asks it."""
    states: dict[str, LoraState | None] = {REFERENCE: None}
    asked = {name for regulariser in (*objective.regularisers, *regularisers) for name in regulariser.policies}
    if OLD in objective.needs or OLD in asked:
        states[OLD] = _copy(model.lora_state())
    return states | {name: policy.weights for name, policy in lagged.items()}


def _copy(weights: LoraState) -> LoraState:
    return {name: tensor.clone() for name, tensor in weights.items()}


@dataclass(frozen=True)
class _Share:
    """Groups of one update that are trained on side by side, with their draws.

    Attributes:
        total: the update's cells, on all ranks.
        figures: of the update.
    """

    work: Sequence[tuple[Group, Sequence[Draw]]]
    moment: Moment
    total: int
    figures: Figures


@dataclass
class _Updater:
    model: FlowModel[Any]
    objective: Objective
    optimizer: torch.optim.Optimizer
    updating: UpdateSettings
    clock: PhaseClock
    states: Mapping[str, LoraState | None]
    steering: Steering
    ranks: Ranks

    def __post_init__(self) -> None:
        self.regularisers = (*self.objective.regularisers, *self.updating.regularisers)
        self.by_step = TRANSITIONS in self.objective.needs
        self.whole_table = bool({COLUMNS, GROUP} & self.objective.needs)

    def draws(self, group: Group, moment: Moment) -> Sequence[Draw]:
        if self.by_step:
            return ()
        shared = derive_seed("draws", moment.seed, moment.iteration)
        return self.objective.draws(
            DrawRequest(sigmas=group.trajectory.sigmas, seed=self.seed(group, moment), shared_seed=shared)
        )

    @staticmethod
    def seed(group: Group, moment: Moment) -> int:
        return derive_seed("draws", moment.seed, moment.iteration, moment.update, group.place)

    def columns(self, group: Group, draws: Sequence[Draw]) -> list[Column]:
        return transition_columns(group) if self.by_step else draw_columns(group, draws)

    def pieces(self, group: Group, draws: Sequence[Draw], moment: Moment) -> Iterator[Piece]:
        batch = self.updating.batch
        if self.by_step:
            return transition_pieces(group, batch)
        return draw_pieces(group, draws, sized(self.model, group.prompt), self.seed(group, moment), batch)

    def policy(self, velocity: Velocity) -> Policy:
        return Policy(velocity, self.model.with_weights, self.states, self.clock.phase)

    def step(self, chunk: Sequence[Group], moment: Moment) -> Step:
        """One optimizer step on the mean loss over members and columns: this rank's are those of ``chunk``."""
        figures = Figures()
        work = [(group, self.draws(group, moment)) for group in chunk]
        cells = [len(self.columns(group, draws)) * group.count for group, draws in work]
        (total,) = self.ranks.sum_numbers(sum(cells))
        self.optimizer.zero_grad(set_to_none=True)
        filled = [each for each, count in zip(work, cells, strict=True) if count]
        for wave in waves(filled, self.updating.batch, lambda each: each[0].prompt):
            accumulate = self._in_two_passes if self.whole_table else self._piece_by_piece
            share = _Share(wave, moment, int(total), figures)
            model = sized(self.model, wave[0][0].prompt)
            model.run([group.cond for group, _ in wave], partial(accumulate, share))
        means, maxima = joined(figures.read(), self.ranks)
        self.ranks.sum_gradients(self.model.parameters())
        norm = float(clip_grad_norm_(list(self.model.parameters()), self.updating.max_grad_norm))
        if not all(map(finite, (means["loss"], norm))):
            raise NonFiniteLoss(
                f"the update's loss is {means['loss']} and its gradient norm {norm}; expected finite numbers. "
                "The weights before it are kept, and the same seed would end here again: start a new run from them "
                "(the LoRA named last) with a lower learning rate, or compute in float32 if this is bf16"
            )
        self.steering.before_step()
        self.optimizer.step()
        return {**means, "grad_norm": norm}, maxima

    def _calls(self, share: _Share, velocity: Velocity) -> Iterator[list[Asked]]:
        pieces = [self.pieces(group, draws, share.moment) for group, draws in share.work]
        kinds = [alike(self.model, group.cond) for group, _ in share.work]
        return calls(pieces, kinds, self.updating.batch, velocity, self.policy)

    def _piece_by_piece(self, share: _Share, velocity: Velocity) -> None:
        """The gradient of a loss that is a mean over cells."""
        for call in self._calls(share, velocity):
            losses = []
            for number, policy, piece in call:
                group = share.work[number][0]
                candidates = self.updating.candidates_of(group.prompt)
                cells = cells_of(group, [piece.column], piece.members, candidates, share.moment)
                loss, report = one_pass(self.objective, self.regularisers, policy, piece, cells)
                self._hear(policy, piece, cells.advantages, group.place)
                part = len(piece.members) / share.total
                losses.append(loss * part)
                share.figures.add(report, part)
            sum(losses[1:], losses[0]).backward()

    def _in_two_passes(self, share: _Share, velocity: Velocity) -> None:
        """The gradient of a loss of whole tables: their coefficients first, then each term times its own."""
        columns = [self.columns(group, draws) for group, draws in share.work]
        tables: list[dict[str, Tensor]] = [{} for _ in share.work]
        for call in self._calls(share, velocity):
            for number, policy, piece in call:
                count = share.work[number][0].count
                fill(tables[number], self.objective, policy, piece, count, len(columns[number]))
        slopes = []
        for (group, _), its, table in zip(share.work, columns, tables, strict=True):
            candidates = self.updating.candidates_of(group.prompt)
            cells = cells_of(group, its, torch.arange(group.count), candidates, share.moment)
            report, found = coefficients(self.objective, table, cells)
            whole = group.count * len(its) / share.total
            share.figures.add(report, whole)
            slopes.append({name: slope * whole for name, slope in found.items()})
        for call in self._calls(share, velocity):
            surrogates = []
            for number, policy, piece in call:
                surrogates.append(self._second_pass(share, slopes[number], policy, piece))
                group, chosen = share.work[number][0], index_on(piece.final.device, piece.members)
                self._hear(policy, piece, advantages_of(group, [piece.column], chosen), group.place)
            sum(surrogates[1:], surrogates[0]).backward()

    def _second_pass(self, share: _Share, slopes: Mapping[str, Tensor], policy: Policy, piece: Piece) -> Tensor:
        part = len(piece.members) / share.total
        surrogate, means = second_pass(self.objective, self.regularisers, policy, piece, slopes, part)
        share.figures.add_means(means, part)
        share.figures.add_to_loss([(r.weight, means[r.figure]) for r in self.regularisers], part)
        return surrogate

    def _hear(self, policy: Policy, piece: Piece, advantages: Tensor, place: int) -> None:
        if self.by_step:
            self.steering.hear(policy, piece, advantages, place)
