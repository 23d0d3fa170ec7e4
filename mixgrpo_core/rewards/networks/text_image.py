"""Rewards that compare a picture with its prompt: two networks, one sphere, one cosine.

score = a cos(image, prompt) + b, or a function of it
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ...support.paths import user_path
from ..port import DifferentiableReward, RewardBatch, Scores
from .known_files import KnownFile
from .prompt_embeddings import PromptEmbedder, PromptEmbeddings, is_empty
from .tower import memory_of
from .weight_files import WeightsError

T = TypeVar("T")
Preprocessing = Callable[[Tensor, int], Tensor]
"""Images ``[B, H, W, 3]`` in 0..1 and the network's side to normalised pixels ``[B, 3, side, side]``."""


class ImageEmbedder(Protocol):
    """Images to embeddings."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        ...

    @abstractmethod
    def check(self) -> None:
        """Raises WeightsError unless its file is whole, and the right one."""
        ...

    @abstractmethod
    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """``[B, D]``, float32, with the gradient to ``images [B, H, W, 3]`` in 0..1."""
        ...


class TextImageReward(DifferentiableReward):
    """What such rewards share. The text network is read to embed new prompts and released at once; `prepare` does it
    for all prompts of a run. A prompt longer than the network's context is cut; an empty one has no score.
    """

    known: ClassVar[tuple[KnownFile, ...]] = ()
    file: str

    def images(self) -> ImageEmbedder:
        """The image network of ``file``."""
        raise NotImplementedError

    def texts(self) -> PromptEmbedder:
        """The text network of ``file``."""
        raise NotImplementedError

    def preprocessed(self, images: Tensor, side: int) -> Tensor:
        """Images ``[B, H, W, 3]`` as the image network was trained on them."""
        raise NotImplementedError

    def scored(self, cosines: Tensor) -> Tensor:
        """Scores of cosines ``[G]``."""
        return cosines

    def prepare(self, prompts: Sequence[str]) -> None:
        """Looks at the file and embeds the prompts.

        Raises:
            WeightsError: the file is missing, broken or another one.
        """
        self._images.check()
        texts = self._texts
        self.scored(torch.zeros(1))  # what this reads from the file is read now
        texts.prepare(prompts)

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with the gradient to the images; NaN where the prompt is empty."""
        texts = self._texts.of(batch.prompts)
        images = self._images.embed(batch.images, self.preprocessed)
        scores = self.scored((images * texts.to(images.device)).sum(-1))
        empty = torch.tensor([is_empty(prompt) for prompt in batch.prompts], device=scores.device)
        return torch.where(empty, torch.nan, scores).to(batch.images.device)

    def __call__(self, batch: RewardBatch) -> Scores:
        empty = any(map(is_empty, batch.prompts))
        return replace(super().__call__(batch), note="the prompt is empty" if empty else "")

    @property
    def memory(self) -> int:
        """Bytes of the image network where it computes; 0 while there is no such file. The text network, which is
        smaller, is there only while prompts are embedded."""
        return memory_of(lambda: self._images.memory)

    @cached_property
    def _images(self) -> ImageEmbedder:
        return self._opened(self.images)

    @cached_property
    def _texts(self) -> PromptEmbeddings:
        return PromptEmbeddings(self._opened(self.texts))

    def _opened(self, opening: Callable[[], T]) -> T:
        if not user_path(self.file).exists():
            known = "; or ".join(file.words() for file in self.known)
            raise WeightsError(f"expected weights at {self.file}, found nothing. {type(self).__name__} takes {known}")
        return opening()
