"""The clipped policy loss, the ratio normalisation of GRPO-Guard, and the KL term in velocity space.

All log-probs are means over the D latent elements of full Gaussian densities (`Gaussian.log_prob`), so a ratio here is
the D-th root of the ratio of the joint densities, and clip ranges are small: see `default_clip`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.kernels import working

ClipRange = float | tuple[float, float]
"""One number for both sides, or (low, high): ratios count within 1 - low .. 1 + high."""


@dataclass(frozen=True, eq=False)
class PolicyLoss:
    """A loss and what it was made of; all but the loss are detached.

    Attributes:
        loss: scalar to minimise.
        ratio: exp(log_prob - old_log_prob), in the shape of the log-probs.
        clip_fraction: share of ratios outside the clip range, whatever the sign of their advantage; scalar.
        clip_fraction_low: share below 1 - low.
        clip_fraction_high: share above 1 + high.
    """

    loss: Tensor
    ratio: Tensor
    clip_fraction: Tensor
    clip_fraction_low: Tensor
    clip_fraction_high: Tensor


def clipped_policy_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip: ClipRange,
    adv_clip: float = 5.0,
) -> PolicyLoss:
    """``mean(-min(A r, A clip(r, 1 - low, 1 + high)))``, ``r = exp(log_prob - old_log_prob)`` (PPO, arXiv 1707.06347).

    Where clipping makes the objective flat (A > 0 and r > 1 + high, or A < 0 and r < 1 - low) the gradient is exactly
    0.

    Args:
        log_prob: shape [B] (mean over the latent elements), or elementwise [B, *L]; carries the gradient.
        old_log_prob: same shape; from the rollout.
        advantage: [B], or any shape that is a beginning of log_prob's ([B] weighs every element of an image alike), or
            one with as many dimensions that broadcasts; clamped to +-adv_clip.
        clip: c for (c, c), or (low, high), both > 0 (infinity does not clip). In units of the **mean** log-prob:
            `default_clip` gives the scale for a latent size.
        adv_clip: > 0.

    Returns:
        PolicyLoss, in at least float32.

    Raises:
        ValueError: a range that is not above 0, two shapes of log-probs, or an advantage that does not broadcast.
    """
    low, high = as_range(clip)
    if not adv_clip > 0:
        raise ValueError(f"adv_clip must be > 0, found {adv_clip!r}.")
    if log_prob.shape != old_log_prob.shape:
        raise ValueError(
            f"log_prob and old_log_prob must have one shape, found {tuple(log_prob.shape)} and "
            f"{tuple(old_log_prob.shape)}."
        )
    advantage = aligned(working(advantage), log_prob.shape).clamp(-adv_clip, adv_clip)
    ratio = (working(log_prob) - working(old_log_prob)).exp()
    loss = -torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - low, 1 + high)).mean()
    ratio = ratio.detach()
    below, above = (ratio < 1 - low).float().mean(), (ratio > 1 + high).float().mean()
    return PolicyLoss(loss, ratio, below + above, below, above)


def default_clip(latent_elements: int) -> float:
    """A clip range for the mean log-prob of a latent of D elements: ``0.036 / sqrt(D)``.

    The log-ratio of one image is the mean over D elements of ``z delta / std - delta^2 / (2 std^2)``, where delta is
    the change of the mean and z the rollout's noise. At an equal change per element in units of std, its spread over
    images is (delta / std) / sqrt(D): the range that clips the same share of images shrinks as 1 / sqrt(D). This gives
    1e-4, the published range, at D = 129600 (FLUX at 720 x 720: 16 x 90 x 90), and 1.1e-3 at D = 1024. It holds for
    every kernel here, since each is scored by its full density, in units of its own std; ranges published for Flow-CPS
    (1e-5) belong to a density without 1 / (2 std^2) and do not carry over.

    The other part of the log-ratio, ``-delta^2 / (2 std^2)``, is common to all images and does not shrink with D. At
    the change that spreads the log-ratio to this range (0.036 std per element) it is 6.5e-4, more than the range itself
    from D = 3100 on: in large latents it is what meets the lower side first. `normalised_log_ratio` is free of it.

    Args:
        latent_elements: D >= 1, the elements of one image's latent.

    Raises:
        ValueError: D is below 1.
    """
    if latent_elements < 1:
        raise ValueError(f"latent_elements must be >= 1, found {latent_elements!r}.")
    return 0.036 / math.sqrt(latent_elements)


def normalised_log_ratio(
    log_prob: Tensor, old_log_prob: Tensor, mean: Tensor, old_mean: Tensor, std: Tensor | float
) -> Tensor:
    """RatioNorm of GRPO-Guard (arXiv 2510.22319): ``[(log_prob - old_log_prob) + mean(d^2) / (2 std^2)] std``.

    Here d = mean - old_mean. For a sample x = old_mean + std z it equals ``mean(z d)``: its expectation over the
    rollout is 0 (that of the plain log-ratio is ``-mean(d^2) / (2 std^2)``) and the step's noise scale is gone from it.
    Use it in the place of log_prob - old_log_prob; its clip range is in units of the latent, not of std.

    Args:
        log_prob, old_log_prob: shape [B], means over the latent elements.
        mean, old_mean: shape [B, *L], means of the step's Gaussian under the new and the old policy.
        std: of the step: a number, one element, or one element per image.

    Returns:
        Shape [B], at least float32; the gradient flows through log_prob and mean.
    """
    if mean.shape != old_mean.shape or mean.shape[:1] != log_prob.shape or log_prob.shape != old_log_prob.shape:
        raise ValueError(
            f"Expected log-probs of shape [B] and means of shape [B, *L], found {tuple(log_prob.shape)}, "
            f"{tuple(old_log_prob.shape)}, {tuple(mean.shape)} and {tuple(old_mean.shape)}."
        )
    std = torch.as_tensor(std, device=mean.device).flatten()  # [1] or [B], never [B, 1, 1, 1] against [B]
    if len(std) not in (1, len(log_prob)):
        raise ValueError(f"std must hold 1 or {len(log_prob)} elements, found {len(std)}.")
    shift = _mean_square(mean, old_mean)
    return (working(log_prob) - working(old_log_prob) + shift / (2 * std**2)) * std


def velocity_kl(v: Tensor, v_ref: Tensor) -> Tensor:
    """Mean squared difference of two velocities [B, *L] over the latent elements, shape [B].

    A kernel's mean is linear in v with slope kappa (`Kernel.sensitivity`), so the KL divergence of its Gaussians, mean
    per latent element, is exactly ``kappa^2 / (2 std^2)`` times this. Leaving that factor out weighs all steps alike
    and keeps the term defined on deterministic steps.
    """
    if v.shape != v_ref.shape:
        raise ValueError(f"v and v_ref must have one shape, found {tuple(v.shape)} and {tuple(v_ref.shape)}.")
    return _mean_square(v, v_ref)


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    """``mean((a - b)^2)`` over all but the first dimension, shape [B]."""
    squares = (working(a) - working(b)) ** 2
    return squares.flatten(1).mean(1) if squares.dim() > 1 else squares


def as_range(clip: ClipRange) -> tuple[float, float]:
    """(low, high) of a clip range; ValueError unless both are above 0."""
    low, high = clip if isinstance(clip, (tuple, list)) and len(clip) == 2 else (clip, clip)
    if isinstance(low, (tuple, list)) or not (low > 0 and high > 0):
        raise ValueError(
            f"clip must be c or (low, high) with both > 0 (ratios stay in 1 - low .. 1 + high), found {clip!r}."
        )
    return float(low), float(high)


def aligned(advantage: Tensor, shape: torch.Size) -> Tensor:
    """Give `advantage` trailing dimensions of 1, so that its first ones meet the first ones of `shape`."""
    found = advantage.reshape(advantage.shape + (1,) * (len(shape) - advantage.dim()))
    if found.dim() != len(shape) or any(a not in (1, n) for a, n in zip(found.shape, shape, strict=True)):
        raise ValueError(
            f"advantage must fit the first dimensions of log_prob, found {tuple(advantage.shape)} for {tuple(shape)}."
        )
    return found
