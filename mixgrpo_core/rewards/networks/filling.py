"""Networks of transformers, filled with a file's tensors: nothing is initialised first, every tensor has its place."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .weight_files import WeightsError

M = TypeVar("M", bound=nn.Module)
_SHOWN = 4  # names in an error


def hollow(build: Callable[[], M]) -> M:
    """The network without numbers: names and shapes only.

    Raises:
        WeightsError: the sizes make no network.
    """
    try:
        with torch.device("meta"):
            return build()
    except Exception as error:
        raise WeightsError(f"the sizes in the file make no network ({error})") from error


def check(build: Callable[[], nn.Module], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raises WeightsError unless ``shapes`` are exactly those of the network's parameters."""
    expected = {name: tuple(tensor.shape) for name, tensor in hollow(build).state_dict().items()}
    for what, names in (("lacks", expected.keys() - shapes.keys()), ("has unknown", shapes.keys() - expected.keys())):
        if names:
            raise WeightsError(f"{path} {what} {len(names)} parameters, such as {some(names)}: it is another network")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise WeightsError(f"expected {name} of shape {list(shape)} in {path}, found {list(shapes[name])}")


def filled(build: Callable[[], M], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> M:
    """The network on the CPU with all ``tensors`` in it, in ``dtype``."""
    network = hollow(build)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
    for module in network.modules():  # constants that files do not hold
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)
    return network


def some(names: Iterable[str]) -> str:
    """A few of the names, for an error."""
    ordered = sorted(names)
    return ", ".join(ordered[:_SHOWN]) + (", ..." if len(ordered) > _SHOWN else "")
