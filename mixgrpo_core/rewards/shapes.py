"""Rewards of the shapes world, ours: is the drawing what the caption asks for?

    colour = exp(-(d / .35)^2)                     d: RGB distance of the object's mean colour to the wanted one
    shape  = softmax(12 IoU)[wanted] * clamp((IoU[wanted] - .4) / .5, 0, 1)
    reward = (colour + shape) / 2 * whole          `ShapeReward`, graded, what a run learns from
    whole  = exp(-(max(spread - .05, 0) / .15)^2) * share * presence

`whole` is what one figure in one colour earns: `spread` is the deviation of the object's pixels from their mean
colour (a two-coloured object has .3 and more, a clean drawing less than .05), `share` the share of the mask in one
component, `presence` rises with the contrast. `ShapeAdherence` and `ShapeCleanliness` are yes-or-no measures to
report beside the reward: a run that raises the reward and lowers the cleanliness is cheating.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..shapes.captions import COLOURS, SHAPES, Caption
from ..shapes.detector import Detection, detect
from .port import RewardBatch, RewardInfo, Scores, StatelessReward

CLEAN_IOU, CLEAN_DISTANCE, CLEAN_SHARE, CLEAN_SPREAD = 0.8, 0.2, 0.9, 0.12
_SPREAD_FREE, _SPREAD_SCALE = 0.05, 0.15
_COLOUR_SCALE = 0.35
_PRESENCE = (0.15, 0.35)  # contrast at which an object starts to count, and from which it counts in full


def is_clean(found: Detection) -> Tensor:
    """(n,) bool: one whole figure of a known shape in one known colour, whichever was asked for."""
    return (
        found.valid
        & (found.shape_iou.amax(1) > CLEAN_IOU)
        & (found.colour_distance.amin(1) < CLEAN_DISTANCE)
        & (found.share > CLEAN_SHARE)
        & (found.spread < CLEAN_SPREAD)
    )


def _wanted(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Indices (n,) of the colours and (n,) of the shapes that the prompts ask for."""
    captions = [Caption.parse(prompt) for prompt in prompts]
    colours = [COLOURS.index(caption.colour) for caption in captions]
    return torch.tensor(colours), torch.tensor([SHAPES.index(caption.shape) for caption in captions])


def _wholeness(found: Detection) -> Tensor:
    """(n,) in 0..1: one object, one colour, really there."""
    excess = (found.spread - _SPREAD_FREE).clamp(min=0) / _SPREAD_SCALE
    low, high = _PRESENCE
    presence = ((found.contrast - low) / (high - low)).clamp(0, 1)
    return torch.exp(-excess.square()) * found.share * presence


@dataclass(frozen=True)
class _ShapesScorer(StatelessReward):
    """What the three have in common: only shapes captions are accepted."""

    about = RewardInfo(expected=(0.0, 1.0))

    def prepare(self, prompts: Sequence[str]) -> None:
        """Check every prompt.

        Raises:
            ValueError: a prompt is not one of the 160 captions of `mixgrpo_core.shapes.captions`.
        """
        _wanted(prompts)


@dataclass(frozen=True)
class ShapeReward(_ShapesScorer):
    """The graded reward, 0..1; a clean correct drawing scores .9 and more."""

    def __call__(self, batch: RewardBatch) -> Scores:
        found = detect(batch.images)
        colour, shape = _wanted(batch.prompts)
        distance = found.colour_distance.gather(1, colour[:, None])[:, 0]
        iou = found.shape_iou.gather(1, shape[:, None])[:, 0]
        certainty = (12 * found.shape_iou).softmax(1).gather(1, shape[:, None])[:, 0]
        shape_term = certainty * ((iou - 0.4) / 0.5).clamp(0, 1)
        colour_term = torch.exp(-(distance / _COLOUR_SCALE).square())
        return Scores((colour_term + shape_term) / 2 * _wholeness(found), found.valid)


@dataclass(frozen=True)
class ShapeAdherence(_ShapesScorer):
    """1 if the largest object has the colour and the shape that the caption asks for, else 0."""

    def __call__(self, batch: RewardBatch) -> Scores:
        found = detect(batch.images)
        colour, shape = _wanted(batch.prompts)
        right = (found.colour == colour) & (found.shape == shape) & (found.contrast > _PRESENCE[0])
        return Scores(right.float(), found.valid)


@dataclass(frozen=True)
class ShapeCleanliness(_ShapesScorer):
    """1 if the image shows one whole figure in one colour, whichever was asked for, else 0."""

    def __call__(self, batch: RewardBatch) -> Scores:
        found = detect(batch.images)
        return Scores(is_clean(found).float(), found.valid)
