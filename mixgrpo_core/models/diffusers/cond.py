"""What a pipeline is conditioned on."""

from dataclasses import dataclass

from .family import NEGATIVE, Embeds
from .references import Reference


@dataclass(frozen=True, kw_only=True)
class PipelineCond:
    """One prompt's conditioning: tensors of one row by argument of the pipeline's call, on the CPU.

    Attributes:
        negative: the same for the empty prompt, where guidance is on.
        picture: the reference that is conditioned on.
    """

    positive: Embeds
    negative: Embeds
    picture: Reference | None = None


def as_negative(embeds: Embeds) -> Embeds:
    """A text's embeddings, as those of a negative prompt."""
    return {NEGATIVE + name: tensor for name, tensor in embeds.items()}
