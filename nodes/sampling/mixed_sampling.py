"""The mixed ODE-SDE sampler as a function of ComfyUI's kind: it asks a model for the clean latent, step by step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.k_diffusion.sampling import sample_euler
from comfy.model_sampling import CONST, IMG_TO_IMG_FLOW
from comfy.utils import model_trange
from torch import Tensor

from ...mixgrpo_core import DPMpp2M, Euler, StepPlan, deterministic_plan, flash_sigmas, windowed_plan
from ...mixgrpo_core.models.diffusion_flow import level_of
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.schedule import check_sigmas
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.queued import sent
from ...mixgrpo_core.support.seeds import derive_seed, seeded_noise
from ..host.diffusion import in_its_own_scale, noises_of


@dataclass(frozen=True, kw_only=True)
class MixedSampling:
    """SDE steps inside a window, ODE steps elsewhere (MixGRPO, arXiv 2507.21802, sec. 4.1).

    Attributes:
        window: which steps are SDE; it counts the steps of the schedule that the sampler is given. None for none.
        kernel: makes the SDE steps.
        solver: makes the ODE steps.
        tail_ratio: share, above 0 and at most 1, of the steps after the window that is kept; below 1 these are
            solved by DPM-Solver++ 2M (MixGRPO-Flash, sec. 4.2). Nothing is shortened without a window.
        iteration: of training, for a window that moves.
        seed_offset: changes the noise of the window and nothing else.
    """

    window: Window | None
    kernel: Kernel
    solver: Solver = Euler()
    tail_ratio: float = 1.0
    iteration: int = 0
    seed_offset: int = 0

    @torch.no_grad()
    def sample_mixed_ode_sde(
        self,
        model,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict | None = None,
        callback: Callable[[dict], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        """Carry the latents ``x [B, *L]`` along ``sigmas [T + 1]``, with the parameters of every sampler of ComfyUI.

        Raises:
            ValueError: the model is no flow model, the window does not fit, or the schedule does not fall from noise.
        """
        model_sampling = model.inner_model.inner_model.model_sampling
        diffusion = noises_of(model_sampling) is not None
        if not diffusion:
            check_flow(model_sampling)
        if self.window is None and isinstance(self.solver, Euler):  # the host's own, whatever the schedule is
            return sample_euler(model, x, sigmas, extra_args=extra_args, callback=callback, disable=disable)
        scaled = in_its_own_scale if diffusion else _as_it_is
        plan = self.plan(level_of(sigmas) if diffusion else sigmas)
        levels = plan.sigmas.to(x.device)
        x = x * (1 - levels[0]) if diffusion else x
        last = max(plan.stochastic, default=-1)
        extra_args = extra_args or {}
        # x carries noise of this scale (1 but for few models), and what is added must carry the same.
        scale = getattr(model_sampling, "noise_scale", 1.0)
        seed = derive_seed("window noise", extra_args.get("seed") or 0, self.seed_offset)
        solver, state = self.solver, self.solver.init()
        count = len(plan.steps) - (float(sigmas[-1]) > 0)
        places = covered(len(sigmas) - 1, last + 1, count)
        for i in model_trange(count, disable=disable):
            sigma, sigma_next = plan.sigmas[i : i + 2].tolist()
            given, level = scaled(x, levels[i])
            denoised = model(given, level.repeat(len(x)), **extra_args)
            if callback is not None:
                callback({"x": given, "i": places[i], "sigma": level, "sigma_hat": level, "denoised": denoised})
            v = (x - denoised) / levels[i]
            if plan.steps[i].stochastic:
                x = self.kernel(x, v, sigma, sigma_next).sample(scale * batch_noise(seed, i, x))
                solver = DPMpp2M() if i == last and self.tail_ratio < 1 else self.solver
                state = solver.init()  # a history from before the noise belongs to another path
            else:
                x, state = solver.step(x, v, sigma, sigma_next, state)
        return scaled(x, levels[count])[0]

    def plan(self, sigmas: Tensor) -> StepPlan:
        """What each step is, on the CPU. A schedule that stops above 0 is continued by one step to 0, which is the next
        sampler's and not to be run."""
        sigmas = sigmas.detach().float().cpu()
        continued = float(sigmas[-1]) > 0
        whole = torch.cat([sigmas, sigmas.new_zeros(1)]) if continued else sigmas
        check_sigmas(whole)
        if self.window is None:
            return deterministic_plan(whole)
        try:
            window = self.window.at(self.iteration, len(whole) - 1)
        except ValueError as error:
            raise ValueError(f"The window does not fit the schedule of {len(sigmas) - 1} steps. {error}") from error
        tail = shorten(sigmas, window.stop, self.tail_ratio)
        return windowed_plan(torch.cat([tail, whole[len(sigmas) :]]), window)


def _as_it_is(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    return x, sigma


def check_flow(model_sampling) -> None:
    """Raise ValueError unless the model predicts a velocity between noise and image."""
    if not isinstance(model_sampling, CONST) or isinstance(model_sampling, IMG_TO_IMG_FLOW):
        kinds = ", ".join(base.__name__ for base in type(model_sampling).__bases__)
        raise ValueError(
            "The Mixed ODE-SDE Sampler needs a flow model, such as Stable Diffusion 3.5, FLUX, Qwen-Image or Z-Image, "
            f"or SDXL or Stable Diffusion 1.5; the connected model is of another kind ({kinds}). Connect a flow model, "
            "or take another sampler."
        )


def shorten(sigmas: Tensor, stop: int, ratio: float) -> Tensor:
    """``flash_sigmas`` for a schedule that ends anywhere: up to index ``stop`` as given, then fewer steps to its end.

    The tail is linear between given levels, so it may be shortened on a grid moved down to end at 0.
    """
    if stop >= len(sigmas) - 1:
        return sigmas
    end = sigmas[-1]
    grid = flash_sigmas(sigmas - end, stop, ratio) + end
    grid[: stop + 1] = sigmas[: stop + 1]
    return grid if len(grid) < len(sigmas) else sigmas


def covered(steps: int, stop: int, count: int) -> list[int]:
    """For each of ``count`` steps, the last of the schedule's ``steps`` that it covers; from ``stop`` on one may cover
    several. The progress of a shortened run thus ends where that of a full one does."""
    tail = count - stop
    return [*range(stop), *(stop + math.ceil((k + 1) * (steps - stop) / tail) - 1 for k in range(tail))]


def batch_noise(seed: int, step: int, x: Tensor) -> Tensor:
    """Standard normal noise like ``x [B, *L]``: row k is a function of (seed, step, k), the same on every device and in
    every batch."""
    rows = [seeded_noise(derive_seed(seed, step, k), tuple(x.shape[1:])) for k in range(len(x))]
    return sent(torch.stack(rows).to(x.dtype), x.device)
