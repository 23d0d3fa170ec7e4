"""Pictures to look at: a few prompts, always the same, each from noise of its own that is never trained on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models.port import Cond, FlowModel
from ..models.sizes import sized
from ..sampling.ode import decode, sample, sample_together
from ..support.seeds import derive_seed
from ..support.sized import size_of

PROMPTS, IMAGES = 4, 4
"""That are shown of a run: of each prompt so many images, of which the gallery has the first."""


def evenly(offered: Sequence[str], most: int) -> list[str]:
    """``most`` of the prompts, spread evenly from the first to the last; all of them where there are no more."""
    few = min(most, len(offered))
    return [offered[place * (len(offered) - 1) // max(1, few - 1)] for place in range(few)]


def shown_prompts(train: Sequence[str], held_out: Sequence[str], most: int = PROMPTS) -> list[str]:
    """Which prompts are shown: held-out ones, ``most`` of them spread evenly, or training ones where none are."""
    return evenly(held_out or train, most)


def shown_images(
    model: FlowModel[Cond],
    prompt: str,
    index: int,
    sigmas: Callable[[FlowModel[Cond]], Tensor],
    *,
    images: int = 1,
    lora_share: float = 1.0,
    batch: int = 16,
    decode_batch: int = 16,
) -> Tensor:
    """Images ``[images, H, W, 3]`` of shown prompt number ``index`` by the plain ODE, at the prompt's size.

    ``sigmas`` gives the grid ``[T + 1]`` of a model at that size. ``lora_share`` is that of `sample`; ``batch`` and
    ``decode_batch`` are rows at a time.
    """
    model = sized(model, prompt)
    noise = model.noise(derive_seed("shown", index), images)
    latents = sample(model, model.encode(prompt), noise, sigmas(model), lora_share=lora_share, batch=batch)
    return decode(model, latents, decode_batch)


def shown_together(
    model: FlowModel[Cond],
    prompts: Sequence[str],
    sigmas: Callable[[FlowModel[Cond]], Tensor],
    *,
    batch: int = 16,
    decode_batch: int = 16,
) -> list[Tensor]:
    """One image ``[H, W, 3]`` of each of the shown prompts, which fill calls of the network together.

    Those of `shown_images`, up to the rounding of larger calls.
    """
    made: dict[int, Tensor] = {}
    sizes = [size_of(prompt) for prompt in prompts]
    for size in dict.fromkeys(sizes):
        places = [place for place, own in enumerate(sizes) if own == size]
        of_size = sized(model, prompts[places[0]])
        latents = sample_together(
            of_size,
            [of_size.encode(prompts[place]) for place in places],
            [of_size.noise(derive_seed("shown", place), 1) for place in places],
            sigmas(of_size),
            batch=batch,
        )
        made.update(zip(places, decode(of_size, torch.cat(latents), decode_batch), strict=True))
    return [made[place] for place in range(len(prompts))]
