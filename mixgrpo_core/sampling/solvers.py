"""One deterministic step of the flow ODE ``dx / dsigma = v``, with the solver's memory passed in and out.

Both solvers move x towards an estimate D of the data: ``x' = r x + (1 - r) D`` with ``r = sigma' / sigma``. With
``D = m = x - sigma v`` that is the Euler step ``x - (sigma - sigma') v``. DPM-Solver++ 2M (arXiv 2211.01095, midpoint
form) extrapolates the data prediction in ``lambda = log((1 - sigma) / sigma)``:

    ``D = m + (H / (2 H_prev)) (m - m_prev)``,  ``H = lambda' - lambda``,  ``H_prev = lambda - lambda_prev``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor

from .kernels import step_levels, working

State = TypeVar("State")


class Solver(Protocol[State]):
    """A deterministic step with explicit memory."""

    @abstractmethod
    def init(self) -> State:
        """Memory of a run that begins, or begins anew after a stochastic step."""
        ...

    @abstractmethod
    def step(
        self, x: Tensor, v: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, state: State
    ) -> tuple[Tensor, State]:
        """x at sigma_next, in at least float32, and the memory for the next step.

        Args:
            x: shape [B, *L], at level sigma.
            v: velocity at (x, sigma), same shape.
            sigma, sigma_next: numbers or scalar tensors, 0 <= sigma_next < sigma <= 1.
            state: what `init` or the previous step returned.
        """
        ...


@dataclass(frozen=True)
class Euler:
    """First order: ``x' = x - (sigma - sigma') v``. No memory."""

    label: ClassVar[str] = "Euler"

    def init(self) -> None:
        """Nothing to remember."""
        return

    def step(
        self, x: Tensor, v: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, state: None
    ) -> tuple[Tensor, None]:
        """``x' [B, *L]`` at sigma_next, in at least float32, and no memory."""
        sigma, sigma_next = step_levels(sigma, sigma_next)
        return working(x) - (sigma - sigma_next) * working(v), None


@dataclass(frozen=True, eq=False)
class History:
    """The previous step of DPM-Solver++ 2M: its data prediction m [B, *L] and its level sigma."""

    data: Tensor
    sigma: float


@dataclass(frozen=True)
class DPMpp2M:
    """Second order with one evaluation per step: DPM-Solver++ 2M, midpoint form.

    First order where there is no usable history: in the first step, after a step from sigma = 1 (lambda is -inf there)
    and in the step to sigma = 0. Start from `init` again after a stochastic step: a history on the other side of
    injected noise makes the result worse.
    """

    label: ClassVar[str] = "DPM-Solver++ 2M"
    short_label: ClassVar[str] = "DPM++ 2M"

    def init(self) -> None:
        """No history yet."""
        return

    def step(
        self, x: Tensor, v: Tensor, sigma: Tensor | float, sigma_next: Tensor | float, state: History | None
    ) -> tuple[Tensor, History]:
        """``x' = (s'/s) x + (1 - s'/s) (m + correction)``, ``m = x - s v``, s = sigma, and the history of this step.

        ``x' [B, *L]`` is in at least float32. Raises ``ValueError`` if ``state`` is not from an earlier, noisier step.
        """
        sigma, sigma_next = step_levels(sigma, sigma_next)
        x = working(x)
        data = x - sigma * working(v)
        ratio = sigma_next / sigma
        step = ratio * x + (1 - ratio) * (data + _correction(data, sigma, sigma_next, state))
        return step, History(data, sigma)


def _correction(data: Tensor, sigma: float, sigma_next: float, state: History | None) -> Tensor | float:
    """Second-order term ``(H / (2 H_prev)) (m - m_prev)``, 0 where the history is of no use."""
    if state is None:
        return 0.0
    if state.sigma <= sigma:
        raise ValueError(
            f"The solver's state comes from sigma = {state.sigma!r}, which is not above the present sigma = {sigma!r}; "
            "start every run with a fresh state."
        )
    if state.sigma == 1 or sigma_next == 0:
        return 0.0
    now = _log_snr(sigma)
    gain = (_log_snr(sigma_next) - now) / (2 * (now - _log_snr(state.sigma)))
    return gain * (data - state.data)


def _log_snr(sigma: float) -> float:
    """``lambda = log((1 - sigma) / sigma)`` for 0 < sigma < 1."""
    return math.log1p(-sigma) - math.log(sigma)
