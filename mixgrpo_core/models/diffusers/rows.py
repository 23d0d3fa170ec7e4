"""What a pipeline's call is told of several prompts: which rows of a batch belong to which."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...support.queued import sent
from .family import NEGATIVE, Embeds, Family
from .references import PICTURE, Reference


class Rows:
    """A family's arguments for batches.

    Prompts of unequal shapes have a call each: they would need padding, of which only the pipeline knows what it is.
    """

    def __init__(self, family: Family, device: torch.device) -> None:
        self._family, self._device = family, device

    def of(self, embeds: Sequence[Embeds], pictures: Sequence[Reference | None]) -> "Prompts":
        """Prompts by their number, on the device; fractions as float32, in which the latents then are."""
        placed = [{name: self._placed(tensor) for name, tensor in each.items()} for each in embeds]
        return Prompts(self, placed, pictures)

    def told(self, embeds: Embeds, rows: int, picture: Reference | None) -> dict[str, object]:
        """The arguments of ``rows`` rows of one prompt."""
        return self.of([embeds], [picture]).told([0] * rows)

    def kind(self, embeds: Mapping[str, Tensor], picture: Reference | None) -> Hashable:
        """What prompts of one call have in common: their shapes and their picture."""
        shape = None if self.listed else tuple(tensor.shape for tensor in embeds.values())
        return shape, None if picture is None else picture.key

    def dimension(self, name: str) -> int:
        """Where the rows of an argument lie."""
        return self._family.rows.get(name.removeprefix(NEGATIVE), 0)

    @property
    def listed(self) -> bool:
        return self._family.listed

    @property
    def alone(self) -> bool:
        """Whether each row has a call of its own."""
        return self._family.one_row

    def _placed(self, tensor: Tensor) -> Tensor:
        placed = sent(tensor, self._device)
        return placed.float() if tensor.is_floating_point() else placed


@dataclass(frozen=True)
class Prompts:
    """Some prompts' arguments."""

    rows: Rows
    embeds: Sequence[Mapping[str, Tensor]]
    pictures: Sequence[Reference | None]

    def told(self, own: Sequence[int]) -> dict[str, object]:
        """The arguments of a batch whose rows are of these prompts, which are alike in shape and have one picture."""
        names, picture = self.embeds[own[0]], self.pictures[own[0]]
        seen = {} if picture is None else {PICTURE: picture}
        if self.rows.listed:
            return {**{name: [self.embeds[number][name][0] for number in own] for name in names}, **seen}
        joined = {
            name: torch.cat([self.embeds[number][name] for number in own], dim=self.rows.dimension(name))
            for name in names
        }
        return {**joined, **seen}

    def calls(self, own: Sequence[int]) -> Iterator[list[int]]:
        """The places of a batch by call: all of them where prompts are alike, else those of one shape and picture."""
        if self.rows.alone:
            yield from ([place] for place in range(len(own)))
            return
        kinds: dict[Hashable, list[int]] = {}
        for place, number in enumerate(own):
            kinds.setdefault(self.rows.kind(self.embeds[number], self.pictures[number]), []).append(place)
        yield from kinds.values()
