"""What is proven of a velocity and its gradient before a run, in every home: that a training would learn what is right.

    the same velocity twice, and with a gradient as without, up to rounding: the first ratio is then 1
    two prompts give two velocities
    the LoRA changes it, and a gradient reaches each kind of layer with the LoRA, and every layer that has a say
    it is the slope of the velocity along itself, by differences

A network may let through a gradient that is wrong without a word (experts that infer under ``no_grad``), and a LoRA
that no layer uses learns nothing.
"""

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from ..support.quoting import listed
from .lora_names import UP
from .port import LoraState, Velocity

SIGMA = 0.5
_SAME = {False: 1e-4, True: 2e-2}  # kernels for a gradient may round otherwise
_LARGEST = 0.3  # that the velocity is moved by, in its own size
_TRIES = 14  # each with half of the step before
_AGREES = {False: 0.04, True: 0.1}  # shares of the slope, in float32 and below
_KNOWN = {False: 0.06, True: 0.15}
_STIRRED = 0.1  # what is added to second matrices, in deviations
_CERTAIN = 10.0  # times what the same question differs by


class Trained(Protocol):
    """The LoRA's half of the model port, which is put to the proof."""

    def parameters(self) -> Iterable[Parameter]:
        """See the model port."""
        ...

    def lora_state(self) -> LoraState:
        """See the model port."""
        ...

    def with_weights(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """See the model port."""
        ...


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A velocity on its trial; every step raises ``ValueError``, in one sentence, where it fails.

    Gradients are left on the LoRA's tensors, whose values stay as they are.

    Attributes:
        model: whose LoRA is trained.
        name: what the model is called.
        low_precision: whether the network computes in fewer bits than float32.
        velocity: its field, with gradients on.
        x: ``[1, *L]``.
        prompts: how many conditionings the field has that must be told apart: 1 or 2.
    """

    model: Trained
    name: str
    low_precision: bool
    velocity: Velocity
    x: Tensor
    prompts: int

    def whole(self) -> None:
        """All of it."""
        direction, step = self.values_and_reach()
        self._require_slope(direction, step)

    def values_and_reach(self) -> tuple[dict[str, Tensor], float]:
        """All but the slope, for velocities in stairs, which have none.

        Returns:
            the gradient's direction in each layer, and a step along it that moves the velocity too far.
        """
        with torch.no_grad():
            v, again = self._asked(), self._asked()
            self._require_values(v, again)
        noise = float((again - v).norm())
        self._require_bound(v, noise)
        found = self._asked()
        if not self._same(found.detach(), v):
            raise ValueError(
                f"{self.name} gives another velocity where a gradient is wanted, so the first ratio would not be 1: "
                "take away what makes its answers faster, or load it in float32"
            )
        drawn = torch.randn(v.shape, generator=torch.Generator().manual_seed(0)).to(v.device)
        gradient = self._gradient(found, drawn)
        self._require_reach(gradient)
        self._require_idle(gradient, v, noise)
        steep = sum(float(each.norm()) for each in gradient.values()) / math.sqrt(len(gradient) * v.numel())
        # every layer has a say
        return {key: each / each.norm() for key, each in gradient.items()}, _LARGEST * float(v.norm()) / steep

    def _asked(self, rows: Tensor | None = None) -> Tensor:
        return self.velocity(self.x, torch.tensor(SIGMA), rows).float()

    def _same(self, one: Tensor, other: Tensor) -> bool:
        return float((one - other).norm()) <= _SAME[self.low_precision] * float(other.norm())

    def _require_values(self, v: Tensor, again: Tensor) -> None:
        if not bool(v.isfinite().all()):
            raise ValueError(f"expected numbers out of {self.name}, found NaN or infinity: load it in float32")
        if not self._same(again, v):
            raise ValueError(
                f"{self.name} gives another velocity for the same question: it keeps something of earlier calls, or "
                "draws at random, and cannot be trained"
            )
        if self.prompts > 1 and torch.equal(v, self._asked(torch.tensor([1]))):
            raise ValueError(
                f"{self.name} gives two prompts the same velocity: it does not read its prompts. Get it again, with "
                "the text encoders that belong to it"
            )

    def _gradient(self, v: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Of the weighted sum of a velocity by the LoRA's second matrices, the only ones that a fresh LoRA moves by."""
        if not v.requires_grad:
            raise ValueError(
                f"no gradient reaches the LoRA of {self.name}: something in this network, or the way that its "
                "weights are quantised, lets none through. Load it with other weights"
            )
        parameters = list(self.model.parameters())
        for parameter in parameters:
            parameter.grad = None
        (v * weights).sum().backward()
        own = zip(self.model.lora_state(), parameters, strict=True)
        return {key: p.grad.clone() for key, p in own if key.endswith(UP) and p.grad is not None and bool(p.grad.any())}

    def _moved(self, keys: Sequence[str], v: Tensor) -> float:
        """How far from ``v`` the velocity is with some of the second matrices stirred."""
        state, draw = dict(self.model.lora_state()), torch.Generator().manual_seed(1)
        for key in keys:
            state[key] = state[key] + _STIRRED * torch.randn(state[key].shape, generator=draw).to(state[key].device)
        with torch.no_grad(), self.model.with_weights(state):
            return float((self._asked() - v).norm())

    def _require_bound(self, v: Tensor, noise: float) -> None:
        layers = [key for key in self.model.lora_state() if key.endswith(UP)]
        if self._moved(layers, v) <= _CERTAIN * noise:
            raise ValueError(
                f"expected a LoRA that changes the velocity of {self.name}, found that none of its {len(layers)} "
                "layers does: it binds nothing and would learn nothing. Choose other layers, or take away what "
                "replaces them"
            )

    def _require_reach(self, gradient: dict[str, Tensor]) -> None:
        """Every kind of layer learns in one block at least: in the last ones, the text's side never does."""
        reached = {_kind(key) for key in gradient}
        bare = sorted({_kind(key) for key in self.model.lora_state() if key.endswith(UP)} - reached)
        if bare:
            raise ValueError(
                f"no gradient reaches the LoRA on {listed(bare)} of {self.name}, in any block: these layers are not "
                "asked, or what is behind them lets no gradient through, and they would learn nothing"
            )

    def _require_idle(self, gradient: dict[str, Tensor], v: Tensor, noise: float) -> None:
        """Layers without a gradient have no say either; ``noise`` is what the same question differs by."""
        bare = [key for key in self.model.lora_state() if key.endswith(UP) and key not in gradient]
        if bare and not self._moved(bare, v) <= _CERTAIN * noise:
            raise ValueError(
                f"expected a gradient for every layer of {self.name} that changes its velocity, found none for some of "
                f"{listed([key.removesuffix(UP) for key in bare])}: something behind them lets no gradient through, "
                "and they would learn nothing"
            )

    def _require_slope(self, direction: dict[str, Tensor], step: float) -> None:
        """Along ``direction`` the velocity changes as its gradient says. What is weighed is that change itself, so that
        the rounding of a low precision is small beside it.

        Args:
            step: one that moves the velocity too far; it is halved until a straight line describes the way.
        """
        start, size = self.model.lora_state(), math.sqrt(len(direction))

        def change(step: float) -> Tensor:
            """Of the velocity, for each unit of the direction."""
            ends = []
            for way in (step / size, -step / size):
                moved = {
                    key: tensor + way * direction[key] if key in direction else tensor for key, tensor in start.items()
                }
                with torch.no_grad(), self.model.with_weights(moved):
                    ends.append(self._asked())
            return (ends[0] - ends[1]) / (2 * step)

        with torch.no_grad():
            most = _LARGEST * float(self._asked().norm())
        agrees, known = _AGREES[self.low_precision], _KNOWN[self.low_precision]
        best = (math.inf, 0.0, 0.0)
        for _ in range(_TRIES):
            whole = change(step)
            if float(whole.norm()) * step <= most:
                weights = whole / whole.norm().clamp(min=1e-30)
                gradient = self._gradient(self._asked(), weights)
                slope = sum(
                    float((each.double() * direction[key]).sum()) for key, each in gradient.items() if key in direction
                )
                slope /= size
                half = float((change(step / 2).double() * weights).sum())
                unknown = abs(float(whole.norm()) - half)  # what a straight line leaves out
                if abs(half - slope) <= abs(half) * agrees + unknown / 2 and unknown <= abs(half) * known:
                    return
                best = min(best, (unknown / max(abs(half), 1e-30), slope, half))
            step /= 2
        raise ValueError(
            f"the gradient through {self.name} is not the slope of what it computes (the gradient says "
            f"{best[1]:.3g}, differences {best[2]:.3g}): something in this network or its precision bends it, and a "
            "training would go astray; load it in another precision, or take away what lies on it"
        )


def _kind(key: str) -> str:
    """A layer's name in every block."""
    return re.sub(r"\d+", "N", key.removesuffix(UP))
