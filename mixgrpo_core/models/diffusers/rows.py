"""What a pipeline's call is told of several prompts: which rows of a batch belong to which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .family import NEGATIVE, Embeds, Family


class Rows:
    """A family's arguments for batches.

    Prompts of unequal shapes have a call each: they would need padding, of which only the pipeline knows what it is.
    """

    def __init__(self, family: Family, device: torch.device) -> None:
        self._family, self._device = family, device

    def of(self, embeds: Sequence[Embeds]) -> "Prompts":
        """Prompts by their number, on the device; fractions as float32, in which the latents then are."""
        return Prompts(self, [{name: self._placed(tensor) for name, tensor in each.items()} for each in embeds])

    def told(self, embeds: Embeds, rows: int) -> dict[str, object]:
        """The arguments of ``rows`` rows of one prompt."""
        return self.of([embeds]).told([0] * rows)

    def dimension(self, name: str) -> int:
        """Where the rows of an argument lie."""
        return self._family.rows.get(name.removeprefix(NEGATIVE), 0)

    @property
    def listed(self) -> bool:
        return self._family.listed

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, torch.float32 if tensor.is_floating_point() else None)


@dataclass(frozen=True)
class Prompts:
    """Some prompts' arguments."""

    rows: Rows
    embeds: Sequence[Mapping[str, Tensor]]

    def told(self, own: Sequence[int]) -> dict[str, object]:
        """The arguments of a batch whose rows are of these prompts, which are alike in shape."""
        names = self.embeds[own[0]]
        if self.rows.listed:
            return {name: [self.embeds[number][name][0] for number in own] for name in names}
        return {
            name: torch.cat([self.embeds[number][name] for number in own], dim=self.rows.dimension(name))
            for name in names
        }

    def calls(self, own: Sequence[int]) -> Iterator[list[int]]:
        """The places of a batch by call: all of them where the prompts are alike, else those of each shape."""
        shapes: dict[object, list[int]] = {}
        for place, number in enumerate(own):
            shape = None if self.rows.listed else tuple(tensor.shape for tensor in self.embeds[number].values())
            shapes.setdefault(shape, []).append(place)
        yield from shapes.values()
