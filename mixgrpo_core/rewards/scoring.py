"""Calling rewards so that nothing they do can poison a run: what fails is masked, and said."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .port import Reward, RewardBatch, Scores, about


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why samples of a reward were masked."""

    reward: str
    group: int
    masked: int
    reason: str

    def __str__(self) -> str:
        return f"reward {self.reward!r} failed on {self.masked} images of group {self.group}: {self.reason}"


def score(rewards: Mapping[str, Reward], batch: RewardBatch) -> tuple[dict[str, Scores], list[Failure]]:
    """Scores of every reward by name, values on the CPU in float32, and what went wrong.

    A reward that raises, or returns another number of values than images, masks the whole group; NaN and infinite
    values mask their sample. Images with NaN or infinite pixels are masked and shown to no reward: they would spoil
    the other images of a batch, ranks and running statistics. Samples that a reward abstains from are masked, too, and
    no failures. Interrupts (``BaseException``) pass through.
    """
    pixels = batch.images if batch.frames is None else batch.frames
    whole = pixels.isfinite().flatten(1).all(1).cpu()
    seen = batch if bool(whole.all()) else _chosen(batch, whole)
    scores, failures = {}, []
    for name, reward in rewards.items():
        found, reason = _unscored(0, "") if seen is None else _guarded(reward, seen)
        scores[name], reason = (found, reason) if seen is batch else _spread(found, reason, whole)
        masked = int((~scores[name].valid).sum())
        if masked and not scores[name].abstained:
            failures.append(Failure(reward=name, group=batch.group, masked=masked, reason=reason))
    return scores, failures


def _chosen(batch: RewardBatch, whole: Tensor) -> RewardBatch | None:
    """The batch of the images that are ``whole [G]``; None without any."""
    if not bool(whole.any()):
        return None
    return batch.of(whole.cpu().nonzero()[:, 0])


def _spread(found: Scores, reason: str, whole: Tensor) -> tuple[Scores, str]:
    """Scores of the images that are ``whole [G]``, in their places among all."""
    values, valid = torch.zeros(len(whole)), torch.zeros(len(whole), dtype=torch.bool)
    values[whole], valid[whole] = found.values, found.valid
    words = "; ".join(filter(None, ("the image holds NaN or infinity", "" if bool(found.valid.all()) else reason)))
    return Scores(values, valid, words, found.abstained), words


def _guarded(reward: Reward, batch: RewardBatch) -> tuple[Scores, str]:
    count = len(batch.images)
    try:
        with torch.no_grad():
            found = _asked(reward, batch)
        values, valid = found.values.detach().float().cpu(), found.valid.cpu()
    except Exception as error:  # Any failure of a reward, a dead server too, costs its samples and not the run.
        return _unscored(count, f"{type(error).__name__}: {error}")
    if values.shape != (count,) or valid.shape != (count,):
        return _unscored(count, f"expected {count} values, found {list(values.shape)} and valid {list(valid.shape)}")
    finite = torch.isfinite(values)
    valid = valid.bool() & finite
    returned = "" if finite.all() else "it returned NaN or infinity"
    reason = found.note or returned or "the reward marked samples as invalid"
    note = reason if not bool(valid.all()) else ""
    return Scores(torch.where(valid, values, 0.0), valid, note, found.abstained), reason


def _asked(reward: Reward, batch: RewardBatch) -> Scores:
    """Scores of a group; of videos the means over frames, where a frame that does not count masks its video."""
    if batch.frames is None or not about(reward).held_out:  # a person looks at one picture of each
        return as_scores(reward(batch.copy()))  # other rewards, the live view and the guards see these tensors, too
    frames = [replace(batch, images=images, frames=None) for images in batch.frames.unbind(1)]
    found = [as_scores(reward(one.copy())) for one in frames]
    note = next((scores.note for scores in found if scores.note), "")
    values, valid = (torch.stack(each) for each in zip(*((one.values, one.valid) for one in found), strict=True))
    return Scores(values.float().mean(0), valid.all(0), note, any(scores.abstained for scores in found))


def _unscored(count: int, reason: str) -> tuple[Scores, str]:
    return Scores(torch.zeros(count), torch.zeros(count, dtype=torch.bool), reason), reason


def as_scores(found: object) -> Scores:
    """What a reward returned: ``Scores``, or plain values of which the finite ones count."""
    if isinstance(found, Scores):
        return Scores(torch.as_tensor(found.values), torch.as_tensor(found.valid), found.note, found.abstained)
    if isinstance(found, Tensor | np.ndarray | list | tuple):
        return Scores.of(torch.as_tensor(found))
    raise TypeError(f"expected Scores or a list of numbers, found {type(found).__name__}")
