"""The grids of rollouts: the run's, and those of prompts with a size of their own."""

from collections.abc import Sequence

from torch import Tensor

from ..models.port import FlowModel
from ..models.sizes import sized
from ..objectives.pieces import StepNumbers
from ..settings.config import TrainConfig
from ..support.sized import Size, size_of


class RolledGrids:
    """Sigmas by the size of images, each made once.

    Attributes:
        sigmas: the run's own.
        candidates: by size, of its grid, what `UpdateSettings.of_sizes` holds; of the sizes that were asked for.
    """

    def __init__(self, model: FlowModel, config: TrainConfig) -> None:
        self._model, self._config = model, config
        self.sigmas = config.sigmas(model)
        self._of_sizes: dict[Size, Tensor] = {}
        self.candidates: dict[Size, Sequence[StepNumbers]] = {}

    def of(self, prompt: str) -> Tensor:
        """The sigmas ``[T + 1]`` of a prompt's rollout."""
        size = size_of(prompt)
        if size is None:
            return self.sigmas
        if size not in self._of_sizes:
            made = self._config.sigmas(sized(self._model, prompt))
            self._of_sizes[size], self.candidates[size] = made, self._config.updating(made).candidates
        return self._of_sizes[size]
