"""A run's state as named tensors and JSON values, and the process's random generators among it."""

import random
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Packer:
    """Takes nested dicts and lists apart: tensors by path, everything else as JSON that refers to them.

    Tensors are copied to main memory: into those of ``buffers`` where one fits, else into new ones, which are left
    there for the next time. What is copied from a GPU lies in pinned memory, to which it is copied several times as
    fast, and one tensor after another: it is waited for once, where ``tensors`` are asked for.
    """

    def __init__(self, buffers: MutableMapping[str, Tensor] | None = None) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._buffers = {} if buffers is None else buffers
        self._queued: set[torch.device] = set()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The copies, by path."""
        for device in self._queued:
            torch.cuda.current_stream(device).synchronize()
        self._queued.clear()
        return self._tensors

    def pack(self, path: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            while path in self._tensors:  # "a.b" of one mapping and "b" within "a" of another
                path += "'"
            self._tensors[path] = self._copied(path, value.detach())
            return {"tensor": path}
        if isinstance(value, Mapping):
            return {"map": {str(key): self.pack(f"{path}.{key}", item) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            return {"list": [self.pack(f"{path}.{i}", item) for i, item in enumerate(value)]}
        return {"value": value}

    def _copied(self, path: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[path] = buffer
        if tensor.is_cuda:
            self._queued.add(tensor.device)
        return buffer.copy_(tensor, non_blocking=tensor.is_cuda)


def unpack(packed: Any, tensors: Mapping[str, Tensor], copied: bool) -> Any:
    """What ``Packer`` took apart, with copies of the tensors or with these themselves."""
    if packed is None:
        return None
    ((kind, value),) = packed.items()
    if kind == "tensor":
        return tensors[value].clone() if copied else tensors[value]
    if kind == "map":
        return {key: unpack(item, tensors, copied) for key, item in value.items()}
    if kind == "list":
        return [unpack(item, tensors, copied) for item in value]
    return value


def random_state() -> dict[str, Any]:
    """The global generators. The core draws from seeds of its own; rewards and models of users may not."""
    version, numbers, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    keys, place = numpy["state"]["key"], numpy["state"]["pos"]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
        "numpy": [
            numpy["bit_generator"],
            torch.from_numpy(keys.astype(np.int64)),
            place,
            numpy["has_gauss"],
            numpy["gauss"],
        ],
    }


def restore_random(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
