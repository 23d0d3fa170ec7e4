"""Images of latents, by a pipeline's own decoding: with its own autoencoder, or with a tiny one in that place."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from ...support.sized import Size
from ..tiny import picture, require_alike
from .arguments import place_vae
from .encoding import ImageEncoder
from .family import Family
from .field import PipelineField
from .frames import Frames
from .interior import Interior
from .loading import ModelFilesError
from .memory import decoding_memory
from .tiny import TinyVae, load_tiny, tiny_digest

M = TypeVar("M", bound="DecodesByVae")
_DECODED_PIXELS = 2**20  # decoded at once: the VAE in float32 needs a few GiB for one megapixel


def at_once(size: tuple[int, int], frames: int = 1) -> int:
    """How many images of ``(H, W)``, or videos, are decoded at once at most."""
    return max(1, _DECODED_PIXELS // (size[0] * size[1] * frames))


class DecodesByVae:
    """The part of a model that decodes.

    Attributes:
        decode_dtype: what ``decode`` computes in.
        tiny: see `DecodesTiny`.
    """

    decode_dtype = torch.float32
    tiny = ""
    device: torch.device
    family: Family
    resolution: tuple[int, int]
    latent_shape: tuple[int, ...]
    _pipe: DiffusionPipeline
    _inside: Interior
    _field: PipelineField
    _frames: Frames
    _encoder: ImageEncoder
    _small: TinyVae
    _sizes: dict[Size, Any]

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1, float32; of several frames ``[B, F, H, W, 3]``."""
        with torch.set_grad_enabled(grad), torch.autocast(self.device.type, enabled=False):
            return self._decoded(x)

    def decode_low(self, x: Tensor) -> Tensor:
        """The same, computed in bfloat16."""
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            return self._decoded(x)

    def decode_tiny(self, x: Tensor, *, low: bool = False) -> Tensor:
        """The same by the tiny autoencoder: see `DecodesTiny`."""
        with self._by(self._small):
            return self.decode_low(x) if low else self.decode(x)

    def take_tiny(self, path: str | Path) -> None:
        """Have a tiny autoencoder besides the pipeline's own, from a folder or file.

        Raises:
            ValueError: it cannot be read, is another family's, or this pipeline's autoencoder has none of the kind.
        """
        own: Any = self._pipe.vae
        path = Path(path)
        if type(own) not in (AutoencoderKL, AutoencoderTiny):
            raise ModelFilesError(
                f"expected an AutoencoderKL, which a tiny autoencoder can stand in for, found the {type(own).__name__} "
                f"of {self.family.name}: leave tiny_autoencoder out"
            )
        found = load_tiny(path)
        if found.config.latent_channels != own.config.latent_channels:
            raise ModelFilesError(
                f"expected a tiny autoencoder of {own.config.latent_channels} latent channels for {self.family.name}, "
                f"found {found.config.latent_channels} in {path}: take the one of this family"
            )
        place_vae(found, self.device)
        self._small = found
        latents = self._encoder(picture(*self.resolution).to(self.device), self.decode).to(self.device)
        require_alike(self.decode(latents), self.decode_tiny(latents), str(path))
        self.tiny = tiny_digest(found)

    def decoder(self: M) -> M:
        """The same model to decode with in another thread: see `DecodesBeside`."""
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"expected the device cuda or cpu for decode_beside, found {self.device}, which may not serve two "
                "threads: leave decode_beside out"
            )
        if self.family.needs_picture or (self.family.reads_pictures and hasattr(self._pipe.vae, "clear_cache")):
            raise ValueError(
                f"expected a model whose autoencoder is free while prompts are rolled out, found {self.family.name}, "
                "which reads pictures with it meanwhile: leave decode_beside out"
            )
        return self._twin()

    def decode_memory(self, images: int) -> int | None:
        """Bytes besides the weights that so many images take to be decoded, computed; None where it cannot be told."""
        twin = self._twin()  # which keeps shapes without numbers

        def decode(x: Tensor) -> Tensor:
            return twin.decode_tiny(x) if self.tiny else twin.decode(x)

        autoencoder: Any = self._small if self.tiny else self._pipe.vae
        return decoding_memory(self.family.name, autoencoder, decode, (images, *self.latent_shape))

    def _twin(self: M) -> M:
        """The same model over another pipeline object."""
        made = copy(self)
        made._inside, made._sizes = self._inside.another(), {}
        made._pipe, made._field = made._inside.pipe, self._field.within(made._inside)
        return made

    @contextmanager
    def _by(self, autoencoder: TinyVae) -> Iterator[None]:
        """Inside, the pipeline decodes with it."""
        own, self._pipe.vae = self._pipe.vae, autoencoder
        try:
            yield
        finally:
            self._pipe.vae = own

    def _decoded(self, x: Tensor) -> Tensor:
        most = 1 if self.family.one_row else at_once(self.resolution, self._frames.made)
        parts = [self._field.decode(part, self._told_blank(len(part))) for part in x.float().split(most)]
        return self._frames.of(torch.cat(parts))

    def _told_blank(self, rows: int) -> dict[str, object]:
        """A call of the pipeline in which the text does not matter."""
        raise NotImplementedError
