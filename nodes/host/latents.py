"""What a taste sees of pictures by a VAE that the host reads: of any kind that ComfyUI knows, without diffusers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ...mixgrpo_core.rewards.networks.places import Placement, Precision
from ...mixgrpo_core.rewards.networks.weight_files import Weights, WeightsError
from ...mixgrpo_core.rewards.taste import latents
from ...mixgrpo_core.support.micro_batches import ran_out


@dataclass(frozen=True)
class Latents(latents.Latents):
    """The core's look by its name, so that a taste says the same of itself in both homes; the host encodes."""

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> "HostLatentsEncoder":
        """The host decides about precision and place. Raises WeightsError where the file holds no weights."""
        [file, *more] = Weights(self.file).files
        if more:
            raise WeightsError(f"expected a VAE in one file in {self.file}, found {1 + len(more)} files")
        return HostLatentsEncoder(file)


class HostLatentsEncoder:
    """A VAE of the host, and its latents as an embedding."""

    def __init__(self, file: Path) -> None:
        """Nothing is read yet."""
        self._file = file

    @property
    def memory(self) -> int:
        return self._file.stat().st_size

    def check(self) -> None:
        """Raises WeightsError where the host knows no VAE in the file."""
        _ = self._vae

    def embed(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to `latents.beside_colours` of their latents, float32 on the CPU."""
        found = torch.cat([self._latents(image[None]) for image in images])
        return latents.beside_colours(images, found)

    def _latents(self, image: Tensor) -> Tensor:
        """``[1, C, h, w]``; one at a time, since a VAE of videos takes several images for one."""
        found: Tensor = self._vae.encode(latents.fitted_pixels(image).movedim(1, -1))
        return found[:, :, 0] if found.ndim == 5 else found

    @cached_property
    def _vae(self) -> comfy.sd.VAE:
        try:
            tensors, told = comfy.utils.load_torch_file(str(self._file), safe_load=True, return_metadata=True)
            vae = comfy.sd.VAE(sd=tensors, metadata=told)
            vae.throw_exception_if_invalid()
        except Exception as error:  # whatever the host says of a file that is no VAE
            if ran_out(error):
                raise
            raise WeightsError(f"ComfyUI reads no VAE from {self._file}: choose one that Load VAE takes") from error
        return vae
