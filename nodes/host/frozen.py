"""Quantised weights of the host, made inference tensors again when the work on a model is done.

ComfyUI makes a model inside of inference mode and moves it there. Moved outside of it, as around a backward pass, a
quantised weight becomes an ordinary tensor, and of such a one the host cannot make a parameter inside of inference mode
("Cannot set version_counter for inference tensor"): the next workflow that loads or unloads the model would fail.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Place = tuple[nn.Module, str]


def quantised_inference_weights(model: nn.Module) -> list[Place]:
    """Where ``model`` has weights of the host's quantised kinds that are inference tensors: modules and names."""
    return [
        (module, name)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and type(parameter) not in (Tensor, nn.Parameter) and parameter.is_inference()
    ]


def freeze(places: Iterable[Place]) -> None:
    """Make inference tensors of the weights at ``places``, wherever they lie by now; the values stay."""
    with torch.inference_mode():
        for module, name in places:
            weight = module._parameters[name]
            if weight is not None and not weight.is_inference():
                module._parameters[name] = nn.Parameter(weight.clone(), requires_grad=False)
