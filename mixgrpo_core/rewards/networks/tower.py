"""A network in a file: with its dtype and its place, read when it is first needed, shared where it is the same.

    tower = Tower("DINOv2", Whole(weights, load), precision="auto", place=Resident())
    with tower.at_place() as network: ...

Every network of a reward is a tower. What is in its file says how it is read: `FilePart`, parameters under the
network's own names, or `Whole`, a file that transformers fills its network from.
"""

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .filling import assigned, require_same
from .places import M, Network, Placement, Precision, Resident, dtype_for, shared
from .weight_files import Weights, WeightsError

M_co = TypeVar("M_co", bound=nn.Module, covariant=True)


class Contents(Protocol[M_co]):
    """What a file holds of a network."""

    @property
    def identity(self) -> Hashable:
        """What makes them these contents: other than those of any other file."""
        ...

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the network's weights when it computes in ``dtype``."""
        ...

    def told(self) -> bool:
        """Whether names and shapes tell that it is the network; else it has to be read. Raises WeightsError where they
        tell that it is another."""
        ...

    def load(self, dtype: torch.dtype) -> M_co:
        """The network on the CPU, in ``dtype``. Raises WeightsError where the file holds another."""
        ...


@dataclass(frozen=True)
class FilePart:
    """Parameters of one network in a file, under the network's own names.

    Attributes:
        path: of the file or folder.
        identity: what makes them these parameters.
        shapes: of every parameter.
        read: the parameters, on the CPU in the file's dtype.
        build: makes the network, with any numbers in it.
    """

    path: Path
    identity: Hashable
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[], dict[str, Tensor]]
    build: Callable[[], nn.Module]

    def memory(self, dtype: torch.dtype) -> int:
        return dtype.itemsize * sum(torch.Size(shape).numel() for shape in self.shapes.values())

    def told(self) -> bool:
        require_same(self.build, self.shapes, self.path)
        return True

    def load(self, dtype: torch.dtype) -> nn.Module:
        require_same(self.build, self.shapes, self.path)
        return assigned(self.build, self.read(), dtype)


@dataclass(frozen=True)
class Whole(Generic[M]):
    """All tensors of a file or folder, under names that only who reads them knows.

    Attributes:
        weights: they.
        reading: makes the network of the dtype that it computes in; raises WeightsError. It must not hold who asks.
        exact: beginnings of the names of tensors that are in float32 whatever the dtype.
    """

    weights: Weights
    reading: Callable[[torch.dtype], M]
    exact: tuple[str, ...] = ()

    @property
    def identity(self) -> Hashable:
        """Its files, and the folder's configuration: the same tensors with other heads are another network."""
        return self.weights.identity, repr(sorted(self.weights.config.items()))

    def memory(self, dtype: torch.dtype) -> int:
        exact = self.weights.size_of(name for name in self.weights.shapes if name.startswith(self.exact))
        return dtype.itemsize * (self.weights.size_of(self.weights.shapes) - exact) + torch.float32.itemsize * exact

    def told(self) -> bool:
        return False

    def load(self, dtype: torch.dtype) -> M:
        return self.reading(dtype)


class Tower(Generic[M]):
    """A network, read when it is first needed and shared by all that use the same contents.

    Attributes:
        network: it, in evaluation mode once it is read.
        place: where it computes.
        dtype: that it computes in.
    """

    def __init__(
        self,
        kind: str,
        contents: Contents[M],
        *,
        architecture: Hashable = None,
        precision: Precision,
        place: Placement | None,
    ) -> None:
        """Nothing is read yet.

        Args:
            kind: a word that tells it from other networks of the same contents.
            architecture: what the network depends on beside its contents.
        """
        self.place = place or Resident()
        self.dtype = dtype_for(precision, self.place.device)
        self._contents = contents
        load = partial(contents.load, self.dtype)  # nothing of the tower: a circle would keep the network longer
        self.network: Network[M] = shared((kind, contents.identity, architecture, self.dtype), load)

    @cached_property
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        return self._contents.memory(self.dtype)

    def check(self) -> None:
        """Raises WeightsError unless the file holds this network, whole: told by its shapes, or by reading it."""
        if not self._contents.told():
            with self.at_place():
                pass

    def at_place(self) -> AbstractContextManager[M]:
        """Inside, the network is where it computes."""
        return self.network.at(self.place)

    def release(self) -> None:
        """Give its memory back; asked again, it is read again."""
        self.network.release()


def memory_of(opening: Callable[[], int]) -> int:
    """Bytes that ``opening`` finds a network to take; 0 while there is no such file."""
    try:
        return opening()
    except WeightsError:
        return 0


def unit(features: Tensor) -> Tensor:
    """Features ``[B, D]`` scaled to length 1, in float32 at least: their cosines differ in the third digit."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


def dtype_of(network: nn.Module) -> torch.dtype:
    """The dtype of its parameters."""
    return next(network.parameters()).dtype
