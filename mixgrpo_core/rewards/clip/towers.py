"""CLIP's two networks (Radford et al., 2021), each on its own: pictures and texts as points on one sphere.

    tower = ImageTower("ViT-L-14.safetensors", place=Resident(), batch=16)
    tower.embed(images, cropped)                                                      # [B, D], each of length 1

They are read when first needed, and shared by all rewards that use the same file. The text tower can be released once
all prompts are embedded; the image tower stays.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches
from ..networks.places import Placement, Precision
from ..networks.text_image import Preprocessing
from ..networks.tower import Tower, dtype_of, unit
from ..networks.weight_files import WeightsError
from .architectures import Activation, Text, Vision
from .checkpoint import IMAGE, TEXT, Checkpoint
from .tokenizer import VOCABULARY, cleaned, tokens


class ImageTower(Tower[nn.Module]):
    """Images to embeddings; its network is a ``CLIPVisionModelWithProjection``.

    Attributes:
        architecture: what it is like.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        activation: Activation = "auto",
        precision: Precision = "auto",
        place: Placement | None = None,
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
        checkpoint = Checkpoint(file, activation)
        self.architecture = checkpoint.vision
        self._batches = MicroBatches(batch)
        super().__init__(
            "CLIP image tower",
            checkpoint.part(IMAGE, partial(_image_network, self.architecture)),
            architecture=self.architecture,
            precision=precision,
            place=place,
        )

    @property
    def side(self) -> int:
        """Pixels of the square images that the network takes."""
        return self.architecture.side

    @property
    def width(self) -> int:
        """D, numbers in an embedding."""
        return self.architecture.projected

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Embeddings ``[B, D]`` of length 1, float32, on the place's device, with the gradient to the images.

        For a gradient the place has to leave the network on its device until the backward pass (``Resident``).

        Args:
            images: ``[B, H, W, 3]`` in 0..1 on any device.
            preprocessing: of these images for a network of this ``side``.
        """

        def features(some: Tensor) -> Tensor:
            pixels = preprocessing(some.to(self.place.device), self.side)
            made: Tensor = network(pixel_values=pixels.to(dtype_of(network))).image_embeds
            return made

        with self.at_place() as network:
            return unit(self._batches.map(features, images))


class TextTower(Tower[nn.Module]):
    """Prompts to embeddings; its network is a ``CLIPTextModelWithProjection``. See ``ImageTower``."""

    def __init__(
        self,
        file: str | Path,
        *,
        activation: Activation = "auto",
        precision: Precision = "auto",
        place: Placement | None = None,
        batch: int = 64,
        clean: bool = False,
    ) -> None:
        """Look into the file; nothing is read yet. ``clean``: prompts are read as open_clip does, see `cleaned`."""
        checkpoint = Checkpoint(file, activation)
        self.architecture = checkpoint.text
        if self.architecture.vocabulary != VOCABULARY:
            raise WeightsError(
                f"expected CLIP's vocabulary of {VOCABULARY} tokens in {checkpoint.path}, found "
                f"{self.architecture.vocabulary}: it is another network"
            )
        self._batches = MicroBatches(batch)
        self._clean = clean
        super().__init__(
            "CLIP text tower",
            checkpoint.part(TEXT, partial(_text_network, self.architecture)),
            architecture=self.architecture,
            precision=precision,
            place=place,
        )

    @property
    def width(self) -> int:
        """D, numbers in an embedding."""
        return self.architecture.projected

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings ``[N, D]`` of length 1, float32, on the place's device; without a gradient.

        Tokens beyond the network's (77) are left out, and a warning says so.
        """
        rows = tokens([cleaned(prompt) if self._clean else prompt for prompt in prompts], self.architecture.context)
        with torch.no_grad(), self.at_place() as network:
            return unit(self._batches.map(lambda some: network(input_ids=some.to(self.place.device)).text_embeds, rows))


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
