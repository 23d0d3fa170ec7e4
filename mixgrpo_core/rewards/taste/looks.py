"""What a taste sees of pictures: an embedder whose weights are there, or colours and edges."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..embedders.similarity import ImageEncoder, OpenedEncoder, TowerEncoder
from ..networks.known_files import expect
from ..networks.places import Placement, Precision, Resident
from ..networks.tower import unit
from ..siglip.scores import SIGLIP_FILES
from ..siglip.towers import SiglipImageTower, as_siglip
from .colours_edges import colours_and_edges

_SIDE = 64


@dataclass(frozen=True)
class ColoursAndEdges(ImageEncoder):
    """Pictures by the statistics of their colours and edges: no weights, and no idea what they show. Ours."""

    licence = ""

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> "StatisticsEncoder":
        """There is no file to open."""
        return StatisticsEncoder()


@dataclass(frozen=True)
class StatisticsEncoder:
    """`colours_and_edges` as an embedding."""

    memory = 0

    def check(self) -> None:
        """There is nothing that could be missing."""

    def embed(self, images: Tensor) -> Tensor:
        return unit(colours_and_edges(images))


@dataclass(frozen=True)
class SiglipImages(ImageEncoder):
    """Pictures as SigLIP (arXiv 2303.15343) sees them, in the space that it shares with texts.

    Attributes:
        file: a folder as the hub has it, or a weight file.
    """

    file: str
    licence = SIGLIP_FILES[0].licence

    def opened(self, *, precision: Precision, place: Placement, batch: int) -> TowerEncoder:
        """Raises WeightsError where the file is missing or holds something else."""
        expect(self.file, SIGLIP_FILES)
        tower = SiglipImageTower(self.file, precision=precision, place=place, batch=batch)
        return TowerEncoder(tower, as_siglip)


@dataclass(frozen=True, eq=False)
class Look:
    """An encoder at work.

    Attributes:
        encoder: what it is of.
    """

    encoder: ImageEncoder
    precision: Precision = "auto"
    place: Placement = Resident()
    batch: int = 16

    @property
    def memory(self) -> int:
        """Bytes of the network where it computes."""
        return self._opened.memory

    def check(self) -> None:
        """Raises WeightsError where the network's file is missing or holds another."""
        self._opened.check()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images ``[B, H, W, 3]`` in 0..1 to ``[B, D]``, float32 on the CPU."""
        return self._opened.embed(images.detach().float()).float().cpu()

    @cached_property
    def probe(self) -> Tensor:
        """``[D]``, what it sees in one picture that never changes: it tells embedders apart, whatever their files."""
        steps = torch.linspace(0, 1, _SIDE)
        across, down = torch.meshgrid(steps, steps, indexing="xy")
        disc = ((across - 0.6).square() + (down - 0.4).square() < 0.06).float()
        return self.features(torch.stack([across, disc, down * (1 - disc)], -1)[None])[0]

    @cached_property
    def _opened(self) -> OpenedEncoder:
        return self.encoder.opened(precision=self.precision, place=self.place, batch=self.batch)
