"""How beautiful people found images like this: a few linear layers on the embedding of a large network.

    score = head(embedding of length 1)                                                       about 1 to 10

LAION's predictors (github.com/christophschuhmann/improved-aesthetic-predictor) stand on OpenAI's CLIP L/14, version 2.5
(of another author) on SigLIP so400m at 384 pixels. The names in the head's file tell them apart, and whether ReLUs are
between the layers: they take up numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...support.setting import require_finite
from ..clip.files import CLIP_SCORE_FILES
from ..clip.fitting import cropped
from ..clip.towers import ImageTower
from ..networks.known_files import KnownFile, expect
from ..networks.places import Placement, Precision, Resident
from ..networks.text_image import Preprocessing
from ..networks.weight_files import Weights, WeightsError
from ..port import DifferentiableReward, RewardBatch, RewardInfo
from ..siglip.scores import SIGLIP_FILES
from ..siglip.towers import SiglipImageTower, as_siglip

LAION = KnownFile(
    name="sac+logos+ava1-l14-linearMSE.pth",
    source="github.com/christophschuhmann/improved-aesthetic-predictor",
    size=3_714_759,
    licence="Apache-2.0",
)
VERSION_2_5 = KnownFile(
    name="aesthetic_predictor_v2_5.pth",
    source="github.com/discus0434/aesthetic-predictor-v2-5",
    size=2_640_000,
    licence="AGPL-3.0, with duties for those who offer it over a network: read it before use",
)
OPENAI_CLIP = CLIP_SCORE_FILES[1]


@dataclass(frozen=True)
class _Layout:
    """How a head is written down: the prefix and the numbers of its linear layers, and what it is put on."""

    prefix: str
    numbers: tuple[int, ...]
    relu: bool
    siglip: bool
    licence: str

    @property
    def names(self) -> set[str]:
        return {f"{self.prefix}{number}.{kind}" for number in self.numbers for kind in ("weight", "bias")}


_LAYOUTS = (
    _Layout("layers.", (0, 2, 4, 6, 7), relu=False, siglip=False, licence=LAION.licence),
    _Layout("layers.", (0, 3, 6, 9, 11), relu=True, siglip=False, licence=LAION.licence),
    _Layout("scoring_head.", (0, 2, 4, 6, 8), relu=False, siglip=True, licence=VERSION_2_5.licence),
)


@dataclass(frozen=True)
class AestheticScore(DifferentiableReward):
    """Beauty as its raters saw it, whatever the prompt: 5 is ordinary, 6 good; a run that reaches 7 is cheating.

    Attributes:
        head: ``sac+logos+ava1-l14-linearMSE.pth`` or a sibling (LAION v2), or ``aesthetic_predictor_v2_5.pth``.
        file: the network that it is put on: OpenAI's CLIP L/14 for LAION's, SigLIP so400m/14 at 384 for version 2.5;
            whole or its image tower only.
        precision: of the network; the head is in float32 always.
        place: where the network computes, and where it is in between.
        batch: images at a time.
    """

    head: str
    file: str
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        try:
            licence, memory = self._layout.licence, self._tower.memory
        except WeightsError:  # no such file yet
            licence, memory = LAION.licence, 0
        return RewardInfo(expected=(1.0, 10.0), differentiable=True, licence=licence, memory=memory, spread_floor=0.01)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Reads the head and looks into the network's file.

        Raises:
            WeightsError: one of them is missing, broken, or does not fit the other.
        """
        _ = self._head
        self._tower.check()

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with their gradient."""
        embeddings = self._tower.embed(batch.images, self._preprocessing)
        made: Tensor = self._head.to(embeddings.device)(embeddings)[:, 0].to(batch.images.device)
        return made

    @cached_property
    def _weights(self) -> Weights:
        expect(self.head, (LAION, VERSION_2_5))
        return Weights(self.head)

    @cached_property
    def _layout(self) -> _Layout:
        found = set(self._weights.shapes)
        for layout in _LAYOUTS:
            if layout.names == found:
                return layout
        raise WeightsError(
            f"expected the head of an aesthetic predictor in {self.head}, found {len(found)} tensors such as "
            f"{', '.join(sorted(found)[:3])}. Known are: {LAION.words()}; {VERSION_2_5.words()}"
        )

    @cached_property
    def _tower(self) -> ImageTower | SiglipImageTower:
        """Raises WeightsError where it is not the network that the head was trained on."""
        siglip = self._layout.siglip
        expect(self.file, SIGLIP_FILES if siglip else (OPENAI_CLIP,))
        opening = SiglipImageTower if siglip else ImageTower
        tower = opening(self.file, precision=self.precision, place=self.place, batch=self.batch)
        shape = self._weights.shapes[f"{self._layout.prefix}0.weight"]
        if shape[-1] != tower.width:
            known = SIGLIP_FILES[0] if siglip else OPENAI_CLIP
            raise WeightsError(
                f"{self.head} is for embeddings of {shape[-1]} numbers, those of {self.file} have {tower.width}. "
                f"Take {known.words()}"
            )
        return tower

    @property
    def _preprocessing(self) -> Preprocessing:
        return as_siglip if self._layout.siglip else cropped

    @cached_property
    def _head(self) -> nn.Sequential:
        """``[B, D]`` of length 1 to ``[B, 1]``, in float32."""
        layout, tensors = self._layout, self._weights.read(self._layout.names)
        with torch.inference_mode(False):
            layers = [
                _linear(tensors[f"{layout.prefix}{number}.weight"], tensors[f"{layout.prefix}{number}.bias"], self.head)
                for number in layout.numbers
            ]
        fits = all(one.out_features == other.in_features for one, other in pairwise(layers))
        if not fits or layers[-1].out_features != 1:
            raise WeightsError(f"the layers in {self.head} do not follow each other to one number: get it again")
        between = [(layer, nn.ReLU()) if layout.relu else (layer,) for layer in layers[:-1]]
        return nn.Sequential(*(part for parts in between for part in parts), layers[-1]).requires_grad_(False)


def _linear(weight: Tensor, bias: Tensor, source: str) -> nn.Linear:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise WeightsError(f"expected linear layers in {source}, found shapes {list(weight.shape)}, {list(bias.shape)}")
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer
