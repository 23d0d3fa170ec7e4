"""Terms of pieces as a table of members and columns, and its gradient in one pass or in two."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..models.policy import Policy
from ..rewards.port import Scores
from ..support.queued import index_on
from .pieces import Column, Group, Moment, Piece, StepNumbers
from .port import Cells, LossReport, Objective
from .regularisers import Regulariser


def cells_of(
    group: Group, columns: Sequence[Column], members: Tensor, candidates: Sequence[StepNumbers], moment: Moment
) -> Cells:
    """What a loss knows of some ``members [g]`` (indices on the CPU) and ``columns`` of a group."""
    trajectory, its = group.trajectory, index_on(group.trajectory.final.device, members)
    steps = [column.index for column in columns]
    edges = None
    if all(column.step is not None for column in columns):
        edges = torch.stack([trajectory.transitions[step].edge[its] for step in steps], 1)
    return Cells(
        advantages=advantages_of(group, columns, its),
        columns=columns,
        members=group.numbers[members],
        edges=edges,
        size=group.whole_size,
        latent_elements=trajectory.final[0].numel(),
        candidates=candidates,
        moment=moment,
        prompt=group.prompt,
        parts={name: part[members] for name, part in group.parts.items()},
        scores={name: _values(scores)[members] for name, scores in group.scores.items()},
    )


def _values(scores: Scores) -> Tensor:
    return torch.where(scores.valid, scores.values, torch.nan)


def advantages_of(group: Group, columns: Sequence[Column], members: Tensor | slice) -> Tensor:
    """``[g]``, ``[g, C]`` or ``[g, C, *latent]`` of ``members [g]``, indices where the advantages are.

    Raises:
        ValueError: they are one per step, and the columns are none.
    """
    advantage = group.advantage[members]
    if advantage.ndim == 1:
        return advantage
    if any(column.step is None for column in columns):
        raise ValueError(
            f"an advantage per step, {list(advantage.shape)}, needs an objective that trains on transitions"
        )
    return advantage[:, [column.index for column in columns]]


def one_pass(
    objective: Objective, regularisers: Sequence[Regulariser], policy: Policy, piece: Piece, cells: Cells
) -> tuple[Tensor, LossReport]:
    """The loss of one piece with its gradient, regularisers included, and the report of the objective."""
    terms = {**objective.fixed_terms(policy, piece), **objective.terms(policy, piece)}
    report = objective.loss({name: term.unsqueeze(1) for name, term in terms.items()}, cells)
    pull, means = _pull(regularisers, policy, piece)
    total = report.loss if pull is None else report.loss + pull
    return total, LossReport(loss=total.detach(), means={**report.means, **means}, maxima=report.maxima)


def _pull(regularisers: Sequence[Regulariser], policy: Policy, piece: Piece) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Sum of the regularisers' weighted means over a piece, and each mean by its name."""
    total, means = None, {}
    for regulariser in regularisers:
        mean = regulariser.penalty(policy, piece).mean()
        means[regulariser.figure] = mean.detach()
        total = regulariser.weight * mean if total is None else total + regulariser.weight * mean
    return total, means


@torch.no_grad()
def fill(
    table: dict[str, Tensor], objective: Objective, policy: Policy, piece: Piece, members: int, columns: int
) -> None:
    """A piece's part of each term's ``table [members, columns, ...]``, without a graph: the first of two passes."""
    for name, term in {**objective.fixed_terms(policy, piece), **objective.terms(policy, piece)}.items():
        if name not in table:
            table[name] = term.new_zeros(members, columns, *term.shape[1:])
        table[name][index_on(term.device, piece.members), piece.column.index] = term


def coefficients(
    objective: Objective, table: Mapping[str, Tensor], cells: Cells
) -> tuple[LossReport, dict[str, Tensor]]:
    """The loss of a whole table, and its derivative by each term that it depends on."""
    leaves = {
        name: term.detach().requires_grad_() if term.is_floating_point() else term for name, term in table.items()
    }
    with torch.enable_grad():
        report = objective.loss(leaves, cells)
        wanted = [name for name, leaf in leaves.items() if leaf.requires_grad]
        slopes = torch.autograd.grad(report.loss, [leaves[name] for name in wanted], allow_unused=True)
    found = {name: slope for name, slope in zip(wanted, slopes, strict=True) if slope is not None}
    return LossReport(loss=report.loss.detach(), means=report.means, maxima=report.maxima), found


def second_pass(
    objective: Objective,
    regularisers: Sequence[Regulariser],
    policy: Policy,
    piece: Piece,
    slopes: Mapping[str, Tensor],
    share: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What to differentiate for one piece: its terms times their coefficients, and ``share`` of its regularisers.

    Returns the regularisers' means by name, too.
    """
    surrogate: Tensor | None = None
    for name, term in objective.terms(policy, piece).items():
        if name in slopes:
            part = (slopes[name][index_on(term.device, piece.members), piece.column.index] * term).sum()
            surrogate = part if surrogate is None else surrogate + part
    pull, means = _pull(regularisers, policy, piece)
    if pull is not None:
        surrogate = share * pull if surrogate is None else surrogate + share * pull
    if surrogate is None:
        raise ValueError(f"{type(objective).__name__} has no term that its loss depends on: nothing could be learned")
    return surrogate, means
