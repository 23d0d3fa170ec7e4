"""A scheduler that stands in for a pipeline's own: it hands out one level, keeps what ``step`` is given, and stops.

A flow pipeline of diffusers asks its scheduler for timesteps, calls its network at each of them, and gives ``step`` the
velocity: guidance, packing, sign and time scale are then done. So a call with one timestep is the velocity there.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ...support.levels import even_levels
from ...support.queued import scalar_on

_SETTINGS = frozenset(inspect.signature(FlowMatchEulerDiscreteScheduler.__init__).parameters) - {"self"}


class Enough(Exception):
    """What was asked of a pipeline is known; the rest of its call is not wanted."""


def asked_levels(asked: Tensor, device: str | torch.device | None) -> Tensor:
    """What is asked of a pipeline, a level or none, as float32 ``[1]`` or ``[0]`` where it computes."""
    place = torch.device("cpu" if device is None else device)
    return scalar_on(place, asked, torch.float32).reshape(1) if asked.numel() else torch.empty(0, device=place)


class Probe(FlowMatchEulerDiscreteScheduler):
    """A scheduler with the folder's settings that a `PipelineField` asks.

    Attributes:
        asked: the level of the next call, a scalar; empty for a call without a step. None asks for the grid.
        found: what ``step`` was given, or the grid.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: Tensor | None = None
        self.found: Tensor | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Probe":
        """One with a scheduler's settings, as they stand in a folder; schedulers of other orders say ``flow_shift``."""
        known = {name: value for name, value in settings.items() if name in _SETTINGS}
        if "flow_shift" in settings and settings["flow_shift"] is not None:
            known["shift"] = settings["flow_shift"]
        return cls(**known)

    def take(self) -> Tensor:
        """What was found, once."""
        found, self.found = self.found, None
        if found is None:
            raise RuntimeError("the pipeline ended its call without asking its scheduler for a step")
        return found

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        if self.asked is None:
            if sigmas is None and timesteps is None and num_inference_steps is not None:
                # the scheduler's own default would shift its ends twice
                sigmas = even_levels(num_inference_steps)[:-1].tolist()
            super().set_timesteps(num_inference_steps, device or "cpu", sigmas, mu, timesteps)
            self.found = self.sigmas
            raise Enough
        levels = asked_levels(self.asked.detach(), device)
        self.timesteps = self._heard(levels, mu, shifted=timesteps is None) * self.config["num_train_timesteps"]
        # read by pipelines as numbers: on the CPU
        self.sigmas = torch.cat([asked_levels(self.asked.detach(), "cpu"), torch.zeros(1)])
        self.num_inference_steps = len(levels)
        self._step_index = self._begin_index = None

    def _heard(self, levels: Tensor, mu: float | None, *, shifted: bool) -> Tensor:
        """What the network hears of levels. A pipeline that gives timesteps (CogView4) tells them before the shift."""
        if shifted or mu is None or not self.config["use_dynamic_shifting"]:
            return levels
        factor = mu if self.config["time_shift_type"] == "linear" else torch.tensor(mu).exp()
        return 1 / (1 + factor * (1 / levels - 1))

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return sample

    def step(  # type: ignore[override]  # what else it is given does not matter
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, *rest: Any, **named: Any
    ) -> Any:
        self.found = model_output
        raise Enough
