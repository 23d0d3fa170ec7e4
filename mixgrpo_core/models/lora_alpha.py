"""How strong a LoRA is: alpha by alpha, or by the settings of peft, with its patterns."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .lora_names import LoraFileError

ALPHA = ".alpha"
_DEFAULT = 8  # peft's own, where its settings say none
_TOO_MUCH = re.compile(r"\)[*+?{]|\{|\\[0-9]|\(\?")
"""Of an expression out of a file: what may take for ever on a name."""


@dataclass(frozen=True, kw_only=True)
class PeftSettings:
    """What peft's settings say of strength.

    Attributes:
        alpha: of layers that no pattern names.
        patterns: alpha by an expression that a layer's name ends with.
        rank_stabilised: the factor is ``alpha / sqrt(rank)``.
    """

    alpha: float
    patterns: Mapping[str, float]
    rank_stabilised: bool

    @classmethod
    def read(cls, settings: Mapping[str, object], prefix: str, where: str) -> "PeftSettings | None":
        """From a dictionary, whose keys may begin with ``prefix``; None where it is of other networks alone."""
        own = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
        own = own or {key: value for key, value in settings.items() if "." not in key}
        if not own:
            return None
        patterns = own.get("alpha_pattern") or {}
        if not isinstance(patterns, Mapping):
            raise LoraFileError(f"expected a table alpha_pattern in the settings of {where}, found {patterns!r:.80}")
        for kind in ("use_dora", "lora_bias"):
            if own.get(kind):
                raise LoraFileError(
                    f"{where} was trained with {kind}, which A and B alone do not hold: merge it into the model and "
                    "start a new LoRA from that"
                )
        what = f"alpha_pattern of {where}"
        return cls(
            alpha=_number(own.get("lora_alpha", _DEFAULT), f"lora_alpha of {where}"),
            patterns={_safe(key, where): _number(value, what) for key, value in patterns.items()},
            rank_stabilised=bool(own.get("use_rslora")),
        )

    def scale(self, layer: str, rank: int) -> float:
        """The factor of ``B @ A``, as peft picks it: the first pattern that fits the end of the layer's name."""
        fitting = (alpha for key, alpha in self.patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
        return next(fitting, self.alpha) / (math.sqrt(rank) if self.rank_stabilised else rank)


def alphas_of(tensors: Mapping[str, Tensor], where: str) -> dict[str, float]:
    """The alpha of each layer that has a tensor for it."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(ALPHA):
            if tensor.numel() != 1:
                raise LoraFileError(f"expected one number as {name} in {where}, found shape {list(tensor.shape)}")
            found[name.removesuffix(ALPHA)] = float(tensor)
    return found


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LoraFileError(
            f"expected a finite number as {what}, found {value!r:.80}: the LoRA's strength is not known"
        )
    return float(value)


def _safe(pattern: str, where: str) -> str:
    """An expression that is linear or nearly so on a name. Raises for others: a file may hold anything."""
    try:
        re.compile(pattern)
        simple = len(pattern) <= 300 and not _TOO_MUCH.search(pattern) and sum(map(pattern.count, "*+")) <= 2
    except re.error:
        simple = False
    if not simple:
        raise LoraFileError(
            f"alpha_pattern of {where} holds the expression {pattern!r:.80}, which is too intricate to be read: write "
            "the layers' names there"
        )
    return pattern
