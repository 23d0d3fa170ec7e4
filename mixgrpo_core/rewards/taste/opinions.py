"""What people said of pictures, in the form that a taste is learnt from: features, values, and who was beside whom."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

MOST = 1024
"""Images that are learnt from, the newest: the time grows with the third power of their number."""


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """What was said of ``n`` images; images of one group were voted on side by side.

    Attributes:
        features: ``[n, D]``.
        values: ``[n]``; thumbs are 1 (up) and -1 (down), places of a ranking lie in 0 (worst) .. 1.
        ranked: ``[n]`` bool: the value compares within the group only.
        groups: ``[n]``, the group's number.
        prompts: of each image; empty where there is none.
    """

    features: Tensor
    values: Tensor
    ranked: Tensor
    groups: Tensor
    prompts: tuple[str, ...]

    @classmethod
    def of_group(cls, features: Tensor, values: Tensor, prompt: str, *, ranked: bool) -> "Opinions":
        """Those on one group, of the images that have a value: neither NaN nor, of thumbs, 0."""
        said = values.isfinite() & ((values != 0) | ranked)
        count = int(said.sum())
        return cls(
            features=features[said].float(),
            values=values[said].float(),
            ranked=torch.full((count,), ranked),
            groups=torch.zeros(count, dtype=torch.long),
            prompts=(prompt,) * count,
        )

    @classmethod
    def joined(cls, parts: Iterable["Opinions"]) -> "Opinions":
        """All of ``parts``, their groups numbered anew; the newest ``MOST`` images, groups whole."""
        kept: list[Opinions] = []
        for part in reversed([part for part in parts if len(part)]):
            if kept and sum(map(len, kept)) + len(part) > MOST:
                break
            kept.insert(0, part)
        if not kept:
            return cls.none()
        numbers, start = [], 0
        for part in kept:
            found = torch.unique(part.groups, return_inverse=True)[1]
            numbers.append(found + start)
            start += int(found.max()) + 1
        return cls(
            features=torch.cat([part.features for part in kept]),
            values=torch.cat([part.values for part in kept]),
            ranked=torch.cat([part.ranked for part in kept]),
            groups=torch.cat(numbers),
            prompts=tuple(prompt for part in kept for prompt in part.prompts),
        )

    @classmethod
    def none(cls) -> "Opinions":
        """Nobody said anything."""
        empty = torch.zeros(0)
        return cls(features=empty[:, None], values=empty, ranked=empty.bool(), groups=empty.long(), prompts=())

    def __len__(self) -> int:
        return len(self.values)

    @property
    def thumbs(self) -> Tensor:
        """``[n]``, 1 is up, 0 is down, NaN is no thumb."""
        return torch.where(self.ranked, torch.nan, (self.values + 1) / 2).double()

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Better and worse image ``[m]`` of each pair within a group, and weights ``[m]``: half an image of its group
        each in all, so that a group counts by its images and not by its pairs."""
        better = (self.groups[:, None] == self.groups[None]) & (self.values[:, None] > self.values[None])
        one, other = better.nonzero().unbind(1)
        if not len(one):
            return one, other, torch.zeros(0, dtype=torch.float64)
        groups = int(self.groups.max()) + 1
        paired = better.any(0) | better.any(1)
        images = torch.zeros(groups, dtype=torch.float64).index_add_(0, self.groups, paired.double())
        count = torch.zeros(groups, dtype=torch.float64).index_add_(0, self.groups[one], torch.ones(len(one)).double())
        return one, other, images[self.groups[one]] / (2 * count[self.groups[one]])

    def chosen(self, which: Tensor) -> "Opinions":
        """Those ``which [n]`` (bool) tells; groups keep their numbers."""
        places = which.nonzero()[:, 0]
        return Opinions(
            features=self.features[places],
            values=self.values[places],
            ranked=self.ranked[places],
            groups=self.groups[places],
            prompts=tuple(self.prompts[place] for place in places.tolist()),
        )

    def require_enough(self, least: int) -> None:
        """Raise ``ValueError`` with one sentence where nothing can be learnt from these."""
        if len(self) < least:
            raise ValueError(
                f"expected votes on at least {least} images to learn a taste from, found {len(self)}: vote on more"
            )
        thumbs = self.thumbs[~self.ranked]
        if not len(self.pairs()[0]) and len(thumbs.unique()) < 2:
            word = "up" if len(thumbs) and thumbs[0] == 1 else "down"
            found = f"all {len(thumbs)} thumbs are {word}" if len(thumbs) else "all places are ties"
            raise ValueError(f"expected some images that are liked better than others, but {found}: vote on others")

    def to_values(self) -> dict[str, Any]:
        """As tensors and JSON values, for a file or a checkpoint."""
        runs = [[prompt, len(list(same))] for prompt, same in groupby(self.prompts)]
        tensors = {name: getattr(self, name) for name in ("features", "values", "groups")}
        return {**tensors, "ranked": self.ranked.to(torch.uint8), "prompts": runs}

    @classmethod
    def from_values(cls, found: Any) -> "Opinions":
        """Those that ``to_values`` gave."""
        prompts: Sequence[Sequence[Any]] = found["prompts"]
        return cls(
            features=found["features"],
            values=found["values"],
            ranked=found["ranked"].bool(),
            groups=found["groups"],
            prompts=tuple(prompt for prompt, count in prompts for _ in range(count)),
        )
