"""Run folders of older versions: what their settings are called now, and what they meant where they say nothing."""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..settings.config import RENAMED

FORMAT = 2
READABLE = (1, FORMAT)
"""Formats of ``config.json``: 1 until credit had stages and the grid was the model's own."""

_DEFAULTS_THEN: Mapping[int, Mapping[str, Any]] = MappingProxyType({1: {"shift": 3.0}})
"""Of settings whose default has changed: what a run of that format means where it does not say."""


def present_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings of a ``config.json`` under their present names; what it does not say was the default then.

    Settings that did not exist yet are left out: they have the default that changes nothing.

    Raises:
        ValueError: there are no settings.
    """
    format_then, train = config.get("format", 1), config.get("train")
    if not isinstance(train, Mapping):
        raise ValueError("config.json has no table of training settings")
    settings = {RENAMED.get(name, name): value for name, value in train.items()}
    if format_then == 1 and str(settings.get("objective", "")).startswith("GuardGRPO"):
        warnings.warn(
            "this run was begun when GRPO-Guard weighed its steps by 1 / h; now it weighs them by 1 / kappa, with mean "
            "1: its next iterations learn at another rate than the ones before",
            RuntimeWarning,
            stacklevel=2,
        )
    return {**_DEFAULTS_THEN.get(format_then, {}), **settings}
