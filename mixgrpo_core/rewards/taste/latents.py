"""Pictures as an autoencoder's latents: a look where no embedder's weights are, since a model that draws has a VAE.

Beside the statistics of colours and edges stand those of the latents: the mean of each channel, and how much of each
two channels is in the same place. Where in the picture that is does not count: with it, votes on the demo told less.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches
from ...support.paths import user_path
from ..embedders.similarity import ImageEncoder, OpenedEncoder
from ..networks.known_files import expect
from ..networks.places import Placement, Precision
from ..networks.preprocessing import pixels_of, resized
from ..networks.tower import FilePart, Tower, unit
from ..networks.weight_files import Weights, WeightsError
from .colours_edges import colours_and_edges

_LONGEST, _SHORTEST, _MULTIPLE = 256, 32, 16  # pixels of a side


@dataclass(frozen=True)
class Latents(ImageEncoder):
    """Pictures by their colours and edges, and by what an autoencoder (VAE) makes of them. Ours.

    Attributes:
        file: a folder of diffusers (of the autoencoder, or of a whole model with its ``vae``), or the ``.safetensors``
            of an AutoencoderKL alone (``ae.safetensors``).
    """

    file: str
    licence = "that of the model whose autoencoder it is"

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> OpenedEncoder:
        """Raises WeightsError where the file is missing or holds something else. It computes in float32 always: many
        autoencoders have no numbers in float16."""
        expect(self.file, ())
        return LatentsEncoder(Weights(_home(user_path(self.file))), place=place, batch=batch)


class LatentsEncoder(Tower[nn.Module]):
    """The encoding half of an autoencoder, and its latents as an embedding."""

    def __init__(self, weights: Weights, *, place: Placement, batch: int) -> None:
        """Nothing but names and shapes is read yet."""
        self._batches = MicroBatches(batch)
        super().__init__("autoencoder", _half(weights), precision="float32", place=place)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to `beside_colours` of their latents, float32 on the CPU."""

        def features(some: Tensor) -> Tensor:
            encoder: Any = network
            found = encoder.encode(2 * fitted_pixels(some.to(self.place.device)) - 1)
            return beside_colours(some, found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents)

        with self.at_place() as network:
            return self._batches.map(features, images)


def fitted_pixels(images: Tensor) -> Tensor:
    """Images ``[B, H, W, 3]`` in 0..1 to pixels ``[B, 3, h, w]``: of 256 a side at most, in multiples of 16."""
    pixels = pixels_of(images)
    scale = min(1.0, _LONGEST / max(pixels.shape[-2:]))
    sides = (max(_SHORTEST, round(length * scale / _MULTIPLE) * _MULTIPLE) for length in pixels.shape[-2:])
    return resized(pixels, *sides)


def beside_colours(images: Tensor, latents: Tensor) -> Tensor:
    """Colours and edges of images ``[B, H, W, 3]``, and statistics of their ``latents [B, C, h, w]``, each of the same
    weight: ``[B, D]`` of length 1, float32 on the CPU."""
    return unit(torch.cat([unit(colours_and_edges(images)), unit(statistics(latents))], 1))


def statistics(latents: Tensor) -> Tensor:
    """Latents ``[B, C, h, w]`` of any size to ``[B, C + C (C + 1) / 2]``, float32 on the CPU: means of the channels and
    of their products; as square roots with their sign, so that no large one drowns the others."""
    places = latents.float().cpu().flatten(2)
    products = places @ places.mT / places.shape[2]
    one, other = torch.triu_indices(*products.shape[1:])
    found = torch.cat([places.mean(2), products[:, one, other]], 1)
    return found.sign() * found.abs().sqrt()


def _home(path: Path) -> Path:
    """The autoencoder's folder in that of a whole model."""
    return path / "vae" if (path / "vae" / "config.json").is_file() else path


def _half(weights: Weights) -> FilePart:
    """Raises WeightsError where the file holds no autoencoder that is known here."""
    from ...models.diffusers.autoencoders import config_of, encoding_half, kind_of, name_of_half, shape_of_half
    from ...models.diffusers.loading import ModelFilesError

    names = {made: name for name in weights.shapes if (made := name_of_half(name))}
    shapes = {made: shape_of_half(made, weights.shapes[name]) for made, name in names.items()}
    try:
        config = weights.config or config_of(shapes)
        kind_of(config)
    except ModelFilesError as error:
        raise WeightsError(f"{error} in {weights.path}: take the VAE of an image model") from error
    return FilePart(
        path=weights.path,
        identity=(weights.identity, repr(sorted(config.items()))),
        shapes=shapes,
        read=partial(_read, weights, names),
        build=partial(encoding_half, config),
    )


def _read(weights: Weights, names: dict[str, str]) -> dict[str, Tensor]:
    from ...models.diffusers.autoencoders import as_half

    found = weights.read(names.values())
    return {made: as_half(made, found[name]) for made, name in names.items()}
