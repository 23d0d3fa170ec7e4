"""Pictures that come by wire, as those of prompts that are typed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...mixgrpo_core.rewards.port import Context
from ...mixgrpo_core.support.digests import picture_digest
from ...mixgrpo_core.support.pictured import Pictured
from ...mixgrpo_core.support.sized import size_of


@dataclass(frozen=True)
class WiredPictures:
    """An IMAGE ``[N, H, W, 3]`` and perhaps a MASK ``[N, H, W]`` of it; the prompts that they were paired with."""

    images: Tensor
    masks: Tensor | None
    contexts: dict[str, Context]

    @classmethod
    def of(cls, images: Tensor | None, masks: Tensor | None) -> "WiredPictures | None":
        """None without images. Raises ``ValueError`` for masks of other pictures."""
        if images is None:
            if masks is not None:
                raise ValueError("expected images with the masks, found none: connect the pictures that they belong to")
            return None
        if masks is not None and len(masks) not in (1, len(images)):
            raise ValueError(f"expected a mask per picture ({len(images)}) or one for all, found {len(masks)}")
        with torch.inference_mode(False):  # a training reads them outside of the node
            return cls(images[..., :3].clone(), None if masks is None else masks.clone(), {})

    def paired(self, train: list[str], held_out: list[str]) -> tuple[list[str], list[str]]:
        """The prompts with their pictures: one each, in this order, or all of one where there is one of either.

        Raises:
            ValueError: there are several of both, and not as many.
        """
        prompts, many = [*train, *held_out], len(self.images)
        if not prompts:
            return train, held_out
        if len(prompts) == 1:
            return [self._pictured(prompts[0], place) for place in range(many)], []
        if many not in (1, len(prompts)):
            raise ValueError(
                f"expected a picture for each of the {len(prompts)} typed prompts, or one for all, found {many}: they "
                "are taken in the order of training and held-out prompts"
            )
        found: list[str] = [self._pictured(prompt, place % many) for place, prompt in enumerate(prompts)]
        return found[: len(train)], found[len(train) :]

    def _pictured(self, words: str, place: int) -> Pictured:
        image = self.images[place]
        mask = None if self.masks is None else self.masks[place % len(self.masks)]
        told = "" if mask is None else picture_digest(mask)
        prompt = Pictured(words, f"{place} {picture_digest(image)}", told, size_of(words))
        self.contexts[prompt] = Context(reference=image, mask=mask)
        return prompt
