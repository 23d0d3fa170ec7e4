"""What an image classifier sees as a reward, or as a penalty: nudity, watermarks, drawn or real, and the like.

ImageClassifier("vit-anime-real", label="anime")                        its probability
ImageClassifier("nsfw_image_detection", label="nsfw", threshold=0.5)    0, or less where it is above .5
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches, ran_out
from ...support.setting import require_finite
from ..networks.filling import first_line, of_folder
from ..networks.known_files import KnownFile, expect
from ..networks.places import Placement, Precision, Resident
from ..networks.tower import Tower, Whole, memory_of
from ..networks.weight_files import Weights, WeightsError
from ..port import DifferentiableReward, RewardBatch, RewardInfo
from .image_processor import ImageProcessor

NSFW = KnownFile(
    name="nsfw_image_detection",
    source="Falconsai/nsfw_image_detection (any folder of an image classifier will do)",
    size=343_000_000,
    licence="Apache-2.0",
)
_TRIED = 64
_SHOWN = 20  # labels in an error


@dataclass(frozen=True)
class ImageClassifier(DifferentiableReward):
    """The probability that an image is what ``label`` says, 0 to 1; or how far it exceeds a threshold, as a penalty.
    Ours.

    Attributes:
        folder: of any image classifier of transformers: ``config.json``, ``preprocessor_config.json``, weights.
        label: one of the classifier's.
        threshold: where given, the score is ``-max(0, probability - threshold)``.
        precision: of the network; probabilities are computed in float32.
        place: where the network computes, and where it is in between.
        batch: images at a time.
    """

    folder: str
    label: str
    threshold: float | None = None
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"expected a threshold from 0 to less than 1, found {self.threshold}")

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            expected=(0.0, 1.0) if self.threshold is None else (self.threshold - 1, 0.0),
            differentiable=True,
            licence="that of the classifier's folder",
            memory=self.memory,
            spread_floor=1e-3,
        )

    @property
    def memory(self) -> int:
        """Bytes of the network where it computes; 0 while there is no such folder."""
        return memory_of(lambda: self._tower.memory)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Reads the network, and shows it a grey picture.

        Raises:
            WeightsError: the folder is missing, incomplete, or holds no image classifier that can look at one.
            ValueError: it does not know the label.
        """
        _ = self._processor, self._index
        grey = torch.full((1, _TRIED, _TRIED, 3), 0.5)
        try:
            self.values(RewardBatch(images=grey, prompts=("",)))
        except WeightsError:
            raise
        except Exception as error:
            if ran_out(error):
                raise
            raise WeightsError(
                f"{self.folder} cannot look at a picture ({first_line(error)}): its preprocessor_config.json does not "
                "fit its network, get the folder again"
            ) from error

    def values(self, batch: RewardBatch) -> Tensor:
        """``[G]`` with their gradient."""

        def probabilities(images: Tensor) -> Tensor:
            pixels = self._processor(images.to(self.place.device))
            return _probabilities(network(pixel_values=pixels.to(self._tower.dtype)).logits, self._config)[
                :, self._index
            ]

        with self._tower.at_place() as network:
            found = self._batches.map(probabilities, batch.images).to(batch.images.device)
        return found if self.threshold is None else -(found - self.threshold).clamp(min=0)

    @cached_property
    def _weights(self) -> Weights:
        expect(self.folder, (NSFW,))
        weights = Weights(self.folder)
        if not weights.config:
            raise WeightsError(f"expected a folder with a config.json at {self.folder}, found a file without one")
        return weights

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        path = self._weights.path
        try:
            return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever a configuration's class says of values that are none
            raise WeightsError(f"{path} is no folder that transformers knows ({first_line(error)})") from error

    @cached_property
    def _index(self) -> int:
        """Of the label in the classifier's results."""
        labels = {int(index): str(label) for index, label in self._config.id2label.items()}
        for same in (str, str.casefold):  # as it is written, or else however it is written
            found = [index for index, label in labels.items() if same(label) == same(self.label)]
            if found:
                return found[0]
        shown = ", ".join(list(labels.values())[:_SHOWN]) + (", ..." if len(labels) > _SHOWN else "")
        raise ValueError(f"{self.folder} knows no label {self.label!r}; it knows {shown}")

    @cached_property
    def _processor(self) -> ImageProcessor:
        return ImageProcessor.of(self._weights.path)

    @cached_property
    def _tower(self) -> Tower[nn.Module]:
        contents = Whole(self._weights, partial(_load, self._weights.path))
        return Tower("image classifier", contents, precision=self.precision, place=self.place)

    @cached_property
    def _batches(self) -> MicroBatches:
        return MicroBatches(self.batch)


def _probabilities(logits: Tensor, config: Any) -> Tensor:
    """``[B, labels]``: of one label among all, or of each label on its own where several may hold."""
    several = config.problem_type == "multi_label_classification" or logits.shape[1] == 1
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.sigmoid() if several else logits.softmax(1)


def _load(folder: Path, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModelForImageClassification

    return of_folder(AutoModelForImageClassification, folder, dtype=dtype)
