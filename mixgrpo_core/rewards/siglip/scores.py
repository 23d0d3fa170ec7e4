"""SigLIP as a reward: whether a picture shows its prompt, as a logit or as a probability.

logit = exp(logit_scale) cos(image, prompt) + logit_bias          probability = sigmoid(logit)
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from ...support.paths import user_path
from ...support.setting import require_finite
from ..networks.known_files import KnownFile
from ..networks.places import Placement, Precision, Resident
from ..networks.text_image import TextImageReward
from ..port import RewardInfo
from .towers import SiglipCheckpoint, SiglipImageTower, SiglipTextTower, as_siglip

SIGLIP_FILES = (
    KnownFile(
        name="siglip-so400m-patch14-384",
        source="google/siglip-so400m-patch14-384, the folder with model.safetensors, config.json and tokenizer.json",
        size=3_511_000_000,
        licence="Apache-2.0",
    ),
)


@dataclass(frozen=True)
class SigLIPScore(TextImageReward):
    """How surely a picture shows its prompt, in a SigLIP network (arXiv 2303.15343). Logits are about -17 to 12.

    Attributes:
        file: a folder as the hub has it, or a weight file; ``tokenizer.json`` or ``spiece.model`` lies beside it.
        tokenizer: another folder with one of these.
        probability: the sigmoid of the logit, 0 to 1, which hardly differs among images that are surely right.
        precision: of the networks; cosines are in float32 always.
        place: where the networks compute, and where they are in between.
        batch: images at a time.
    """

    known: ClassVar[tuple[KnownFile, ...]] = SIGLIP_FILES

    file: str
    tokenizer: str = ""
    probability: bool = False
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(0.0, 1.0) if self.probability else (-17.0, 12.0),
            differentiable=True,
            licence=SIGLIP_FILES[0].licence,
            memory=self.memory,
            spread_floor=1e-6 if self.probability else 0.01,
        )

    def images(self) -> SiglipImageTower:
        return SiglipImageTower(self.file, precision=self.precision, place=self.place, batch=self.batch)

    def texts(self) -> SiglipTextTower:
        file = user_path(self.file)
        beside = file if file.is_dir() else file.parent
        folder = user_path(self.tokenizer) if self.tokenizer else beside
        return SiglipTextTower(self.file, folder, precision=self.precision, place=self.place)

    def preprocessed(self, images: Tensor, side: int) -> Tensor:
        return as_siglip(images, side)

    def scored(self, cosines: Tensor) -> Tensor:
        scale, bias = self._line
        logits = scale * cosines + bias
        return logits.sigmoid() if self.probability else logits

    @cached_property
    def _line(self) -> tuple[float, float]:
        checkpoint = self._opened(lambda: SiglipCheckpoint(self.file))
        return math.exp(checkpoint.number("logit_scale")), checkpoint.number("logit_bias")
