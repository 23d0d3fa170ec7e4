"""The final latents of the images of a ballot, kept beside it: votes can be trained on once the images are gone.

``votes/000012-000-3fa4c2d1.latents.safetensors`` holds ``latents [n, *L]`` in float16, ``sigmas [T + 1]`` and ``begun
[n]``, its header the rollout's seed, how many noises its group began with, and the digest of the base model (`Origin`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...support.tensor_files import read_tensors, write_tensors
from ..port import Origin

_SHARED = {"shared": 1}
"""What files of an older version say of how many noises: one, or it is not known which."""
SUFFIX = ".latents.safetensors"


class LatentsError(ValueError):
    """A file of final latents that is none."""


@dataclass(frozen=True, kw_only=True)
class FinalLatents:
    """What the images of a ballot were decoded from.

    Attributes:
        latents: ``[n, *L]``.
        origin: how they came to be.
    """

    latents: Tensor
    origin: Origin

    def save(self, folder: Path, ballot: str) -> None:
        """Write them beside the ballot of that id, unless they are there. Raises ``OSError``."""
        path = folder / f"{ballot}{SUFFIX}"
        if not path.exists():
            latents = self.latents.detach().to("cpu", torch.float16).contiguous().clone()
            sigmas = self.origin.sigmas.detach().float().cpu().contiguous().clone()
            begun = self.origin.begun_with(len(latents)).contiguous().clone()
            header = {"seed": str(self.origin.seed), "model": self.origin.model, "starts": str(self.origin.starts)}
            write_tensors(path, {"latents": latents, "sigmas": sigmas, "begun": begun}, header)

    @classmethod
    def load(cls, folder: Path, ballot: str) -> "FinalLatents | None":
        """Those of a ballot; None where it has none, as those of older versions. Raises `LatentsError`."""
        path = folder / f"{ballot}{SUFFIX}"
        if not path.exists():
            return None
        try:
            tensors, header = read_tensors(path)
            starts = int(header["starts"]) if "starts" in header else _SHARED.get(header["start"], 0)
            origin = Origin(
                seed=int(header["seed"]),
                sigmas=tensors["sigmas"],
                model=header["model"],
                starts=starts,
                begun=tensors.get("begun"),
            )
            return cls(latents=tensors["latents"].float(), origin=origin)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise LatentsError(f"{path} holds no latents ({type(error).__name__}: {error})") from error
