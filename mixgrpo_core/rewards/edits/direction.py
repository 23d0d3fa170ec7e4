"""Whether an edit did what its prompt says: the way that the image went, against the way that the text went.

score = cos(I_edit - I_source, T_prompt - T_source)        embeddings of CLIP, each of length 1 (Gal et al. 2022)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ...support.setting import require_finite
from ..clip.architectures import Activation
from ..clip.files import CLIP_SCORE_FILES
from ..clip.fitting import cropped
from ..clip.towers import ImageTower, TextTower
from ..networks.known_files import expect
from ..networks.places import Placement, Precision, Resident
from ..networks.prompt_embeddings import PromptEmbeddings, is_empty
from ..networks.reference_picture import PictureSource, chosen
from ..networks.tower import memory_of
from ..port import DifferentiableReward, RewardBatch, RewardInfo, Scores

_TINY = 1e-12  # under the root, for the gradient of an image that is its own source


@dataclass(frozen=True)
class DirectionalCLIP(DifferentiableReward):
    """Cosine of the change of the image and the change of the text, -1 to 1; 0 for an image that did not change.

    The directional loss of StyleGAN-NADA (arXiv 2108.00946) as a score.

    A prompt that is empty, or says what the source's prompt says, has no score.

    Attributes:
        file: of a CLIP with both towers, in open_clip's or transformers' layout.
        source_prompt: what the source picture shows; the prompt says what the edited one is to show.
        reference: the source picture; that of the batch's context when None.
        activation: where the file does not tell it (laion's L/14 is ``gelu``).
        precision: of the networks; the cosine is computed in float32 always.
        place: where the networks compute, and where they are in between.
        batch: images at a time.
    """

    file: str
    source_prompt: str
    reference: PictureSource | None = None
    activation: Activation = "auto"
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)
        if is_empty(self.source_prompt):
            raise ValueError("expected a prompt that says what the source picture shows, found an empty one")

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(-0.2, 0.5),
            differentiable=True,
            licence="that of the CLIP file (OpenAI's and laion's: MIT)",
            memory=self.memory,
            spread_floor=1e-3,
            reference=self.reference is None,
        )

    @property
    def memory(self) -> int:
        """Bytes of the image tower where it computes; 0 while there is no such file."""
        return memory_of(lambda: self._images.memory)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Looks into the file and the picture, and embeds the prompts.

        Raises:
            ValueError: one of them is missing, broken or something else.
        """
        if self.reference is not None:
            chosen(self.reference, None)
        self._images.check()
        self._texts.prepare([self.source_prompt, *prompts])

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with their gradient; NaN where the prompt says nothing new.

        Raises:
            ValueError: there is no reference picture.
        """
        source = self._source if self.reference is not None else self._embedded(chosen(None, batch.context.reference))
        images = self._images.embed(batch.images, cropped)
        images = images - source.to(images.device)
        texts = self._texts.of(batch.prompts) - self._texts.of([self.source_prompt])
        cosines = (_along(images) * _along(texts.to(images.device))).sum(1)
        nothing_new = torch.tensor([self._says_nothing_new(prompt) for prompt in batch.prompts], device=images.device)
        return torch.where(nothing_new, torch.nan, cosines).to(batch.images.device)

    def __call__(self, batch: RewardBatch) -> Scores:
        masked = any(map(self._says_nothing_new, batch.prompts))
        note = "the prompt is empty or that of the source" if masked else ""
        return replace(super().__call__(batch), note=note)

    def _says_nothing_new(self, prompt: str) -> bool:
        return is_empty(prompt) or prompt.strip() == self.source_prompt.strip()

    def _embedded(self, picture: Tensor) -> Tensor:
        """``[H, W, 3]`` to ``[1, D]``."""
        with torch.no_grad():
            return self._images.embed(picture[None], cropped)

    @cached_property
    def _source(self) -> Tensor:
        with torch.inference_mode(False):
            return self._embedded(chosen(self.reference, None)).cpu()

    @cached_property
    def _images(self) -> ImageTower:
        expect(self.file, CLIP_SCORE_FILES)
        return ImageTower(
            self.file, activation=self.activation, precision=self.precision, place=self.place, batch=self.batch
        )

    @cached_property
    def _texts(self) -> PromptEmbeddings:
        expect(self.file, CLIP_SCORE_FILES)
        return PromptEmbeddings(
            TextTower(self.file, activation=self.activation, precision=self.precision, place=self.place, clean=True)
        )


def _along(change: Tensor) -> Tensor:
    """``[N, D]`` scaled to length 1; 0 stays 0."""
    return change / (change.square().sum(1, keepdim=True) + _TINY).sqrt()
