"""Attention that gradients flow through, whichever the host was started with."""

from collections.abc import Callable

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor

Attention = Callable[..., Tensor]
Override = Callable[..., Tensor]
"""What the host calls in the place of an attention: that attention first, then its arguments."""

_NO_BACKWARD = frozenset({"attention_sage", "attention3_sage", "attention_flash"})
"""The host's attentions by name whose kernels give no gradient; sage attention drops it without a word."""


def attention_with_gradient(before: Override | None) -> Override:
    """An override for ``transformer_options``: PyTorch's attention where the host's own has no gradient.

    ``before`` is the override that the MODEL brings along; it is kept. In rollouts and updates the attention is the
    same one.

    Raises (when called):
        RuntimeError: no gradient comes out of the attention that the MODEL brings along.
    """

    def attend(own: Attention, *args: object, **options: object) -> Tensor:
        if before is None:
            own = attention_pytorch if own.__name__ in _NO_BACKWARD else own
            return own(*args, **options)
        out = before(own, *args, **options)
        inputs = [value for value in args if isinstance(value, Tensor)]
        wanted = torch.is_grad_enabled() and any(value.requires_grad for value in inputs)
        if wanted and not out.requires_grad:
            raise RuntimeError(
                "expected an attention with a gradient, found a patch of this MODEL's attention that has none (sage "
                "attention is one): train the MODEL without that patch"
            )
        return out

    return attend
