"""The policies an objective works with: the one that is trained, and others by name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .port import LoraState, Velocity

REFERENCE = "reference"
"""The base model, its LoRA off."""
OLD = "old"
"""The weights before the update: of the rollout, unless the objective samples by another policy."""


class Policy:
    """The velocity field of one prompt, under the policy that is trained and under others.

    Calling it gives the policy being trained. Others are named: ``reference``, ``old`` and the lagged ones of the
    objective; they are computed without gradient, in the phase ``reference`` of the report. What was asked last of a
    policy is remembered, so an objective and its regularisers share one forward of each.

    Args:
        current: the velocity field that the model gave, with the weights being trained.
        using: the model's.
        states: LoRA states by name; None is the base model.
    """

    def __init__(
        self,
        current: Velocity,
        with_weights: Callable[[LoraState | None], AbstractContextManager[None]],
        states: Mapping[str, LoraState | None],
        phase: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._current, self._with_weights, self._states, self._phase = current, with_weights, states, phase
        self._last: dict[str | None, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity of the policy being trained, ``[B, *L]``."""
        return self.asked(None, x, sigma)

    def named(self, name: str, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity of the policy ``name``, ``[B, *L]``, without gradient.

        Raises:
            ValueError: nobody keeps a policy of that name.
        """
        return self.asked(name, x, sigma)

    def reference(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity of the base model, ``[B, *L]``."""
        return self.named(REFERENCE, x, sigma)

    def old(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity under the weights before the update, ``[B, *L]``."""
        return self.named(OLD, x, sigma)

    def asked(self, name: str | None, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity ``[g, *L]`` at ``x [g, *L]`` and scalar ``sigma`` of the policy ``name``; None is the one in
        training.
        """
        found = self._last.get(name)
        if found is None or found[0] is not x or found[1] is not sigma:
            v = self._current(x, sigma) if name is None else self._frozen(name, x, sigma)
            found = self._last[name] = (x, sigma, v)
        return found[2]

    def _frozen(self, name: str, x: Tensor, sigma: Tensor) -> Tensor:
        if name not in self._states:
            raise ValueError(
                f"the policy {name!r} was asked for but is not kept (kept are {sorted(self._states)}): name it in the "
                "objective's `needs` or `policies`"
            )
        with self._phase("reference"), torch.no_grad(), self._with_weights(self._states[name]):
            return self._current(x, sigma)
