"""When a taste is too unsure of a group to judge it, and which of its images a person is shown."""

import torch
from torch import Tensor


def confidence(logits: Tensor) -> float:
    """How much of the spread within a group the members of the ensemble agree on, 0 .. 1.

    ``v / (v + u)`` of logits ``[E, G]`` less each member's mean over the group: ``v`` is the variance over the images
    of the members' mean, ``u`` the mean over the images of the members' variance.
    """
    centred = logits - logits.mean(1, keepdim=True)
    agreed, unsure = centred.mean(0).square().mean(), centred.var(0, unbiased=False).mean()
    total = float(agreed + unsure)
    return float(agreed) / total if total > 0 else 0.0


def telling(logits: Tensor, count: int) -> list[int]:
    """``count`` images of a group of logits ``[E, G]``, in order: what to ask a person about.

    One after the other, each the image whose vote leaves least doubt about the whole group, those before it being
    known: the members' covariance, a vote being known up to the noise of a logistic choice. So it is images that the
    members are unsure of and that tell most about others, and no two that tell the same.
    """
    centred = (logits - logits.mean(1, keepdim=True)).double()
    centred = centred - centred.mean(0)
    covariance = centred.T @ centred / max(1, len(centred) - 1)
    noise = torch.pi**2 / 3
    chosen: list[int] = []
    for _ in range(min(count, logits.shape[1])):
        gain = covariance.square().sum(0) / (covariance.diagonal() + noise)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        column = covariance[:, best]
        covariance = covariance - column[:, None] * column[None] / (column[best] + noise)
    return sorted(chosen)
