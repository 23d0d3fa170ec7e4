"""What has a sigma grid: a model, or the usual one where no model is at hand."""

from typing import Protocol

import torch

from ..sampling.schedule import flow_sigmas


class Gridded(Protocol):
    """What has a sigma grid of its own: a model (`FlowModel.grid`)."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``."""
        ...


class UsualGrid:
    """The grid of a shift of 3, as of Stable Diffusion 3: for drawings and costs where no model is at hand."""

    def grid(self, steps: int) -> torch.Tensor:
        """Sigmas ``[steps + 1]``."""
        return flow_sigmas(steps, 3.0)


USUAL = UsualGrid()
