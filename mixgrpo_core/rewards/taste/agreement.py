"""How much a taste knows: what it says of votes that it never saw, against always saying the majority."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .head import fitted
from .opinions import Opinions

PARTS = 5
_BINS = 5
_HONEST = 0.12  # off by that much, percentages can be believed


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What heads that were learnt without a group say of it, over all groups.

    Attributes:
        thumbs: how many there were; ``right`` of them were said right, and ``majority`` is the share of the more
            frequent one: what always saying it would have right.
        pairs: how many; ``ordered`` is the share that was put in the right order. Tossing a coin has 0.5.
        calibration: mean distance between how sure of "up" it was and how often that was so; 0 is honest.
        bins: of thumbs by how sure of "up" it was: their number, how sure it was, and how often it was up.
    """

    thumbs: int
    right: float
    majority: float
    pairs: int
    ordered: float
    calibration: float
    bins: tuple[tuple[int, float, float], ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """How right it is, how it orders a group, and whether its percentages can be believed."""
        said = []
        if self.thumbs:
            told = "more than" if self.right > self.majority + 1e-9 else "no more than"
            said.append(
                f"of {self.thumbs} thumbs that it had not seen it says {self.right:.0%} right, {told} the "
                f"{self.majority:.0%} of always saying the majority"
            )
        if self.pairs:
            said.append(f"of {self.pairs} pairs within a group it orders {self.ordered:.0%} right (a coin: 50 %)")
        if self.thumbs:
            told = "can be taken at their word" if self.calibration <= _HONEST else "are to be taken with care"
            said.append(f"its percentages {told}: they are {self.calibration:.0%} off")
        return tuple(said) or ("nothing could be held back to try it on",)

    @property
    def words(self) -> str:
        """The sentences as one."""
        return "; ".join(self.sentences)

    @property
    def knows(self) -> bool:
        """It is better than the majority, or than a coin where there are pairs only."""
        return self.right > self.majority if self.thumbs and not self.pairs else self.ordered > 0.5

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Any) -> "Agreement":
        return cls(**{**found, "bins": tuple((int(n), float(a), float(b)) for n, a, b in found["bins"])})


def agreement(opinions: Opinions, *, conditioned: bool) -> Agreement:
    """Each group is said by a head that was learnt from the others: groups are dealt into ``PARTS``."""
    numbers = torch.unique(opinions.groups)
    parts = min(PARTS, len(numbers))
    said = torch.full((len(opinions),), torch.nan, dtype=torch.float64)
    if parts > 1:
        part_of = torch.arange(len(numbers)) % parts
        place = torch.searchsorted(numbers, opinions.groups)
        for part in range(parts):
            unseen = part_of[place] == part
            known, asked = opinions.chosen(~unseen), opinions.chosen(unseen)
            head = fitted(known, conditioned=conditioned, members=1)
            said[unseen] = head.logits(asked.features, asked.prompts)[0]
    return _compared(opinions, said)


def _compared(opinions: Opinions, said: Tensor) -> Agreement:
    thumbs = opinions.thumbs
    judged = thumbs.isfinite() & said.isfinite()
    up, sure = thumbs[judged], said[judged].sigmoid()
    share = float(up.mean()) if len(up) else 0.0
    better, worse, _ = opinions.pairs()
    gap = (said[better] - said[worse])[(said[better] - said[worse]).isfinite()]
    ordered = float(((gap > 0).double() + (gap == 0).double() / 2).mean()) if len(gap) else 0.0
    bins = _binned(sure, up)
    off = sum(count * abs(told - was) for count, told, was in bins) / max(1, len(up))
    return Agreement(
        thumbs=len(up),
        right=float(((sure > 0.5) == (up > 0.5)).double().mean()) if len(up) else 0.0,
        majority=max(share, 1 - share) if len(up) else 0.0,
        pairs=len(gap),
        ordered=ordered,
        calibration=off,
        bins=bins,
    )


def _binned(sure: Tensor, up: Tensor) -> tuple[tuple[int, float, float], ...]:
    place = (sure * _BINS).long().clamp(max=_BINS - 1)
    found = ((place == number) for number in range(_BINS))
    return tuple((int(b.sum()), float(sure[b].mean()), float(up[b].mean())) for b in found if bool(b.any()))
