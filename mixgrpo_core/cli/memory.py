"""Running out of memory, said as what to lower."""

from ..settings.config import TrainConfig
from ..training.out_of_memory import too_large


class OutOfMemory(RuntimeError):
    """Memory ran out; the sentence says what to lower."""


def training_advice(error: BaseException, config: TrainConfig, run: object) -> str:
    """How to go on with ``run`` after ``error``, a lack of memory."""
    work, name = too_large(error)
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
