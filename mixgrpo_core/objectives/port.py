"""The objective port: terms of pieces in a table, and a loss of the table.

Transition objectives (GRPO) look at the recorded steps; forward-process objectives (NFT, AWM) at the final latents with
fresh noise. Both name *terms*, numbers of a piece's members, and a loss of them. Where the loss is a mean over cells it
is taken piece by piece; where it needs several columns or whole groups at once, the update makes two passes: the terms
without a graph, and then each term's gradient times the coefficient that the loss gave it. The gradient is the same.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ..models.lagged import Lag
from ..models.policy import OLD, REFERENCE, Policy
from ..support.facts import RunFacts
from .pieces import Column, Draw, Moment, Piece, StepNumbers
from .regularisers.port import Regulariser

TRANSITIONS = "transitions"
"""Its columns are the recorded steps. Without it: its `draws`."""
OLD_MEAN = "old_mean"
"""The rollout keeps the mean of each recorded transition."""
START = "start"
"""The rollout keeps the start noise."""
COLUMNS = "columns"
"""Its loss needs all columns of a member at once."""
GROUP = "group"
"""Its loss needs all members of a group at once, and all columns."""
NEEDS = frozenset({TRANSITIONS, OLD_MEAN, START, COLUMNS, GROUP, REFERENCE, OLD})
"""The words that `needs` may hold; ``reference`` and ``old`` are policies that it asks."""

RATIO_DEVIATION = "ratio_deviation"
"""The figure of a ratio objective: the largest ``|ratio - 1|``."""

Credit = Literal["member", "step", "place"]
"""The finest credit an objective can use: ``[G]``, ``[G, W]`` or ``[G, W, *latent]``."""


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """What an objective made of some cells.

    Attributes:
        loss: scalar with gradient, a mean over the cells' members.
        means: detached scalars that are averaged over an update, by any name: they become figures of the report.
        maxima: detached scalars of which the largest counts.
    """

    loss: Tensor
    means: Mapping[str, Tensor] = field(default_factory=dict)
    maxima: Mapping[str, Tensor] = field(default_factory=dict)

    def with_means(self, **means: Tensor) -> "LossReport":
        """With further means beside its own."""
        return replace(self, means={**self.means, **means})


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a loss knows of the members and columns of its table.

    Attributes:
        advantages: ``[g]``, ``[g, C]`` or ``[g, C, *latent]``.
        columns: the C columns.
        members: ``[g]``, the members' numbers in the rollout.
        edges: ``[g, C]``, which outcome of each column's step a member descends from; None for forward draws.
        size: how many images the rollout had.
        latent_elements: D, the elements of one latent.
        candidates: the numbers of every step that the planner may ever train.
        moment: when it is.
        prompt: the prompt.
        parts: advantages per reward, ``[g]`` each, before they were mixed.
        scores: values per reward, ``[g]`` each.
    """

    advantages: Tensor
    columns: Sequence[Column]
    members: Tensor
    edges: Tensor | None
    size: int
    latent_elements: int
    candidates: Sequence[StepNumbers]
    moment: Moment
    prompt: str = ""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """What forward draws of one group are made from.

    Attributes:
        sigmas: ``[T + 1]``, the grid of the rollout.
        seed: of this group and update.
        shared_seed: the same for all groups and updates of an iteration.
    """

    sigmas: Tensor
    seed: int
    shared_seed: int


class Objective(Protocol):
    """Makes a loss of groups and their credit. A frozen dataclass of settings; what it does not need has a default.

    An objective is proven by its gradient: ``terms`` carry it, ``loss`` combines them.
    """

    @property
    def needs(self) -> frozenset[str]:
        """What it asks of the rollout, of the policies and of the update: words of this module."""
        return frozenset()

    @property
    def finest_credit(self) -> Credit:
        """The finest credit that it can use."""
        return "step" if TRANSITIONS in self.needs else "member"

    @property
    def policies(self) -> Mapping[str, Lag]:
        """Lagged policies that the run keeps for it, by name: ``policy.named(name, ...)``."""
        return {}

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """What is added to its loss."""
        return ()

    @property
    def plain_field(self) -> bool:
        """Whether it regresses the velocity to a target, which a guided field does not have."""
        return TRANSITIONS not in self.needs

    def sampled_by(self, updates: int) -> str | None:
        """Name of the policy that makes the rollouts after ``updates`` optimizer steps; None is the trained one."""
        return None

    def teaches(self, advantage: Tensor) -> bool:
        """Whether a group of this ``advantage``, float ``[G]`` or ``[G, W, ...]``, is trained on; else it is flat."""
        return bool((advantage != 0).any())

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` with one sentence where the run that is asked for cannot be right."""
        return

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """The forward draws of one group and update; none for an objective of transitions."""
        return ()

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """Numbers ``[g, ...]``, in at least float32, that carry no gradient, such as those of other policies; asked
        once per piece.
        """
        return {}

    @abstractmethod
    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """Numbers ``[g, ...]`` of the piece's members, in at least float32, that carry the gradient."""
        ...

    @abstractmethod
    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The loss of terms ``[g, C, ...]``, float: of one piece (C = 1) unless it needs COLUMNS or GROUP."""
        ...


@runtime_checkable
class RatioObjective(Protocol):
    """An objective of the probability ratio: where rollout and update disagree by rounding, old log-probs are retaken.

    The maxima of its reports hold ``ratio_deviation``.
    """

    @abstractmethod
    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """(low, high) of its ratio, or what its threshold amounts to. Noise above a tenth of it is too much."""
        ...

    @abstractmethod
    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """Logarithm ``[g]``, in at least float32, of the clipped ratio; ``[g, ...]`` where a member has several."""
        ...
