"""ImageReward as a reward."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from ...support.micro_batches import MicroBatches
from ...support.paths import user_path
from ...support.setting import require_finite
from ..networks.known_files import KnownFile, expect
from ..networks.places import Placement, Precision, Resident
from ..networks.preprocessing import CLIP_MEAN, CLIP_STD, centre_cropped, normalised, pixels_of
from ..networks.prompt_embeddings import is_empty
from ..networks.tower import Tower, Whole, memory_of
from ..networks.weight_files import Weights
from ..port import DifferentiableReward, RewardBatch, RewardInfo, Scores
from .network import HEAD, TEXT, ImageRewardNetwork, Sizes, load
from .tokens import VOCABULARY, WordPiece

IMAGE_REWARD = KnownFile(
    name="ImageReward.pt",
    source="THUDM/ImageReward",
    size=1_787_000_000,
    licence="Apache-2.0",
    folder="reward_models/ImageReward",
)


@dataclass(frozen=True)
class ImageReward(DifferentiableReward):
    """ImageReward v1.0 (arXiv 2304.05977): standardised human preference, about -2.3 to 2, 0 for an ordinary image.

    Prompts are read up to 35 tokens. An empty prompt has no score.

    Attributes:
        file: ``ImageReward.pt``, or the same tensors as safetensors.
        vocabulary: BERT's uncased ``vocab.txt``, or a folder with it; looked for beside ``file`` when empty.
        precision: of the image encoder; the text encoder and the head are in float32 always.
        place: where the network computes, and where it is in between.
        batch: images at a time.
    """

    file: str
    vocabulary: str = ""
    precision: Precision = "float32"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(-2.3, 2.1),
            differentiable=True,
            licence=IMAGE_REWARD.licence,
            memory=memory_of(lambda: self._tower.memory),
            spread_floor=0.01,
        )

    def prepare(self, prompts: Sequence[str]) -> None:
        """Reads the vocabulary and the network.

        Raises:
            WeightsError: one of them is missing, broken or another file.
        """
        self._tokenizer(["a prompt"])
        self._tower.check()

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]``; NaN where the prompt is empty."""
        tokens, mask = self._tokenizer(batch.prompts)
        side = self._sizes.side
        device = self.place.device

        def scores(rows: Tensor) -> Tensor:
            pixels = centre_cropped(pixels_of(batch.images[rows].to(device)), side, start=round)
            made: Tensor = network(
                normalised(pixels, CLIP_MEAN, CLIP_STD), tokens[rows].to(device), mask[rows].to(device)
            )
            return made

        with self._tower.at_place() as network:
            found = self._batches.map(scores, torch.arange(len(batch.images)))
        empty = torch.tensor([is_empty(prompt) for prompt in batch.prompts], device=found.device)
        return torch.where(empty, torch.nan, found).to(batch.images.device)

    def __call__(self, batch: RewardBatch) -> Scores:
        empty = any(map(is_empty, batch.prompts))
        return replace(super().__call__(batch), note="the prompt is empty" if empty else "")

    @cached_property
    def _weights(self) -> Weights:
        expect(self.file, (IMAGE_REWARD,))
        return Weights(self.file)

    @cached_property
    def _sizes(self) -> Sizes:
        return Sizes.of(self._weights)

    @cached_property
    def _tokenizer(self) -> WordPiece:
        vocabulary = user_path(self.vocabulary) if self.vocabulary else self._weights.path.parent
        return WordPiece(vocabulary, self._sizes.words)

    @cached_property
    def _tower(self) -> Tower[ImageRewardNetwork]:
        contents = Whole(self._weights, partial(load, self._weights), exact=(TEXT, HEAD))
        return Tower("ImageReward", contents, precision=self.precision, place=self.place)

    @cached_property
    def _batches(self) -> MicroBatches:
        return MicroBatches(self.batch)


__all__ = ["IMAGE_REWARD", "VOCABULARY", "ImageReward"]
