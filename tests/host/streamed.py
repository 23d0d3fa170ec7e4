"""The host as it streams weights to a GPU, played by a CPU."""

import comfy.ops
import torch


class Buffer:
    """Weights of all layers through the same memory, each time with what is there no more behind it."""

    def __init__(self, size: int, like: torch.Tensor) -> None:
        self.memory = torch.empty(size, device=like.device, dtype=like.dtype)

    def cast(self, layer, x=None, **options):
        """Stands in for the host's ``cast_bias_weight``."""
        at, parts = 0, []
        for tensor in (layer.weight, layer.bias):
            if tensor is None:
                parts.append(None)
                continue
            # the host's tensors over its buffers know nothing of each other
            part = torch.empty(0, device=self.memory.device, dtype=self.memory.dtype)
            part.set_(self.memory.untyped_storage(), at, tensor.shape)
            with torch.no_grad():
                part.copy_(tensor)
            parts.append(part)
            at += tensor.numel()
        return (*parts, (None, None, None)) if options.get("offloadable") else tuple(parts)


def stream(network: torch.nn.Module, monkeypatch) -> None:
    """Stream the weights of every layer of ``network`` from now on."""
    layers = [module for module in network.modules() if hasattr(module, "comfy_cast_weights")]
    weights = [layer.weight for layer in layers if getattr(layer, "weight", None) is not None]
    largest = max(weights, key=torch.Tensor.numel)
    with torch.inference_mode(False):
        buffer = Buffer(2 * largest.numel(), largest)
    monkeypatch.setattr(comfy.ops, "cast_bias_weight", buffer.cast)
    for layer in layers:
        layer.comfy_cast_weights = True
        layer._v = object()
