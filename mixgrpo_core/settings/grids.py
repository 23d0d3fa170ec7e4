"""What has a sigma grid: a model, or the usual one where no model is at hand."""

from typing import Protocol

import torch

from ..sampling.schedule import flow_sigmas


class Gridded(Protocol):
    """What has a sigma grid of its own: a model (`FlowModel.grid`)."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``, float32 on the CPU."""
        ...


class UsualGrid:
    """The grid of a shift of 3, as of Stable Diffusion 3: for drawings and costs where no model is at hand."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``, float32 on the CPU."""
        return flow_sigmas(steps, 3.0)


USUAL = UsualGrid()


def grid_of(model: Gridded, steps: int, shift: float | None) -> torch.Tensor:
    """The sigmas ``[steps + 1]`` of a model: its own, or those of ``shift``.

    Raises:
        ValueError: a shift, which begins at pure noise, for a model that knows none (SDXL).
    """
    if shift is None:
        return model.grid(steps)
    first = float(model.grid(steps)[0])
    if first < 1:
        raise ValueError(
            f"expected no shift for this model, found {shift:g}: its noise begins at {first:.3g} and not at 1, and the "
            "levels are its own. Leave shift out (0 on the canvas)"
        )
    return flow_sigmas(steps, shift)
