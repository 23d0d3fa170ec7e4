"""SigLIP's two networks (Zhai et al., 2023), each on its own, from a file or folder in transformers' layout.

The image network has no class token and pools by attention; the text network pools at its last token, padding or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches
from ...support.quoting import listed
from ...support.vocabulary import require_vocabulary
from ..networks.filling import on_meta
from ..networks.places import Placement, Precision
from ..networks.preprocessing import HALF, normalised, pixels_of, squashed
from ..networks.text_image import Preprocessing
from ..networks.tower import FilePart, Tower, dtype_of, unit
from ..networks.weight_files import Weights, WeightsError
from .tokenizer import SiglipTokens

Side = Literal["vision", "text"]
_PATCHES = "vision_model.embeddings.patch_embedding.weight"
_HEAD = {1152: 72, 1536: 96}  # so400m, giant; others have heads of 64
_SIDES = {(27, 14): 384}  # patches across and their size, where 14 does not divide the side: the last pixels are unseen


@dataclass(frozen=True)
class Sizes:
    """What a tower is like, as arguments of its configuration in transformers."""

    arguments: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        return dict(self.arguments)[name]


class SiglipCheckpoint:
    """A file or folder with a SigLIP network, whole or only its image tower.

    Attributes:
        path: of the file or folder.
    """

    def __init__(self, path: str | Path) -> None:
        """Look into ``path``.

        Raises:
            WeightsError: not a weight file, or another network.
        """
        self._weights = Weights(path)
        self.path = self._weights.path
        shapes = self._weights.shapes
        if "vision_model.head.probe" not in shapes or _PATCHES not in shapes:
            raise WeightsError(
                f"expected a SigLIP network in {self.path}, found tensors such as {listed(sorted(shapes))}"
            )
        unknown = {
            name
            for name in shapes
            if not name.startswith(("vision_model.", "text_model.")) and name not in ("logit_scale", "logit_bias")
        }
        if unknown:
            raise WeightsError(
                f"expected nothing but a SigLIP network in {self.path}, found also {listed(sorted(unknown))}"
            )

    def vision(self) -> Sizes:
        """What the image tower is like."""
        width, _, _, patch = self._shape(_PATCHES, 4)
        across = round(self._shape("vision_model.embeddings.position_embedding.weight", 2)[0] ** 0.5)
        side = self._said("vision").get("image_size", _SIDES.get((across, patch), across * patch))
        return self._sizes("vision", width, image_size=int(side), patch_size=patch)

    def text(self) -> Sizes:
        """What the text tower is like. Raises WeightsError where there is none."""
        if not any(name.startswith("text_model.") for name in self._weights.shapes):
            raise WeightsError(
                f"expected SigLIP's text tower in {self.path}, found its image tower only: take the file of the whole "
                "network"
            )
        words, width = self._shape("text_model.embeddings.token_embedding.weight", 2)
        context, _ = self._shape("text_model.embeddings.position_embedding.weight", 2)
        projected, _ = self._shape("text_model.head.weight", 2)
        return self._sizes("text", width, vocab_size=words, max_position_embeddings=context, projection_size=projected)

    def part(self, side: Side, build: Callable[[], nn.Module]) -> FilePart:
        """The parameters of a tower, by the names that this version of transformers has for them."""
        prefix = f"{side}_model."
        bare = not any(name.startswith(prefix) for name in on_meta(build).state_dict())
        names = {
            name.removeprefix(prefix) if bare else name: name
            for name in self._weights.shapes
            if name.startswith(prefix) and not name.endswith("position_ids")
        }

        def read() -> dict[str, Tensor]:
            stored = self._weights.read(names.values())
            return {target: stored[name] for target, name in names.items()}

        shapes = {target: self._weights.shapes[name] for target, name in names.items()}
        return FilePart(self.path, self._weights.identity, shapes, read, build)

    def number(self, name: Literal["logit_scale", "logit_bias"]) -> float:
        """A number beside the towers. Raises WeightsError where there is none."""
        if name not in self._weights.shapes:
            raise WeightsError(f"expected a tensor {name} in {self.path}, found none: it is no whole SigLIP network")
        return float(self._weights.read([name])[name])

    def _sizes(self, side: Side, width: int, **more: int) -> Sizes:
        layers = f"{side}_model.encoder.layers."
        numbers = [int(n.removeprefix(layers).split(".")[0]) for n in self._weights.shapes if n.startswith(layers)]
        inner, _ = self._shape(f"{layers}0.mlp.fc1.weight", 2)
        said = self._said(side)
        arguments = {
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": max(numbers) + 1,
            "num_attention_heads": int(said.get("num_attention_heads", 12 if said else width // _HEAD.get(width, 64))),
            "hidden_act": str(said.get("hidden_act", "gelu_pytorch_tanh")),
            "layer_norm_eps": float(said.get("layer_norm_eps", 1e-6)),
            **more,
        }
        return Sizes(tuple(arguments.items()))

    def _said(self, side: Side) -> Mapping[str, Any]:
        config = self._weights.config
        if config.get("model_type") == f"siglip_{side}_model":
            return config
        return config.get(f"{side}_config") or {}

    def _shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        shape = self._weights.shapes.get(name, ())
        if len(shape) != dimensions:
            raise WeightsError(
                f"expected {name} of {dimensions} dimensions in {self.path}, found {list(shape) or 'none'}: it is no "
                "whole SigLIP network"
            )
        return shape


class SiglipImageTower(Tower[nn.Module]):
    """Images to embeddings, by a ``SiglipVisionModel``.

    Attributes:
        side: pixels of the square images that it takes.
        width: D, numbers in an embedding.
    """

    def __init__(
        self, file: str | Path, *, precision: Precision = "auto", place: Placement | None = None, batch: int = 16
    ) -> None:
        """Look into ``file``; nothing is read yet. Raises WeightsError where it is no SigLIP network."""
        checkpoint = SiglipCheckpoint(file)
        sizes = checkpoint.vision()
        self.side: int = sizes["image_size"]
        self.width: int = sizes["hidden_size"]
        self._batches = MicroBatches(batch)
        part = checkpoint.part("vision", partial(_image_network, sizes))
        super().__init__("SigLIP image tower", part, architecture=sizes, precision=precision, place=place)

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Embeddings ``[B, D]`` of length 1, float32, on the place's device, with the gradient to the images.

        For a gradient the place has to leave the network on its device until the backward pass (``Resident``).

        Args:
            images: ``[B, H, W, 3]`` in 0..1 on any device.
            preprocessing: of these images for a network of this ``side``; see ``as_siglip``.
        """

        def features(some: Tensor) -> Tensor:
            pixels = preprocessing(some.to(self.place.device), self.side)
            made: Tensor = network(pixel_values=pixels.to(dtype_of(network))).pooler_output
            return made

        with self.at_place() as network:
            return unit(self._batches.map(features, images))


