"""Rewards of CLIP networks: how well a picture shows its prompt, and how well people like it for that.

HPSv2       cos(image, prompt)            the whole picture, black around it
PickScore   exp(logit scale) cos          the middle of the picture
CLIPScore   scale cos                     the middle, or the picture stretched to a square
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from torch import Tensor

from ...support.setting import require_finite
from ..networks.known_files import KnownFile
from ..networks.places import Placement, Precision, Resident
from ..networks.text_image import TextImageReward
from ..port import RewardInfo
from .architectures import Activation
from .checkpoint import Checkpoint
from .files import CLIP_SCORE_FILES, HPS_FILES, PICKSCORE_FILES
from .fitting import boxed, cropped, cropped_low, stretched
from .towers import ImageTower, TextTower

_STRETCHED_SIDES = (378, 384)  # open_clip's networks of these sides were trained on stretched pictures


@dataclass(frozen=True)
class HPSv2(TextImageReward):
    """Human Preference Score v2 and v2.1 (arXiv 2306.09341): CLIP H/14 tuned on people's choices. About 0.1 to 0.4; the
    printed leaderboards say 100 times that. Scores of v2 and of v2.1 do not compare.

    Attributes:
        file: ``HPS_v2.1_compressed.pt``, ``HPS_v2_compressed.pt``, or the same tensors as safetensors.
        precision: of the networks; cosines are in float32 always.
        place: where the networks compute, and where they are in between.
        batch: images at a time.
    """

    known: ClassVar[tuple[KnownFile, ...]] = HPS_FILES

    file: str
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(0.1, 0.4),
            differentiable=True,
            licence=HPS_FILES[0].licence,
            memory=self.memory,
            spread_floor=1e-4,
        )

    def images(self) -> ImageTower:
        return ImageTower(self.file, precision=self.precision, place=self.place, batch=self.batch)

    def texts(self) -> TextTower:
        return TextTower(self.file, precision=self.precision, place=self.place, clean=True)

    def preprocessed(self, images: Tensor, side: int) -> Tensor:
        return boxed(images, side)


@dataclass(frozen=True)
class PickScore(TextImageReward):
    """PickScore v1 (arXiv 2305.01569): CLIP H/14 tuned on people's choices. About 17 to 26.

    Attributes:
        file: ``PickScore_v1.safetensors``, or the folder as the hub has it.
        precision: of the networks; cosines are in float32 always.
        place: where the networks compute, and where they are in between.
        batch: images at a time.
    """

    known: ClassVar[tuple[KnownFile, ...]] = PICKSCORE_FILES

    file: str
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(17.0, 26.0),
            differentiable=True,
            licence=PICKSCORE_FILES[0].licence,
            memory=self.memory,
            spread_floor=0.01,
        )

    def images(self) -> ImageTower:
        return ImageTower(self.file, precision=self.precision, place=self.place, batch=self.batch)

    def texts(self) -> TextTower:
        return TextTower(self.file, precision=self.precision, place=self.place)

    def preprocessed(self, images: Tensor, side: int) -> Tensor:
        return cropped_low(images, side)

    def scored(self, cosines: Tensor) -> Tensor:
        return self._scale * cosines

    @cached_property
    def _scale(self) -> float:
        return math.exp(self._opened(lambda: Checkpoint(self.file).logit_scale()))


@dataclass(frozen=True)
class CLIPScore(TextImageReward):
    """Cosine of a picture and its prompt in any CLIP network (arXiv 2104.08718, without its factor 2.5).

    Attributes:
        file: of DFN5B H/14 at 378 (as in the MixGRPO paper), laion H/14, OpenAI L/14, or another CLIP: a weight file or
            a folder, in open_clip's or transformers' layout.
        scale: factor of the cosine.
        activation: of networks whose files do not tell: ``gelu`` for laion's L/14 without its config.json.
        fit: how a picture becomes a square: its middle, or stretched; ``auto`` stretches for networks of 378 and 384
            pixels, as they were trained.
        precision: of the networks; cosines are in float32 always.
        place: where the networks compute, and where they are in between.
        batch: images at a time.
    """

    known: ClassVar[tuple[KnownFile, ...]] = CLIP_SCORE_FILES

    file: str
    scale: float = 1.0
    activation: Activation = "auto"
    fit: Literal["auto", "crop", "stretch"] = "auto"
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)
        for name, known in (("activation", ("auto", "gelu", "quick_gelu")), ("fit", ("auto", "crop", "stretch"))):
            if getattr(self, name) not in known:
                raise ValueError(f"expected {name} to be one of {', '.join(known)}, found {getattr(self, name)!r}")

    @property
    def about(self) -> RewardInfo:
        low, high = sorted((0.1 * self.scale, 0.5 * self.scale))
        return RewardInfo(
            expected=(low, high),
            differentiable=True,
            licence="; ".join(f"{file.name}: {file.licence}" for file in CLIP_SCORE_FILES),
            memory=self.memory,
            spread_floor=1e-4 * abs(self.scale),
        )

    def images(self) -> ImageTower:
        return ImageTower(
            self.file, activation=self.activation, precision=self.precision, place=self.place, batch=self.batch
        )

    def texts(self) -> TextTower:
        return TextTower(self.file, activation=self.activation, precision=self.precision, place=self.place, clean=True)

    def preprocessed(self, images: Tensor, side: int) -> Tensor:
        stretch = self.fit == "stretch" or (self.fit == "auto" and side in _STRETCHED_SIDES)
        return (stretched if stretch else cropped)(images, side)

    def scored(self, cosines: Tensor) -> Tensor:
        return self.scale * cosines
