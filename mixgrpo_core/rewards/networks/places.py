"""Networks that rewards ask: read when first needed, shared where they are the same, kept where their owner wants.

    network = shared(key, load)
    with network.at(place) as module: ...

A place decides where a network computes and where it is between two calls: `Resident` on its device, `Offloaded` in
main memory, `Released` nowhere (its file is read again). A host that manages memory brings a place of its own.
"""

import gc
import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
Precision = Literal["auto", "float32", "float16", "bfloat16"]


class Placement(Protocol):
    """Where networks compute, and where they are in between."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where they compute."""
        ...

    @property
    @abstractmethod
    def keeps(self) -> bool:
        """Whether a network is kept between two calls; else its file is read again."""
        ...

    @abstractmethod
    def holding(self, network: nn.Module) -> AbstractContextManager[None]:
        """Inside, ``network`` is on ``device``."""
        ...


@dataclass(frozen=True)
class _OnDevice:
    """``where``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes a GPU if there is one."""

    where: str = "auto"

    @property
    def device(self) -> torch.device:
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if self.where == "auto" else self.where)

    @property
    def keeps(self) -> bool:
        return True

    def holding(self, network: nn.Module) -> AbstractContextManager[None]:
        network.to(self.device)
        return nullcontext()


@dataclass(frozen=True)
class Resident(_OnDevice):
    """On the device all the time: fastest."""


@dataclass(frozen=True)
class Offloaded(_OnDevice):
    """In main memory between calls: leaves the device to the model that is trained."""

    @contextmanager
    def holding(self, network: nn.Module) -> Iterator[None]:
        try:
            network.to(self.device)  # all of it or, where memory runs out on the way, none
            yield
        finally:
            network.to("cpu")


@dataclass(frozen=True)
class Released(_OnDevice):
    """Nowhere between calls: for little main memory and a fast disk."""

    @property
    def keeps(self) -> bool:
        return False


class Network(Generic[M]):
    """A network that is read when it is first needed."""

    def __init__(self, load: Callable[[], M]) -> None:
        """``load`` reads it to the CPU, in the dtype that it computes in."""
        self._load = load
        self._module: M | None = None
        self._lock = threading.RLock()

    @contextmanager
    def at(self, place: Placement) -> Iterator[M]:
        """The network on the place's device, in evaluation mode, its weights frozen."""
        with self._lock:
            if self._module is None:
                with torch.inference_mode(False):  # a host may score in inference mode, and train later
                    self._module = self._load().eval().requires_grad_(False)
            with place.holding(self._module):
                yield self._module
            if not place.keeps:
                self.release()

    @property
    def loaded(self) -> bool:
        return self._module is not None

    def release(self) -> None:
        """Give its memory back; asked again, it is read again."""
        with self._lock:
            self._module = None
        gc.collect()


_networks: "WeakValueDictionary[Hashable, Network[Any]]" = WeakValueDictionary()
_networks_lock = threading.Lock()


def shared(key: Hashable, load: Callable[[], M]) -> Network[M]:
    """The network of ``key`` (what it is, the identity of its file, its dtype): one for all that ask for the same.

    ``load`` must not hold who asks: a circle would keep the network until the next garbage collection.
    """
    with _networks_lock:
        network = _networks.get(key)
        if network is None:
            network = _networks[key] = Network(load)
        return network


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """``auto`` is float16 on a GPU and float32 elsewhere: bfloat16 has too few digits for scores that differ by .01."""
    if precision == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    made: torch.dtype = getattr(torch, precision)
    return made
