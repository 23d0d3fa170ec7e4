"""A velocity from inside of the host's sampling call: a sampler of its own that hands out the conditioned network."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...mixgrpo_core.models.port import R, Velocity
from ...mixgrpo_core.support.queued import scalar_on, sent
from .stacked import Prepared, stacked

ROLES = ("positive", "negative")


class Inside(comfy.samplers.Sampler, Generic[R]):
    """A sampler to the host: calls ``body`` with the loaded, conditioned network and keeps the answer."""

    def __init__(
        self,
        body: Callable[[Velocity], R],
        loaded: AbstractContextManager[None],
        prompts: int,
        scaled: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
    ) -> None:
        self.body, self.loaded, self.prompts, self.scaled = body, loaded, prompts, scaled
        self.result: R

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        prepared = dict(model_wrap.conds)

        def of(role: str, row: int) -> Prepared:
            return prepared[f"{role} {row}" if row else role]

        def asked(x: Tensor, sigma: Tensor) -> Tensor:
            given, level = (x, sigma) if self.scaled is None else self.scaled(x, sigma)
            return (x - model_wrap(given, level.expand(len(x)), **extra_args)) / sigma

        def of_one(x: Tensor, sigma: Tensor, row: int) -> Tensor:
            if self.prompts > 1:
                model_wrap.conds = {role: of(role, row) for role in ROLES}
            return asked(x, sigma)

        def together(rows: Sequence[int]) -> dict[str, Prepared] | None:
            found = {role: stacked([of(role, row) for row in rows]) for role in ROLES}
            whole = {role: one for role, one in found.items() if one is not None}
            return whole if len(whole) == len(found) else None

        def velocity(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma = scalar_on(x.device, sigma, torch.float32)
            if rows is None or self.prompts == 1:
                return of_one(x, sigma, 0)
            numbers = rows.tolist()
            if (conds := together(numbers)) is not None:
                model_wrap.conds = conds
                return asked(x, sigma)
            v = torch.zeros_like(x, dtype=torch.float32)
            for row in sorted(set(numbers)):
                places = [place for place, number in enumerate(numbers) if number == row]
                own = sent(torch.tensor(places), x.device)
                v = v.index_copy(0, own, of_one(x[own], sigma, row).float())
            return v

        try:
            with self.loaded:
                self.result = self.body(velocity)
        finally:
            model_wrap.conds = prepared
        return noise
