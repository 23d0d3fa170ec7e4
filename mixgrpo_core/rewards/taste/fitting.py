"""Fitting a taste: a Gaussian prior over linear functions, what people said as likelihood, and an ensemble of fits.

An image is a vector ``z``, its prompt a vector ``t``; a function of both is linear in ``[1, t] x z``. What people say:

    a thumb        P(up) = sigmoid(f)
    a pair         P(the one is liked better) = sigmoid(f_one - f_other)                         (Bradley and Terry)

Each member of the ensemble is the most likely function for votes that are weighed anew (exponentially distributed, by
group) and a prior that is centred on a draw from itself; draws come in pairs of opposite signs, so that they cancel in
the ensemble's mean. Where votes say much the members agree, and elsewhere they differ as the prior does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 30
CLOSE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Said:
    """What people said of ``n`` images.

    Attributes:
        thumbs: ``[n]``, 1 is up, 0 is down, NaN is nothing.
        better, worse: ``[m]``, the images of each pair.
        weights: ``[m]`` of the pairs.
    """

    thumbs: Tensor
    better: Tensor
    worse: Tensor
    weights: Tensor


def most_likely(kernel: Tensor, offset: Tensor, said: Said, weights: Tensor) -> Tensor:
    """Coefficients ``[n]`` of the kernel's columns: the most likely function is ``offset + kernel @ coefficients``.

    Newton's method with step halving; the problem is convex.

    Args:
        kernel: ``[n, n]``, float64.
        offset: ``[n]``, values of the function that the prior is centred on.
        weights: ``[n]`` of the images' votes.
    """
    count = len(kernel)
    known = said.thumbs.isfinite()
    thumbs, thumb_weight = said.thumbs.nan_to_num(0.5), weights * known
    pair_weight = said.weights * weights[said.better]
    incidence = torch.zeros(len(said.better), count, dtype=kernel.dtype)
    rows = torch.arange(len(said.better))
    incidence[rows, said.better], incidence[rows, said.worse] = 1.0, -1.0

    def loss(found: Tensor) -> Tensor:
        f = offset + kernel @ found
        by_thumb = (thumb_weight * (torch.nn.functional.softplus(f) - thumbs * f)).sum()
        by_pair = (pair_weight * torch.nn.functional.softplus(-(incidence @ f))).sum()
        return by_thumb + by_pair + (found @ kernel @ found) / 2

    found = torch.zeros(count, dtype=kernel.dtype)
    value = loss(found)
    for _ in range(STEPS):
        f = offset + kernel @ found
        up, better = f.sigmoid(), (incidence @ f).sigmoid()
        slope = thumb_weight * (up - thumbs) - incidence.T @ (pair_weight * (1 - better))
        curve = torch.diag(thumb_weight * up * (1 - up)) + incidence.T @ (
            (pair_weight * better * (1 - better))[:, None] * incidence
        )
        step = torch.linalg.solve(torch.eye(count, dtype=kernel.dtype) + curve @ kernel, slope + found)
        size = 1.0
        while (new := loss(found - size * step)) > value and size > 1e-4:
            size /= 2
        if new > value:
            break
        found, gain, value = found - size * step, value - new, new
        if gain < CLOSE * max(1.0, float(value)):
            break
    return found
