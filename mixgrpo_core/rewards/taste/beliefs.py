"""What a taste believes of images, for people who look on and may say that it is wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .agreement import Agreement
from .taste import LEAST, Taste


@dataclass(frozen=True, kw_only=True)
class Believed:
    """What a taste says of a group of the training, and how much it knows.

    Attributes:
        iteration, group, prompt: which group.
        images: ``[G, H, W, 3]`` in 0..1.
        liked: ``[G]``, how probable it is that each is liked, 0..1; None while nothing was learnt.
        agreement: how it does on votes that it did not see; None while nothing was learnt.
        votes: images with votes that it has, those included that it learns from before the next iteration.
        questions: groups that were asked about in this run.
        refreshed: the iteration before which it was learnt last in this run; None where it was not.
    """

    iteration: int
    group: int
    prompt: str
    images: Tensor
    liked: Tensor | None
    agreement: Agreement | None
    votes: int
    questions: int
    refreshed: int | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """How much it knows, in plain words."""
        if self.agreement is None:
            return (
                f"it knows nothing yet: it begins to learn before an iteration, from votes on {LEAST} images of which "
                "some are liked better than others",
            )
        return self.agreement.sentences


Hearing = Callable[[Believed], None]
"""Hears what a taste believes of each group of a training, once the group has its scores."""


def unheard(believed: Believed) -> None:
    """Nobody looks on."""


def liked(taste: Taste, logits: Tensor) -> Tensor:
    """``[G]`` of logits ``[E, G]``: how probable it is that each image is liked, over the members of the ensemble.

    A taste that was learnt from rankings knows what is better and not what is good: there it is how probable it is
    that an image is liked better than its group.
    """
    ranked = taste.opinions.ranked.double().mean() > 0.5
    return (logits - logits.mean(1, keepdim=True) if ranked else logits).sigmoid().mean(0)
