"""A frozen base in shards (FSDP2): of every repeated block each rank holds a part, and one block at a time is whole.

A block is put together before its forward and before its backward pass, which takes all ranks. Ranks have different
work - other prompts, other calls, none at all - so none of them waits for the others to make the same call: whoever
needs a block asks for it, and the others lend their parts (`Ranks.collective`). What is around the blocks, and the
LoRA, is whole on every rank.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import Parameter
from torch.utils._pytree import tree_leaves

from ...support.ranks import Ranks

_OLDEST = "2.7"
_PATIENCE = timedelta(days=365)  # a block is put together when all are there, so nothing is waited for in it


class Shards:
    """The blocks of a network, in shards.

    Attributes:
        whole: bytes of the blocks' frozen weights.
        own: bytes of them that this rank holds.
        in_flight: bytes of the largest block: so many come on top for a moment, while it is put together.

    Args:
        trained: the LoRA's tensors, which stay as they are.
        device: where the shards go, and the blocks to compute.

    Raises:
        ValueError: there are no blocks, or a device, weights or a torch with which it is not done.
    """

    def __init__(
        self,
        network: nn.Module,
        blocks: Sequence[nn.Module],
        trained: Collection[Parameter],
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        _require_possible(network, blocks, device)
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard

        self._device, self._there = device, _NONE
        self._ask = ranks.collective(self._put_together)
        group = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        mesh, lora = DeviceMesh.from_group(group, device.type), set(trained)
        sizes = [_bytes([block], lora) for block in blocks]
        self.whole, self.in_flight = sum(sizes), max(sizes)
        self._parts: list[Any] = []
        for number, block in enumerate(blocks):
            self._parts.append(fully_shard(_Part(block), mesh=mesh, ignored_params=lora))
            block.register_forward_pre_hook(partial(self._before, number), with_kwargs=True)
            block.register_forward_hook(partial(self._after, number))
        self.own = _bytes(blocks, lora)

    def _before(self, number: int, block: nn.Module, told: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not any(isinstance(each, FakeTensor) for each in tree_leaves((told, named))):  # memory that is counted
            self._want(number)

    def _after(self, number: int, block: nn.Module, told: tuple[Any, ...], made: Any) -> None:
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and each.requires_grad and not isinstance(each, FakeTensor):
                each.register_hook(partial(self._before_backward, number))

    def _before_backward(self, number: int, slope: Tensor) -> None:
        """All of a block's backward pass comes before that of what it was computed from."""
        self._want(number)

    def _want(self, number: int) -> None:
        if number == self._there:
            return
        self._let_go()
        torch.empty(2 * self.in_flight, dtype=torch.uint8, device=self._device)  # no room is said before others wait
        self._ask(number)

    def _let_go(self) -> None:
        """The block that is whole goes: its turn is over."""
        if self._there != _NONE:
            self._parts[self._there].reshard()
            self._there = _NONE

    def _put_together(self, number: int) -> None:
        """Every rank does this at the same time."""
        if self._device.type == "cuda":  # in a thread of its own
            torch.cuda.set_device(self._device)
        self._let_go()
        self._parts[number].unshard()
        self._there = number


_NONE = -1


class _Part(nn.Module):
    """A block beside its network: it is never called, so that nobody but `Shards` puts it together."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block


def _bytes(blocks: Sequence[nn.Module], lora: Collection[Parameter]) -> int:
    """What this rank holds of the blocks."""
    from torch.distributed.tensor import DTensor

    weights = [weight for block in blocks for weight in block.parameters() if weight not in lora]
    held = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
    return sum(each.numel() * each.element_size() for each in held)


def _require_possible(network: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
    name = type(network).__name__
    if torch.__version__ < _OLDEST:
        raise ValueError(
            f"model.sharded needs torch {_OLDEST}, found {torch.__version__}: update torch, or leave it out"
        )
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected the device cuda or cpu for model.sharded, found {device}: leave it out")
    if len(blocks) < 2:
        raise ValueError(f"expected a network of repeated blocks for model.sharded, found none in {name}: leave it out")
    kinds = {type(weight).__name__ for weight in network.parameters() if type(weight) is not Parameter}
    whole = {str(weight.dtype) for weight in network.parameters() if not weight.is_floating_point()}
    if kinds or whole:
        raise ValueError(
            f"expected plain weights or those of float8 for model.sharded, found {', '.join(sorted(kinds or whole))} "
            f"in {name}: take model.quantization = 'float8', or leave model.sharded out"
        )
