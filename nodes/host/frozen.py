"""Tensors of inference mode made ordinary ones for a backward pass, and quantised weights made frozen ones again.

Weights that a node loads are inference tensors, which no graph may hold. What takes their place lies over the same
memory and bears what the host wrote on it: the type that its dynamic memory keeps a weight in, its place in the file.

ComfyUI makes a model inside of inference mode and moves it there. Moved outside of it, as around a backward pass, a
quantised weight becomes an ordinary tensor, and of such a one the host cannot make a parameter inside of inference mode
("Cannot set version_counter for inference tensor"): the next workflow that loads or unloads the model would fail.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

Placement = tuple[nn.Module, str]
T = TypeVar("T", bound=Tensor)


def thaw(model: nn.Module) -> None:
    """Replace the inference tensors of ``model`` by ordinary ones of the same values; outside of inference mode."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                module._parameters[name] = _anew(parameter)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = _marked(_over_same_memory(buffer), buffer)


def quantised_inference_weights(model: nn.Module) -> list[Placement]:
    """Where ``model`` has weights of the host's quantised kinds that are inference tensors: modules and names."""
    return [
        (module, name)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and not _plain(parameter) and parameter.is_inference()
    ]


def freeze(places: Iterable[Placement]) -> None:
    """Make inference tensors of the weights at ``places``, wherever they lie by now; the values stay."""
    with torch.inference_mode():
        for module, name in places:
            weight = module._parameters[name]
            if weight is not None and not weight.is_inference():
                module._parameters[name] = _anew(weight)


def _anew(parameter: nn.Parameter) -> nn.Parameter:
    return _marked(nn.Parameter(_over_same_memory(parameter), requires_grad=parameter.requires_grad), parameter)


def _marked(fresh: T, old: Tensor) -> T:
    """``fresh`` with what was written on ``old``; the tensors in ``old`` are its own inside."""
    for name, value in vars(old).items():
        if name not in vars(fresh) and not isinstance(value, Tensor):
            setattr(fresh, name, value)
    return fresh


def _over_same_memory(old: Tensor) -> Tensor:
    """A tensor of the mode that is on: inference or not. One of an unknown kind of its own is a copy."""
    if _plain(old):
        fresh = torch.empty(0, dtype=old.dtype, device=old.device)
        return fresh.set_(old.untyped_storage(), old.storage_offset(), old.shape, old.stride())
    if not hasattr(old, "__tensor_flatten__"):
        return old.detach().clone()
    names, about = old.__tensor_flatten__()
    inside = {name: _over_same_memory(getattr(old, name)) for name in names}
    unflatten = type(old).__tensor_unflatten__  # type: ignore[attr-defined]  # of those that are flattened
    return unflatten(inside, about, old.shape, old.stride())


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter)