class SiglipTextTower(Tower[nn.Module]):
    """Prompts to embeddings, by a ``SiglipTextModel``.

    Attributes:
        width: D, numbers in an embedding.
    """

    def __init__(
        self,
        file: str | Path,
        tokenizer: Path,
        *,
        precision: Precision = "auto",
        place: Placement | None = None,
        batch: int = 64,
    ) -> None:
        """Look into ``file`` and the folder ``tokenizer``.

        Raises:
            WeightsError: no text tower, or no vocabulary of its size.
        """
        checkpoint = SiglipCheckpoint(file)
        sizes = checkpoint.text()
        self.width: int = sizes["projection_size"]
        self._context: int = sizes["max_position_embeddings"]
        self._batches = MicroBatches(batch)
        self._tokens = SiglipTokens(tokenizer)
        try:
            require_vocabulary(self._tokens.count, sizes["vocab_size"])
        except ValueError as error:
            raise WeightsError(
                f"expected the tokenizer of {file} in {tokenizer}, but {error}: take the one of the same hub repository"
            ) from error
        part = checkpoint.part("text", partial(_text_network, sizes))
        super().__init__("SigLIP text tower", part, architecture=sizes, precision=precision, place=place)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings ``[N, D]`` of length 1, float32, on the place's device; without a gradient.

        Tokens beyond the network's (64) are left out, and a warning says so.
        """
        rows = self._tokens(prompts, self._context)
        with torch.no_grad(), self.at_place() as network:
            return unit(self._batches.map(lambda few: network(input_ids=few.to(self.place.device)).pooler_output, rows))


def as_siglip(images: Tensor, side: int, *, eight_bits: bool = True) -> Tensor:
    """All of the picture as a square of ``side`` pixels, -1..1 (SigLIP's preprocessing)."""
    return normalised(squashed(pixels_of(images, eight_bits=eight_bits), side), HALF, HALF)


def _image_network(sizes: Sizes) -> nn.Module:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig(**dict(sizes.arguments)))


def _text_network(sizes: Sizes) -> nn.Module:
    from transformers import SiglipTextConfig, SiglipTextModel

    # Tokens of begin, end and padding are not looked at by the network: none, so that none is outside the vocabulary.
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return SiglipTextModel(SiglipTextConfig(**dict(sizes.arguments), **ends))
