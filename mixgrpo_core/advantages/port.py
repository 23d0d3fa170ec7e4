"""The credit port: who of a group, at which step, at which place, is to be made likelier.

Credit is made in stages, one after the other, each over all groups of an iteration before the next begins. A stage
looks at a group while its images are there, changes the advantages of single groups, and then of all groups together.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from ..rewards.port import Context, Scores
from ..sampling.planners import StepPlan
from ..sampling.trajectory import Trajectory
from ..support.facts import RunFacts

Looked = Mapping[str, Tensor]
"""What a stage keeps of a group's images: small tensors by name."""
Width = Literal["member", "step", "place"]
"""``[G]``, ``[G, W]``, ``[G, W, *latent]``."""
WIDTHS: tuple[Width, ...] = ("member", "step", "place")
"""From coarse to fine."""


@dataclass(frozen=True)
class Advantages:
    """The credit of one group.

    Attributes:
        values: ``[G]``, ``[G, W]`` (a number per trained step) or ``[G, W, *latent]`` (broadcastable), 0 where not
            counted.
        counted: ``[G]``, which members count; the others are no part of the group.
        parts: advantages per reward, ``[G]`` each, before they were mixed.
        figures: what stages report of the group, by name; a run reports their means over its groups.
    """

    values: Tensor
    counted: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    def changed(self, values: Tensor, **figures: Tensor | float) -> "Advantages":
        """With other values, and further figures of the group."""
        return replace(self, values=values, figures={**self.figures, **{n: float(f) for n, f in figures.items()}})


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """One group after its rollout, as the stages see it.

    Attributes:
        prompt: the prompt.
        place: of the group in its iteration.
        iteration: of the run.
        plan: how it was rolled out.
        trajectory: what was recorded.
        scores: of the trained rewards by name.
        weights: of the same rewards, >= 0, one above 0.
        floors: for some of the rewards, the least standard deviation to divide by.
        context: reference picture and mask that travel with the prompt.
        places: maps over images ``[B, H, W]`` as maps over latents (the model's).
    """

    prompt: str
    place: int
    iteration: int
    plan: StepPlan
    trajectory: Trajectory
    scores: Mapping[str, Scores]
    weights: Mapping[str, float]
    floors: Mapping[str, float]
    context: Context
    places: "Places"


class Places(Protocol):
    """``FlowModel.places``."""

    @abstractmethod
    def __call__(self, maps: Tensor) -> Tensor:
        """Maps over images ``[B, H, W]``, float, as maps over latents ``[B, ...]`` that broadcast to ``[B, *L]``."""
        ...


class Credit(Protocol):
    """One stage of credit: a frozen dataclass of settings. What it does not do has a default."""

    makes: ClassVar[bool] = False
    """Whether it makes advantages of scores: the first stage does, and no other."""
    widens: ClassVar[Width | None] = None
    """To what it widens the advantages, if it does: such stages come last."""
    narrow: ClassVar[bool] = False
    """Whether it takes one number per image though it widens them: then it is the first that does."""
    mixes: ClassVar[bool] = False
    """Whether it mixes the rewards' own advantages itself: then only the first stage stands before it."""

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` with one sentence where the run that is asked for cannot be right."""
        return

    def look(self, group: ScoredGroup, images: Tensor) -> Looked:
        """What it wants to remember of the images ``[G, H, W, 3]`` in 0..1, which are let go of afterwards."""
        return {}

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The new advantages of one group, ``[G]``, ``[G, W]`` or ``[G, W, *L]``.

        Args:
            advantages: those of the stage before; None for the first.
            looked: the stage's own tensors of this group, as its ``look`` gave them.
        """
        assert advantages is not None  # a stage that makes them has a method of its own
        return advantages

    def of_iteration(self, groups: Sequence[Advantages]) -> Sequence[Advantages]:
        """The new advantages of all groups of an iteration, in order: as many as came, each of the shape it had."""
        return groups


def require_stages(stages: Sequence[Credit]) -> None:
    """Raise ``ValueError`` unless the first stage, and only it, makes advantages, and those that widen come last."""
    if not stages or not stages[0].makes:
        found = type(stages[0]).__name__ if stages else "nothing"
        raise ValueError(
            f"credit begins with a stage that makes advantages of scores, such as WeightedAdvantages(), found {found}"
        )
    reached: Width = "member"
    wide, maker = "", type(stages[0]).__name__
    for place, stage in enumerate(stages[1:], 1):
        name = type(stage).__name__
        if stage.makes:
            raise ValueError(
                f"only the first stage of credit makes advantages of scores, and {maker} and {name} both do: take "
                "one out"
            )
        if stage.mixes and place > 1:
            raise ValueError(
                f"{name} mixes the rewards itself, and what {type(stages[place - 1]).__name__} made of them would be "
                f"lost: put {name} directly after the first stage"
            )
        if (stage.widens is None or stage.narrow) and reached != "member":
            raise ValueError(f"{name} changes numbers per image and must stand before {wide}, which widens them")
        if stage.widens is not None:
            if WIDTHS.index(stage.widens) < WIDTHS.index(reached):
                raise ValueError(
                    f"{name} makes a number per {stage.widens} and must stand before {wide}, which makes one per "
                    f"{reached}"
                )
            reached, wide = stage.widens, name


def width_of(stages: Sequence[Credit]) -> Width:
    """The finest credit that ``stages`` give."""
    widths = [stage.widens for stage in stages if stage.widens is not None]
    return widths[-1] if widths else "member"


def widest_of(stages: Sequence[Credit]) -> str:
    """The name of the stage that gives it, the last that widens; of the first where none does."""
    return next((type(stage).__name__ for stage in reversed(stages) if stage.widens), type(stages[0]).__name__)
