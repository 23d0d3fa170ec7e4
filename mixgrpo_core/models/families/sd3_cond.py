"""What an SD3 network is told of a prompt."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SD3Cond:
    """One prompt's conditioning, on the CPU.

    Attributes:
        embeds: token embeddings ``[1, S, C]``.
        pooled: pooled embedding ``[1, P]``.
        negative_embeds, negative_pooled: the same for the empty prompt, where guidance is on.
    """

    embeds: Tensor
    pooled: Tensor
    negative_embeds: Tensor | None = None
    negative_pooled: Tensor | None = None
