"""Running out of memory: traced to the batch that was too large, which is halved until the work fits."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import unwrap
from traceback import walk_tb
from types import CodeType, MappingProxyType
from typing import Any, TypeVar

import torch

from ..models.port import FlowModel
from ..objectives.update import update_policy
from ..sampling.ode import carried, carried_together, decode_frames
from ..sampling.rollouts import rollout_together
from ..settings.config import TrainConfig
from ..support.micro_batches import ran_out

R = TypeVar("R")
_WORK: Mapping[Callable[..., object], tuple[str, str]] = MappingProxyType(
    {
        rollout_together: ("sampling", "rollout_batch"),
        carried: ("sampling", "rollout_batch"),
        carried_together: ("sampling", "rollout_batch"),
        decode_frames: ("decoding", "decode_batch"),
        update_policy: ("training", "update_batch"),
    }
)
_BATCHES: Mapping[CodeType, tuple[str, str]] = MappingProxyType(
    {unwrap(work).__code__: words for work, words in _WORK.items()}
)
"""Per function what it does, and the setting that decides how much memory it takes."""


class OutOfMemoryElsewhere(MemoryError):
    """Memory ran out on another rank: the batch is halved on all of them."""

    def __init__(self, rank: int, work: str, name: str) -> None:
        super().__init__(f"out of memory on rank {rank} while {work}")
        self.work, self.name = work, name


def too_large(error: BaseException) -> tuple[str, str]:
    """What was being done when memory ran out ("sampling", "decoding", "training"), and the batch that decides it."""
    if isinstance(error, OutOfMemoryElsewhere):
        return error.work, error.name
    code = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    return next((_BATCHES[at] for at in reversed(code) if at in _BATCHES), ("training", "update_batch"))


class OutOfMemory(RuntimeError):
    """Memory ran out with one image at a time.

    Attributes:
        work: what was being done: "sampling", "decoding" or "training".
        name: the batch, which is 1.
    """

    def __init__(self, work: str, name: str) -> None:
        super().__init__(f"out of memory while {work} one image at a time")
        self.work, self.name = work, name


def within_memory(
    attempt: Callable[[TrainConfig], R],
    config: TrainConfig,
    lowered: Callable[[TrainConfig, str], None] = lambda config, words: None,
) -> R:
    """``attempt`` with these settings, and again with half the batch at fault whenever memory runs out.

    What it leaves undone has to be its own to take up: a run resumes from its last whole iteration.

    Args:
        lowered: hears the settings of the next attempt, and in words what was lowered, when the failed one is gone.

    Raises:
        OutOfMemory: the batch at fault is 1.
    """
    while True:
        try:
            return attempt(config)
        except Exception as error:
            if not ran_out(error):
                raise
            work, name = too_large(error)
            batch = getattr(config, name)
            if batch == 1:
                raise OutOfMemory(work, name) from error
        # outside of the handler, which holds the failed call's tensors
        config = replace(config, **{name: batch // 2})
        _empty_caches()
        lowered(config, f"{name} {batch} did not fit while {work}, {batch // 2} is tried")


def begun_anew(
    attempt: Callable[[int], R],
    model: FlowModel[Any],
    batch: int,
    work: str,
    lowered: Callable[[str], None] = lambda words: None,
) -> R:
    """``attempt`` with so many images at a time, and from its beginning with half of them whenever memory runs out.

    The model's LoRA is then what it was before. For what is no run: a run resumes, see `within_memory`.

    Args:
        work: what it is, as in "out of memory while training".
        lowered: hears in words what was lowered, when the failed attempt is gone.

    Raises:
        OutOfMemory: with one image, too.
    """
    start = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    while True:
        try:
            return attempt(batch)
        except Exception as error:
            if not ran_out(error):
                raise
            if batch == 1:
                raise OutOfMemory(work, "batch") from error
        batch //= 2
        model.load_lora_state(start)
        _empty_caches()
        lowered(f"out of memory while {work}, begun anew with {batch} images at a time")


def _empty_caches() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
