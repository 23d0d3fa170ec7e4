"""A network that embeds, with its file, its dtype and its place; images and texts as points on one sphere."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from .filling import check, filled
from .places import Network, Place, Precision, Resident, dtype_for, shared


@dataclass(frozen=True)
class Part:
    """Parameters of one network in a file, under the network's own names.

    Attributes:
        path: of the file or folder.
        identity: what makes them these parameters.
        shapes: of every parameter.
        read: the parameters, on the CPU in the file's dtype.
    """

    path: Path
    identity: Hashable
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[], dict[str, Tensor]]


class Tower:
    """A network, read when it is first needed and shared by all that use the same part of the same file.

    Attributes:
        network: it, in evaluation mode once it is read.
        place: where it computes.
        dtype: that it computes in.
    """

    def __init__(
        self,
        kind: str,
        part: Part,
        build: Callable[[], nn.Module],
        *,
        architecture: Hashable,
        precision: Precision,
        place: Place | None,
    ) -> None:
        """Nothing is read yet.

        Args:
            kind: a word that tells it from other networks of the same part.
            build: makes the network, with any numbers in it.
            architecture: what ``build`` depends on.
        """
        self.place = place or Resident()
        self.dtype = dtype_for(precision, self.place.device)
        self._part, self._build = part, build
        load = partial(_load, part, build, self.dtype)  # nothing of the tower: a circle would keep the network longer
        self.network: Network = shared((kind, part.identity, architecture, self.dtype), load)

    @cached_property
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        return self.dtype.itemsize * sum(torch.Size(shape).numel() for shape in self._part.shapes.values())

    def check(self) -> None:
        """Raises WeightsError unless the file holds every parameter, and no other, each of the right shape."""
        check(self._build, self._part.shapes, self._part.path)

    def at_place(self) -> AbstractContextManager[nn.Module]:
        """Inside, the network is where it computes."""
        return self.network.at(self.place)

    def release(self) -> None:
        """Give its memory back; asked again, it is read again."""
        self.network.release()


def unit(features: Tensor) -> Tensor:
    """Features ``[B, D]`` scaled to length 1, in float32 at least: their cosines differ in the third digit."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


def _load(part: Part, build: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    check(build, part.shapes, part.path)
    return filled(build, part.read(), dtype)


def dtype_of(network: nn.Module) -> torch.dtype:
    """The dtype of its parameters."""
    return next(network.parameters()).dtype
