"""Within which ranges the numbers of a run's settings lie."""

import math
from collections.abc import Callable, Mapping
from typing import Any

_COUNTS = ("iterations", "prompts_per_iteration", "updates", "epochs", "rollout_batch", "decode_batch", "update_batch")
_COUNTS += ("eval_images", "eval_steps", "checkpoint_every", "keep")
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[float], bool]], ...] = (
    (_COUNTS, "at least 1", lambda value: value >= 1),
    (("learning_rate", "shift", "max_grad_norm"), "above 0", lambda value: value > 0),
    (("eval_every", "weight_decay", "spread_floor"), "0 or more", lambda value: value >= 0),
    (("beta1", "beta2", "ema"), "a decay in 0..1 and below 1, such as 0.99", lambda value: 0 <= value < 1),
)


def require_ranges(settings: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a number out of its range. None is "not set"; NaN fails every comparison."""
    for names, words, holds in _RULES:
        for name in names:
            value = settings[name]
            if value is not None and not holds(value):
                raise ValueError(f"{name} must be {words}, found {value}")
    for name, weight in settings["reward_weights"].items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"the weight of reward {name!r} must be a finite number of 0 or more, found {weight}: to punish what a "
                "reward likes, negate the reward"
            )
    for name, floor in settings["spread_floors"].items():
        if not (math.isfinite(floor) and floor >= 0):
            raise ValueError(f"the spread floor of reward {name!r} must be a finite number of 0 or more, found {floor}")
