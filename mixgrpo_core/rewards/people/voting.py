"""Ways to vote on the images of a group, and what votes are worth."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class VoteScheme(Protocol):
    """How people vote; a vote is a number per image.

    Attributes:
        name: its word in a ballot's file.
        expected: (low, high) of the values.
        groupwise: a value depends on the votes for the other images.
    """

    name: ClassVar[str]
    expected: ClassVar[tuple[float, float]]
    groupwise: ClassVar[bool]

    @abstractmethod
    def check(self, vote: int, images: int) -> None:
        """Raise ``ValueError`` with a sentence when ``vote`` is none, in a group of ``images``."""
        ...

    @abstractmethod
    def values(self, votes: Mapping[int, int], images: int, rest: bool) -> Tensor:
        """Values ``[images]``, float32, NaN for images without one.

        Args:
            votes: by the image's place in the group, from 0.
            rest: the images without a vote were left out on purpose, which says something about them, too.
        """
        ...


@dataclass(frozen=True)
class Thumbs:
    """Thumbs up (1) or down (-1). An image that was left out on purpose is neither good nor bad (0)."""

    name: ClassVar[str] = "thumbs"
    expected: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    groupwise: ClassVar[bool] = False

    def check(self, vote: int, images: int) -> None:
        if vote not in (1, -1):
            raise ValueError(f"a thumb is 1 (up) or -1 (down), found {vote}")

    def values(self, votes: Mapping[int, int], images: int, rest: bool) -> Tensor:
        values = torch.full((images,), 0.0 if rest and votes else math.nan)
        for image, vote in votes.items():
            values[image] = float(vote)
        return values


@dataclass(frozen=True)
class Ranking:
    """The image's place: 1 is the best, equal places are ties. Images left out on purpose share the place behind.

    A value is the share of the other ranked images that the image beats, a tie being half: 1 for the best, 0 for the
    worst. One image alone beats nobody and has none.
    """

    name: ClassVar[str] = "ranking"
    expected: ClassVar[tuple[float, float]] = (0.0, 1.0)
    groupwise: ClassVar[bool] = True

    def check(self, vote: int, images: int) -> None:
        if not 1 <= vote <= images:
            raise ValueError(f"a place lies in 1..{images} (1 is the best), found {vote}")

    def values(self, votes: Mapping[int, int], images: int, rest: bool) -> Tensor:
        places = torch.full((images,), math.inf)
        for image, place in votes.items():
            places[image] = float(place)
        counted = torch.full((images,), bool(rest and votes)) | places.isfinite()
        others = counted[None, :].float()
        beaten = ((places[:, None] < places[None, :]) * others).sum(1)
        tied = ((places[:, None] == places[None, :]) * others).sum(1) - 1
        count = int(counted.sum())
        values = (beaten + tied / 2) / (count - 1) if count > 1 else torch.full((images,), math.nan)
        return torch.where(counted, values, math.nan)


VOTE_SCHEMES: Mapping[str, VoteScheme] = MappingProxyType({way.name: way for way in (Thumbs(), Ranking())})
"""By their word in a ballot's file."""
