"""Running out of memory, said as what to lower."""

from collections.abc import Mapping
from inspect import unwrap
from traceback import walk_tb
from types import CodeType, MappingProxyType

import torch

from ..config import TrainConfig
from ..evaluate import decode, sample
from ..rollout import rollout
from ..update import update_policy

_BATCHES: Mapping[CodeType, tuple[str, str]] = MappingProxyType(
    {
        unwrap(work).__code__: words
        for work, words in {
            rollout: ("sampling", "rollout_batch"),
            sample: ("sampling", "rollout_batch"),
            decode: ("decoding", "decode_batch"),
            update_policy: ("training", "update_batch"),
        }.items()
    }
)
"""Per function what it does, and the setting that decides how much memory it takes."""


class OutOfMemory(RuntimeError):
    """Memory ran out; the sentence says what to lower."""


def ran_out(error: BaseException) -> bool:
    """Whether ``error`` is an accelerator's or the machine's lack of memory (every backend words it its own way)."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()  # but not those of our own errors, which may quote a reward's
    return type(error) is RuntimeError and ("out of memory" in words or "allocate memory" in words)


def training_advice(error: BaseException, config: TrainConfig, run: object) -> str:
    """How to go on with ``run`` after ``error``, a lack of memory."""
    code = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    work, name = next((_BATCHES[at] for at in reversed(code) if at in _BATCHES), ("training", "update_batch"))
    batch = getattr(config, name)
    if batch == 1:
        return (
            f"out of memory while {work} with {name} = 1, which cannot be lowered: start a new run with smaller images"
            f"{' or --model.gradient-checkpointing' if work == 'training' else ''}"
        )
    return (
        f"out of memory while {work} with {name} = {batch}; the whole iterations are kept: lower the batch and go on "
        f"with mixgrpo resume {run} --{name.replace('_', '-')} {batch // 2}"
    )
