"""A model of the host made ready for gradients through it, and put back afterwards.

Three things stand between the host's models and a gradient:

* Weights loaded inside of a node are inference tensors, which no graph may hold.
* Fused kernels without a backward pass; the host's own ``in_training`` switches them off.
* ``x += y`` in blocks (FLUX, Chroma). Autograd keeps tensors, and an addition in place changes what was kept. Plain
  autograd notices; the recomputation of ``torch.utils.checkpoint`` does not, and its gradient is wrong without a word.
"""

import dis
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from types import CodeType, MappingProxyType

import comfy.model_management
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from .bypass_lora import HostLora
from .diffusion import parts_of_a_unet
from .frozen import thaw

_SAME_OUT_OF_PLACE: Mapping[Callable[..., object], Callable[..., Tensor]] = MappingProxyType(
    {
        torch.Tensor.add_: torch.add,
        torch.Tensor.sub_: torch.sub,
        torch.Tensor.mul_: torch.mul,
        torch.Tensor.div_: torch.div,
    }
)


class OutOfPlace(TorchFunctionMode):
    """Inside, ``x += y`` (``-=``, ``*=``, ``/=``) makes a new tensor where a gradient flows; the value is the same.

    Only the operators: they bind their result. ``x.add_(y)`` may be written for its effect alone, so it stays what it
    is.
    """

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        same = _SAME_OUT_OF_PLACE.get(func)
        if same is None or not torch.is_grad_enabled() or not any(_has_gradient(value) for value in args):
            return func(*args, **kwargs)
        caller = sys._getframe(1)
        if not _is_operator(caller.f_code, caller.f_lasti):
            return func(*args, **kwargs)
        return same(*args, **kwargs).to(args[0].dtype)  # in place, the type of the target wins


def _has_gradient(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


@lru_cache(maxsize=4096)
def _is_operator(code: CodeType, instruction: int) -> bool:
    """Whether a place in the code is ``+=`` or its like, and no call of a method."""
    return dis.opname[code.co_code[instruction]].startswith(("BINARY_OP", "INPLACE_"))


@contextmanager
def trainable(model: nn.Module, *, grad: bool = True) -> Iterator[None]:
    """Inside, gradients flow through ``model`` to whatever is trained, and to nothing of its own.

    Where no gradient is taken (``grad`` False) the numbers are the same ones, without the watch over ``x += y``: it
    costs a quarter of a small model's time.

    Afterwards the host's switch and the base's ``requires_grad`` are as before. Weights that were inference tensors
    stay ordinary tensors, over the same memory.
    """
    before = comfy.model_management.in_training
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        thaw(model)
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            for parameter in wanted:
                parameter.requires_grad_(False)
            comfy.model_management.in_training = True
            if grad:
                stack.enter_context(OutOfPlace())
            yield
        finally:
            comfy.model_management.in_training = before
            for parameter in wanted:
                parameter.requires_grad_(True)


@contextmanager
def block_checkpointing(network: nn.Module, lora: HostLora) -> Iterator[None]:
    """Inside, each block that holds the LoRA, or part of a UNet, keeps its inputs only and is computed again in the
    backward pass.

    The second computation has the LoRA weights of the first. ``network`` is the host's ``diffusion_model``.
    """
    blocks = parts_of_a_unet(network) or [network.get_submodule(path.split(".", 1)[1]) for path in lora.blocks]
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_checkpointed(block, lora))
        yield


@contextmanager
def _checkpointed(block: nn.Module, lora: HostLora) -> Iterator[None]:
    own = block.__dict__.get("forward")
    forward = block.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _again(lora.with_active_weights(), lora.float16.as_now())

    def checkpointed(*args: object, **options: object) -> object:
        if not torch.is_grad_enabled():
            return forward(*args, **options)
        run = _Run(forward, args, options)
        return checkpoint(run, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)

    block.forward = checkpointed
    try:
        yield
    finally:
        if own is None:
            del block.forward
        else:
            block.forward = own


@contextmanager
def _again(active: AbstractContextManager[None], float16: AbstractContextManager[None]) -> Iterator[None]:
    """Where blocks are computed again: the host's autograd threads know nothing of the mode around the forward."""
    with active, float16, OutOfPlace():
        yield


class _Run:
    """One call of a block, to be made twice on the same inputs."""

    def __init__(self, forward: Callable, args: tuple, options: dict) -> None:
        self._forward, self._args, self._options = forward, args, options
        # the host writes the next block's number into the options it passes around
        self._kept_args = tuple(_copied(value) for value in args)
        self._kept = {key: _copied(value) for key, value in options.items()}
        self._versions: list[tuple[Tensor, int]] | None = None

    def __call__(self) -> object:
        if self._versions is not None:
            return self._forward(*self._kept_args, **self._kept)
        tensors = [value for value in (*self._args, *self._options.values()) if isinstance(value, Tensor)]
        self._versions = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]
        result = self._forward(*self._args, **self._options)
        if any(tensor._version != version for tensor, version in self._versions):
            raise RuntimeError(
                "expected a block that leaves its inputs as they are, found one that writes into them, so its "
                "gradient would be wrong: switch gradient checkpointing off for this model"
            )
        return result


def _copied(value: object) -> object:
    return dict(value) if isinstance(value, dict) else value
