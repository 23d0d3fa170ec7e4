"""The final latents of the images of a ballot, kept beside it: votes can be trained on once the images are gone.

``votes/000012-000-3fa4c2d1.latents.safetensors`` holds ``latents [n, *L]`` in float16 and ``sigmas [T + 1]``, its
header the rollout's seed, whether its images began as one, and the digest of the base model.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...support.tensor_files import read_tensors, write_tensors
from ..port import Origin

_START = {True: "shared", False: "of its own"}
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
            header = {
                "seed": str(self.origin.seed),
                "model": self.origin.model,
                "start": _START[self.origin.shared_noise],
            }
            write_tensors(path, {"latents": latents, "sigmas": sigmas}, header)

    @classmethod
    def load(cls, folder: Path, ballot: str) -> "FinalLatents | None":
        """Those of a ballot; None where it has none, as those of older versions. Raises `LatentsError`."""
        path = folder / f"{ballot}{SUFFIX}"
        if not path.exists():
            return None
        try:
            tensors, header = read_tensors(path)
            shared = header["start"] == _START[True]
            origin = Origin(
                seed=int(header["seed"]), sigmas=tensors["sigmas"], model=header["model"], shared_noise=shared
            )
            return cls(latents=tensors["latents"].float(), origin=origin)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise LatentsError(f"{path} holds no latents ({type(error).__name__}: {error})") from error
