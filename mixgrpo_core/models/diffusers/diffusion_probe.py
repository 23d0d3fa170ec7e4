"""A scheduler that stands in for that of a diffusion model (SDXL, Stable Diffusion 1.5), and makes a flow of it.

The pipeline's loop holds the flow's ``x``; ``scale_model_input`` gives the network what it knows, at the timestep of
that level, and ``step`` turns the prediction, guidance included, into a velocity (`diffusion_flow`). The grid is that
of the folder's own scheduler: its spacing, its Karras levels.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from ...support.queued import scalar_on
from ..diffusion_flow import VELOCITIES, level_of, spread, timestep_of
from .loading import ModelFilesError
from .probe import Enough, asked_levels

_SETTINGS = frozenset(inspect.signature(EulerDiscreteScheduler.__init__).parameters) - {"self"}
_LEAST = 2.0**-24
"""Of the image at the last timestep of a model that is trained down to pure noise: diffusers' own."""


class DiffusionProbe(EulerDiscreteScheduler):
    """A scheduler with the folder's settings that a `PipelineField` asks.

    Attributes:
        asked: the level of the next call, a scalar; empty for a call without a step. None asks for the grid.
        found: what became of what ``step`` was given, or the grid.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: Tensor | None = None
        self.found: Tensor | None = None
        self._own: Any = self
        self._noises = torch.ones(2)

    @classmethod
    def of(cls, settings: Mapping[str, Any], folder: Path) -> "DiffusionProbe":
        """One for the scheduler whose settings stand in ``folder``.

        Raises:
            ModelFilesError: it is none of a diffusion model that is a flow.
        """
        own = _scheduler(settings, folder)
        config = dict(own.config)
        kind = config.get("prediction_type", "epsilon")
        if kind not in VELOCITIES or not isinstance(getattr(own, "alphas_cumprod", None), Tensor):
            raise ModelFilesError(
                f"expected a model that predicts noise (epsilon) or v_prediction in {folder}, found {kind} with "
                f"{type(own).__name__}: it is no flow that is known here. Use another model"
            )
        image = own.alphas_cumprod.double().clamp(min=_LEAST)
        noises = ((1 - image) / image).sqrt()
        if kind == "epsilon" and config.get("rescale_betas_zero_snr"):
            raise ModelFilesError(
                f"expected v_prediction of a model that is trained down to pure noise (rescale_betas_zero_snr) in "
                f"{folder}, found epsilon, which says nothing there: use the model's own scheduler"
            )
        made = cls(**{name: value for name, value in config.items() if name in _SETTINGS})
        made._own, made._noises = own, noises
        return made

    @property
    def init_noise_sigma(self) -> float:
        """The noise as it is drawn; `start_of` gives it its size."""
        return 1.0

    def take(self) -> Tensor:
        """What was found, once."""
        found, self.found = self.found, None
        if found is None:
            raise RuntimeError("the pipeline ended its call without asking its scheduler for a step")
        return found

    def set_timesteps(  # type: ignore[override]  # what else it may be given does not matter
        self, num_inference_steps: int | None = None, device: str | torch.device | None = None, **named: Any
    ) -> None:
        if self.asked is None:
            self.found = self._grid(num_inference_steps or 1)
            raise Enough
        level = asked_levels(self.asked.detach(), "cpu")
        self.timesteps = asked_levels(timestep_of(level, self._noises).float(), device)
        self._step_index = self._begin_index = None

    def _grid(self, steps: int) -> Tensor:
        """The levels of the folder's own scheduler, and 0."""
        self._own.register_to_config(steps_offset=self.config["steps_offset"])  # which older pipelines set to 1
        self._own.set_timesteps(steps)
        noises = getattr(self._own, "sigmas", None)
        if not isinstance(noises, Tensor) or not bool((noises[:-1] > 0).all()):
            noises = self._noises[self._own.timesteps.long().cpu()]
        found = level_of(noises.double().cpu()).unique().flip(0)
        levels = found[found > 0]
        if len(levels) == steps + 1:  # a scheduler that ends at its lowest noise
            levels = levels[:-1]
        if len(levels) != steps or bool(levels.diff().gt(0).any()):
            raise ModelFilesError(
                f"the folder's {type(self._own).__name__} makes {len(levels)} levels for {steps} steps: write an "
                "EulerDiscreteScheduler into its scheduler_config.json"
            )
        return torch.cat([levels, levels.new_zeros(1)]).float()

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        return sample / spread(self._level(sample))

    def step(  # type: ignore[override]  # what else it is given does not matter
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, *rest: Any, **named: Any
    ) -> Any:
        level = self._level(sample)
        if float(self._known) == 1 and self.config["prediction_type"] == "epsilon":
            raise ValueError(
                f"expected a level below 1 for a model that predicts noise (its highest is "
                f"{float(level_of(self._noises[-1])):.3g}), found 1: leave `shift` out, the grid is then the model's"
            )
        self.found = VELOCITIES[self.config["prediction_type"]](model_output, sample, level)
        raise Enough

    @property
    def _known(self) -> Tensor:
        if self.asked is None:
            raise RuntimeError("the pipeline asked for a step without a level")
        return self.asked

    def _level(self, like: Tensor) -> Tensor:
        return scalar_on(like.device, self._known, torch.promote_types(like.dtype, torch.float32))


def _scheduler(settings: Mapping[str, Any], folder: Path) -> Any:
    """The folder's own scheduler, whose class has defaults for what it does not say."""
    name = settings.get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and hasattr(kind, "set_timesteps")):
        raise ModelFilesError(
            f"expected a scheduler of diffusers in {folder}, found {name}, which diffusers {diffusers.__version__} "
            "does not have: write an EulerDiscreteScheduler there"
        )
    try:
        made: Any = kind.from_config(dict(settings))  # type: ignore[attr-defined]  # every scheduler has it
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ModelFilesError(f"the scheduler in {folder} cannot be made of its settings: {error}") from error
    return made
