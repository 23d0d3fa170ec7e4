"""Whether an update moves the policy by too much, too little, or by rounding."""

from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from ..objectives.own_step import AUTO, HIGHEST, LOWEST
from .evidence import RECENT, Evidence, mean_of
from .port import Finding

_MOVES = 1e-6
"""Change of a probability below which a policy stands still."""
_FAR, _STILL = 0.1, 0.001
"""Shares of the velocity that an iteration moves: a policy that breaks is above, one that stands still below."""
_ROUNDING = 1e-3
_CLIPPED, _GRADIENT = 0.3, 30.0
_LATELY, _NEAR = 3, 0.8
"""Iterations after which a rate stays at its limit; the share of what was asked for from which on a move is that."""
_LIMITED = 0.35


def precision(run: Evidence) -> Finding | None:
    """What the first update sees of the rollout's probabilities: rounding only, when all is well."""
    first = run.figures("ratio_first")
    if not first:
        return None
    worst = max(first)
    found = f"before its first step an update sees ratios off by {worst:.1g}"
    if worst <= _ROUNDING:
        return Finding(sign="precision", found=found)
    change = "the update computes other probabilities than the rollout did: use a higher precision or equal batch sizes"
    return Finding(sign="precision", found=found, change=change, gravity=0.9)


def too_large(run: Evidence) -> Finding | None:
    """Clipped ratios, gradients out of proportion, and a reward below its start."""
    clipped = mean_of(run.recent, _clipped)
    most = max((share for report in run.reports if (share := _clipped(report)) is not None), default=None)
    norms = [norm for report in run.reports if (norm := report["update"].get("grad_norm"))]
    growth = max(norms) / median(norms[:5]) if norms else 1.0
    trend = run.training()
    fallen = trend is not None and trend.gain < -0.75 * trend.spread
    told = _alarmed(run, "below its start")
    if clipped is None and not norms:
        return None
    words = [] if most is None else [f"up to {most:.0%} of the ratios are clipped, {clipped:.0%} lately"]
    words += [f"the gradient grew to {growth:.1f} times that of the beginning"] if norms else []
    words += ["the training reward fell far below its start"] if fallen or told else []
    far = any(map(_far, run.reports))
    words += [_moved(run)] if far else []
    signs = (far, most is not None and most > _CLIPPED, growth > _GRADIENT, fallen or told)
    found = ", ".join(words)
    limit = _limit(run, LOWEST)
    if not any(signs):
        change = f"{limit}: take more images per iteration, or a smaller alpha of the LoRA" if limit else ""
        return Finding(sign="step size", found=found, change=change, gravity=_LIMITED if limit else 0.0)
    if run.train.learning_rate == AUTO:
        change = f"{limit or 'the steps came out larger than the trainer asked for'}: take more images per iteration"
    else:
        change = (
            f"the steps are too large: start again with a tenth of the learning rate ({run.train.learning_rate}), with "
            "learning_rate = 'auto', or with fewer updates per iteration"
        )
    change += "; the LoRA named best is from before"
    return Finding(sign="step size", found=found, change=change, gravity=0.97 if fallen or told else 0.8)


def too_small(run: Evidence) -> Finding | None:
    """Ratios that never leave 1."""
    moved, moves = run.figures("ratio_max"), run.figures("move")
    if not (moved or moves) or len(run.reports) < 3:
        return None
    found = _moved(run) if moves else f"an update changes an image's probability by {max(moved):.1g} at most"
    trend, limit = run.trend(), _limit(run, HIGHEST)
    more = f"{limit}: make more updates per iteration, or take a larger alpha of the LoRA"
    if not stands_still(run) or (trend is not None and trend.rises):
        return Finding(sign="movement", found=found, change=more if limit else "", gravity=_LIMITED if limit else 0.0)
    if limit:
        return Finding(sign="movement", found=found, change=more, gravity=0.7)
    own = run.train.learning_rate == AUTO
    change = "the policy hardly moves: " + (
        "the trainer asked for so small steps; look whether the reward fell or images broke, and what it says of that"
        if own
        else f"raise the learning rate ({run.train.learning_rate}) three- to tenfold, make more updates per iteration, "
        "or let the trainer set both: learning_rate = 'auto' and updates = 'auto'"
    )
    return Finding(sign="movement", found=found, change=change, gravity=0.7)


def drift(run: Evidence) -> Finding | None:
    """Whether the distance from the base model runs away, where the objective measures it."""
    now, before = run.figures("kl"), run.figures("kl", before=True)
    if not now:
        return None
    found = f"the distance from the base model (KL) is {fmean(now):.2g}"
    growth = fmean(now) / fmean(before) if before and fmean(before) > 0 else 1.0
    if growth <= 2 or len(run.reports) < 3 * RECENT:
        return Finding(sign="KL", found=found)
    change = "lower the learning rate or raise the KL weight, and look at the samples: images may lose variety"
    words = f"{found}, {growth:.1f} times that of {RECENT} iterations before"
    return Finding(sign="KL", found=words, change=change, gravity=0.78 if growth > 4 else 0.3)


def stands_still(run: Evidence) -> bool:
    """Whether updates hardly change the policy."""
    moved, moves = run.figures("ratio_max"), run.figures("move")
    return max(moves) < _STILL if moves else bool(moved) and max(moved) <= _MOVES


def _far(report: Mapping[str, Any]) -> bool:
    """Whether an iteration moved farther than is well, and farther than noise where the trainer asked for much."""
    update = report["update"]
    return (update.get("move") or 0.0) > max(_FAR, 2 * (update.get("move_target") or 0.0))


def _moved(run: Evidence) -> str:
    """How far an iteration moves the policy, and how far it should where the trainer says that."""
    found = f"an iteration moves the policy by {max(run.figures('move')):.1%} of its velocity at most"
    targets = run.figures("move_target")
    return f"{found}; asked for lately: {targets[-1]:.1%}" if targets else found


def _limit(run: Evidence, limit: float) -> str:
    """That the trainer would set another rate if it might; empty where it may, or moves the policy as it wants to."""
    rates, moves, targets = (run.figures(name)[-_LATELY:] for name in ("rate", "move", "move_target"))
    if len(rates) < _LATELY or not moves or any(rate != limit for rate in rates):
        return ""
    share = fmean(moves) / fmean(targets)
    if limit == HIGHEST:
        words = "the highest that the trainer sets, and moves the policy by less than it asks for"
        return f"the rate is at {limit:g}, {words}" if share < _NEAR else ""
    words = "the lowest that the trainer sets, and moves the policy by more than it asks for"
    return f"the rate is at {limit:g}, {words}" if share > 1 / _NEAR else ""


def _clipped(report: Mapping[str, Any]) -> float | None:
    update = report["update"]
    low, high = update.get("clip_low"), update.get("clip_high")
    return None if low is None or high is None else low + high


def _alarmed(run: Evidence, words: str) -> bool:
    return any(words in alarm["sentence"] for report in run.reports for alarm in report.get("warnings", ()))
