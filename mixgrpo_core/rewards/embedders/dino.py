"""DINOv2 (arXiv 2304.07193): what a picture shows and how it is arranged, learnt without words.

Its files come from the hub in transformers' naming; sizes are read from the shapes where no ``config.json`` tells
them (a head of attention has 64 numbers in all of them).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches
from ..networks.filling import load_strict
from ..networks.known_files import KnownFile, expect
from ..networks.places import Placement, Precision
from ..networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, centre_cropped, normalised, pixels_of
from ..networks.tower import Tower, Whole, unit
from ..networks.weight_files import Weights, WeightsError

if TYPE_CHECKING:
    from transformers import Dinov2Config

SHORTEST, SIDE = 256, 224  # pixels: the shorter edge, and the square cut out of the middle
_PER_HEAD = 64

DINOV2 = tuple(
    KnownFile(name=f"dinov2-{size}", source=f"facebook/dinov2-{size}", size=count, licence="Apache-2.0")
    for size, count in (("small", 88_200_000), ("base", 346_300_000), ("large", 1_217_500_000))
)


@dataclass(frozen=True)
class DinoV2:
    """Pictures as DINOv2 sees them; how much their arrangement counts beside their content is what CLIP lacks.

    Attributes:
        file: a folder of the hub (``dinov2-base``), or its ``.safetensors`` or ``.bin`` alone.
    """

    file: str
    licence = DINOV2[0].licence

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> "DinoTower":
        """Raises WeightsError where the file is missing or holds something else."""
        expect(self.file, DINOV2)
        return DinoTower(Weights(self.file), precision, place, batch)


class DinoTower(Tower[Any]):
    """Images to embeddings: the class token after the last normalisation, or those of the patches."""

    def __init__(self, weights: Weights, precision: Precision, place: Placement, batch: int) -> None:
        """Nothing is read yet. ``batch``: images of one call at most."""
        self._batches = MicroBatches(batch)
        super().__init__("DINOv2", Whole(weights, partial(_load, weights)), precision=precision, place=place)

    def embed(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to ``[B, D]`` of length 1, float32, on the place's device, with the gradient."""

        def features(some: Tensor) -> Tensor:
            pixels = centre_cropped(pixels_of(some.to(self.place.device)), SIDE, shortest=SHORTEST)
            pixels = normalised(pixels, IMAGENET_MEAN, IMAGENET_STD).to(self.dtype)
            made: Tensor = module(pixel_values=pixels).last_hidden_state[:, 0]
            return made

        with self.at_place() as module:
            return unit(self._batches.map(features, images))

    def patches(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to the patches' tokens ``[B, h, w, D]``, float32, on the place's device.

        The whole image is seen, its shorter side at 224 pixels and both at whole patches.
        """

        def tokens(some: Tensor) -> Tensor:
            pixels = pixels_of(some.to(self.place.device))
            patch = module.config.patch_size
            height, width = (max(1, round(size * SIDE / min(pixels.shape[-2:]) / patch)) for size in pixels.shape[-2:])
            sized = F.interpolate(pixels, (height * patch, width * patch), mode="bicubic", antialias=True)
            pixels = normalised(sized.clamp(0, 1), IMAGENET_MEAN, IMAGENET_STD).to(self.dtype)
            found = module(pixel_values=pixels).last_hidden_state[:, 1:].float()
            made: Tensor = found.unflatten(1, (height, width))
            return made

        with self.at_place() as module:
            return self._batches.map(tokens, images)


def _load(weights: Weights, dtype: torch.dtype) -> nn.Module:
    """The network on the CPU in ``dtype``. Raises WeightsError where the file holds another."""
    from transformers import Dinov2Model

    return load_strict(Dinov2Model, _config(weights), weights.read(weights.shapes), dtype=dtype, source=weights.path)


def _config(weights: Weights) -> "Dinov2Config":
    from transformers import Dinov2Config

    kind = weights.config.get("model_type", "dinov2")
    if kind != "dinov2":
        raise WeightsError(f"expected DINOv2 in {weights.path}, found a network of the kind {kind!r}")
    shapes = weights.shapes
    try:
        width = shapes["embeddings.cls_token"][-1]
        patch = shapes["embeddings.patch_embeddings.projection.weight"][-1]
        positions = shapes["embeddings.position_embeddings"][1]
        layers = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.layer."))
    except (KeyError, ValueError, IndexError) as error:
        known = ", ".join(sorted(shapes)[:3])
        raise WeightsError(
            f"expected DINOv2 (names like embeddings.cls_token) in {weights.path}, found {known}, ...: take "
            f"{DINOV2[1].source} in transformers' format"
        ) from error
    return Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=weights.config.get("num_attention_heads", max(1, width // _PER_HEAD)),
        mlp_ratio=weights.config.get("mlp_ratio", 4),
        layer_norm_eps=weights.config.get("layer_norm_eps", 1e-6),
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
        use_swiglu_ffn="encoder.layer.0.mlp.weights_in.weight" in shapes,
        use_mask_token="embeddings.mask_token" in shapes,
    )
