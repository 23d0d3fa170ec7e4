"""Models that stand side by side: each is loaded in its turn, and gone from memory before the next one comes."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..evaluation.held_out import Evaluation, HeldOut, Prompted, evaluate
from ..models.sizes import of_sizes
from ..rewards.port import Context, Reward
from ..settings.grids import grid_of
from ..settings.pictures import FileContexts
from .model_config import ModelConfig
from .pictures import check_counts, loaded, with_lora


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How images are made: plain ODE sampling, on the model's own grid where ``shift`` is None."""

    steps: int
    shift: float | None
    images: int
    batch: int

    def __post_init__(self) -> None:
        check_counts(self.steps, self.shift, self.images, self.batch)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those compared: what it is called, its model, the share of the steps with its LoRA on."""

    name: str
    model: ModelConfig
    share: float


def side(model: ModelConfig, lora: str | None, share: float = 1.0) -> Side:
    """The model with the LoRA file ``lora``, which is read; the base model without one."""
    model = with_lora(model, lora)
    if lora is None:
        return Side(name="base model", model=model, share=0.0)
    name = Path(lora).stem if share == 1 else f"{Path(lora).stem}, first {share:.0%} of the steps"
    return Side(name=name, model=model, share=share)


def evaluated(
    one: Side,
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    how: Drawing,
    on_prompt: Callable[[int, Tensor], None],
) -> Evaluation:
    """Sample and score one side; its model is gone from memory afterwards. See `evaluate` for ``on_prompt``.

    Each side is scored alone: of thousands of prompts no latents are kept until the next one is drawn.
    """
    model, contexts = loaded(one.model, prompts, how.steps), FileContexts(prompts)
    held_out = HeldOut(
        prompts=[
            Prompted(prompt=prompt, cond=model.encode(prompt), context=contexts.get(prompt, Context()))
            for prompt in prompts
        ],
        sigmas=grid_of(model, how.steps, how.shift),
        of_sizes=of_sizes(model, prompts, lambda sized: grid_of(sized, how.steps, how.shift)),
        images_per_prompt=how.images,
        batch=how.batch,
        decode_batch=how.batch,
    )
    found = evaluate(model, held_out, rewards, lora_share=one.share, on_prompt=on_prompt)
    del model
    freed()
    return found


def freed() -> None:
    """Let go of a model that nobody holds: its hooks point back at it, so it would stay until the next one is there."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
