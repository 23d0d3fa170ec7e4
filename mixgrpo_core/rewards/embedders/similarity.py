"""How much images resemble a picture: the cosine of embeddings.

    ImageSimilarity(DinoV2("dinov2-base"), Picture("cat.png"))        content and its arrangement
    ImageSimilarity(ClipImages("clip-vit-large-patch14.safetensors")) what it is about (CLIP-I)

It rewards copies; add a reward for what is to differ from the picture.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ...support.setting import require_finite
from ..clip.architectures import Activation
from ..clip.files import CLIP_SCORE_FILES
from ..clip.fitting import cropped
from ..clip.towers import ImageTower
from ..networks.known_files import expect
from ..networks.places import Placement, Precision, Resident
from ..networks.reference_picture import PictureSource, chosen
from ..networks.text_image import ImageEmbedder, Preprocessing
from ..networks.tower import memory_of
from ..port import DifferentiableReward, RewardBatch, RewardInfo


class OpenedEncoder(Protocol):
    """An encoder with its file looked into."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        ...

    @abstractmethod
    def check(self) -> None:
        """Raises WeightsError where the file holds another network."""
        ...

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to ``[B, D]`` of length 1, with the gradient."""
        ...


class ImageEncoder(Protocol):
    """A file that makes embeddings of images."""

    @property
    @abstractmethod
    def licence(self) -> str:
        """Of the weights, in words; empty where there are none."""
        ...

    @abstractmethod
    def opened(self, *, precision: Precision, place: Placement, batch: int) -> OpenedEncoder:
        """The encoder with its file looked into; ``batch`` images of one call at most. Raises WeightsError."""
        ...


@dataclass(frozen=True)
class ClipImages:
    """Pictures as CLIP (arXiv 2103.00020) sees them, in the space that it shares with texts.

    Attributes:
        file: of a CLIP, whole or its image tower only, in open_clip's or transformers' layout.
        activation: where the shapes do not tell it (laion's L/14 is ``gelu``).
    """

    file: str
    activation: Activation = "auto"
    licence = "that of the CLIP file (OpenAI's and laion's: MIT)"

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> "TowerEncoder":
        """Raises WeightsError where the file is missing or holds something else."""
        expect(self.file, CLIP_SCORE_FILES)
        tower = ImageTower(self.file, activation=self.activation, precision=precision, place=place, batch=batch)
        return TowerEncoder(tower, cropped)


@dataclass(frozen=True)
class TowerEncoder:
    """An image tower with the preprocessing that it was trained with."""

    tower: ImageEmbedder
    preprocessing: Preprocessing

    @property
    def memory(self) -> int:
        return self.tower.memory

    def check(self) -> None:
        self.tower.check()

    def embed(self, images: Tensor) -> Tensor:
        return self.tower.embed(images, self.preprocessing)


@dataclass(frozen=True)
class ImageSimilarity(DifferentiableReward):
    """Cosine of the embeddings of an image and of the reference picture; 1 is a copy.

    CLIP-I and DINO of DreamBooth (arXiv 2208.12242).

    Attributes:
        encoder: ``DinoV2`` or ``ClipImages``.
        reference: the picture to resemble; that of the batch's context when None.
        precision: of the network; the cosine is computed in float32 always.
        place: where the network computes, and where it is in between.
        batch: images at a time.
    """

    encoder: ImageEncoder
    reference: PictureSource | None = None
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(0.0, 1.0),
            differentiable=True,
            licence=self.encoder.licence,
            memory=self.memory,
            spread_floor=1e-3,
            reference=self.reference is None,
        )

    @property
    def memory(self) -> int:
        """Bytes of the network where it computes; 0 while there is no such file."""
        return memory_of(lambda: self._encoder.memory)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Looks into the file and the picture.

        Raises:
            ValueError: one of them is missing, broken or something else.
        """
        if self.reference is not None:
            chosen(self.reference, None)
        self._encoder.check()

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with their gradient.

        Raises:
            ValueError: there is no reference picture.
        """
        wanted = self._wanted if self.reference is not None else self._embedded(chosen(None, batch.context.reference))
        found = self._encoder.embed(batch.images)
        return (found * wanted.to(found.device)).sum(1).to(batch.images.device)

    def _embedded(self, picture: Tensor) -> Tensor:
        """``[H, W, 3]`` to ``[1, D]``."""
        with torch.no_grad():
            return self._encoder.embed(picture[None])

    @cached_property
    def _wanted(self) -> Tensor:
        with torch.inference_mode(False):
            return self._embedded(chosen(self.reference, None)).cpu()

    @cached_property
    def _encoder(self) -> OpenedEncoder:
        return self.encoder.opened(precision=self.precision, place=self.place, batch=self.batch)
