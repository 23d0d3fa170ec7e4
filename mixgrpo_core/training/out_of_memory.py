"""Running out of memory, traced to the batch that was too large."""

from collections.abc import Callable, Mapping
from inspect import unwrap
from traceback import walk_tb
from types import CodeType, MappingProxyType

from ..objectives.update import update_policy
from ..sampling.ode import decode, sample
from ..sampling.rollouts import rollout

_WORK: Mapping[Callable[..., object], tuple[str, str]] = MappingProxyType(
    {
        rollout: ("sampling", "rollout_batch"),
        sample: ("sampling", "rollout_batch"),
        decode: ("decoding", "decode_batch"),
        update_policy: ("training", "update_batch"),
    }
)
_BATCHES: Mapping[CodeType, tuple[str, str]] = MappingProxyType(
    {unwrap(work).__code__: words for work, words in _WORK.items()}
)
"""Per function what it does, and the setting that decides how much memory it takes."""


def too_large(error: BaseException) -> tuple[str, str]:
    """What was being done when memory ran out ("sampling", "decoding", "training"), and the batch that decides it."""
    code = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    return next((_BATCHES[at] for at in reversed(code) if at in _BATCHES), ("training", "update_batch"))
