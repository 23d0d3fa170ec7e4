"""CLIP's two networks (Radford et al., 2021), each on its own: pictures and texts as points on one sphere.

    tower = ImageTower("ViT-L-14.safetensors", place=Resident(), batch=16)
    tower.embed(images, cropped)                                                      # [B, D], each of length 1

They are read when first needed, and shared by all rewards that use the same file. The text tower can be released once
all prompts are embedded; the image tower stays.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...batches import MicroBatches
from ..filling import check, filled
from ..networks import Network, Place, Precision, Resident, dtype_for, shared
from ..text_image import Preprocessing
from ..weights import WeightsError
from .architectures import Activation, Text, Vision
from .checkpoint import IMAGE, TEXT, Checkpoint
from .tokenizer import VOCABULARY, tokens


class ImageTower:
    """Images to embeddings.

    Attributes:
        network: the tower, a ``CLIPVisionModelWithProjection`` once it is read.
        place: where it computes.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        activation: Activation = "auto",
        precision: Precision = "auto",
        place: Place | None = None,
        batch: int = 16,
    ) -> None:
        """Look into the file; nothing is read yet.

        Args:
            file: a weight file or folder, of the whole network or its image tower only.
            activation: for networks that their shapes do not tell apart (laion's L/14 is ``gelu``).
            batch: images of one call at most.

        Raises:
            WeightsError: no file, or one that holds no image tower of CLIP.
        """
        self._checkpoint = Checkpoint(file, activation)
        self.architecture = self._checkpoint.vision
        self.place = place or Resident()
        self.dtype = dtype_for(precision, self.place.device)
        self._batches = MicroBatches(batch)
        key = ("CLIP image tower", self._checkpoint.identity, self.architecture, self.dtype)
        self.network: Network = shared(key, partial(_load, self._checkpoint, IMAGE, self._build, self.dtype))

    @property
    def side(self) -> int:
        """Pixels of the square images that the network takes."""
        return self.architecture.side

    @property
    def width(self) -> int:
        """D, numbers in an embedding."""
        return self.architecture.projected

    @cached_property
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        return _size(self._checkpoint, IMAGE, self.dtype)

    def check(self) -> None:
        """Raises WeightsError unless the file holds every parameter of the tower, and no other."""
        check(self._build, self._checkpoint.shapes_of(IMAGE), self._checkpoint.path)

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Embeddings ``[B, D]`` of length 1, float32, on the place's device, with the gradient to the images.

        For a gradient the place has to leave the network on its device until the backward pass (``Resident``).

        Args:
            images: ``[B, H, W, 3]`` in 0..1 on any device.
            preprocessing: of these images for a network of this ``side``.
        """

        def features(some: Tensor) -> Tensor:
            pixels = preprocessing(some.to(self.place.device), self.side)
            return module(pixel_values=pixels.to(_dtype_of(module))).image_embeds

        with self.network.at(self.place) as module:
            return unit(self._batches.map(features, images))

    def release(self) -> None:
        """Give the memory back; asked again, the tower is read again."""
        self.network.release()

    @property
    def _build(self) -> Callable[[], nn.Module]:
        return partial(_image_network, self.architecture)


class TextTower:
    """Prompts to embeddings; see ``ImageTower``."""

    def __init__(
        self,
        file: str | Path,
        *,
        activation: Activation = "auto",
        precision: Precision = "auto",
        place: Place | None = None,
        batch: int = 64,
    ) -> None:
        self._checkpoint = Checkpoint(file, activation)
        self.architecture = self._checkpoint.text
        if self.architecture.vocabulary != VOCABULARY:
            raise WeightsError(
                f"expected CLIP's vocabulary of {VOCABULARY} tokens in {self._checkpoint.path}, found "
                f"{self.architecture.vocabulary}: it is another network"
            )
        self.place = place or Resident()
        self.dtype = dtype_for(precision, self.place.device)
        self._batches = MicroBatches(batch)
        key = ("CLIP text tower", self._checkpoint.identity, self.architecture, self.dtype)
        self.network: Network = shared(key, partial(_load, self._checkpoint, TEXT, self._build, self.dtype))

    @property
    def width(self) -> int:
        """D, numbers in an embedding."""
        return self.architecture.projected

    @cached_property
    def memory(self) -> int:
        """Bytes of its weights where it computes."""
        return _size(self._checkpoint, TEXT, self.dtype)

    def check(self) -> None:
        """Raises WeightsError unless the file holds every parameter of the tower, and no other."""
        check(self._build, self._checkpoint.shapes_of(TEXT), self._checkpoint.path)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings ``[N, D]`` of length 1, float32, on the place's device; without a gradient.

        Tokens beyond the network's (77) are left out, and a warning says so.
        """
        rows = tokens(prompts, self.architecture.context)
        with torch.no_grad(), self.network.at(self.place) as module:
            return unit(self._batches.map(lambda some: module(input_ids=some.to(self.place.device)).text_embeds, rows))

    def release(self) -> None:
        """Give the memory back; asked again, the tower is read again."""
        self.network.release()

    @property
    def _build(self) -> Callable[[], nn.Module]:
        return partial(_text_network, self.architecture)


def unit(features: Tensor) -> Tensor:
    """Features ``[B, D]`` scaled to length 1, in float32 at least: their cosines differ in the third digit."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


def _image_network(architecture: Vision) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=architecture.width,
        intermediate_size=architecture.inner,
        projection_dim=architecture.projected,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        image_size=architecture.side,
        patch_size=architecture.patch,
        hidden_act=architecture.activation,
        layer_norm_eps=architecture.epsilon,
    )
    return CLIPVisionModelWithProjection(config)


def _text_network(architecture: Text) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    # Configurations of old folders name 2 as the end of text, for which transformers takes the highest token instead
    # of the first end: the same place, as padding is no higher. Here it is always the true one.
    config = CLIPTextConfig(
        vocab_size=architecture.vocabulary,
        hidden_size=architecture.width,
        intermediate_size=architecture.inner,
        projection_dim=architecture.projected,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        max_position_embeddings=architecture.context,
        hidden_act=architecture.activation,
        layer_norm_eps=architecture.epsilon,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    return CLIPTextModelWithProjection(config)


def _load(
    checkpoint: Checkpoint, tower: tuple[str, ...], build: Callable[[], nn.Module], dtype: torch.dtype
) -> nn.Module:
    check(build, checkpoint.shapes_of(tower), checkpoint.path)
    return filled(build, checkpoint.read(tower), dtype)


def _size(checkpoint: Checkpoint, tower: tuple[str, ...], dtype: torch.dtype) -> int:
    return dtype.itemsize * sum(torch.Size(shape).numel() for shape in checkpoint.shapes_of(tower).values())


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
