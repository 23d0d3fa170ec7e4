"""Seeds: all randomness of a run is a function of (seed, iteration, place, draw), and none of it is global."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from .queued import sent


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed from any mix of numbers and words: equal keys, equal seed; independent otherwise.

    All randomness of a run is drawn from such seeds, so an iteration can be done again, or resumed, bit for bit.
    """
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derive_seeds(keys: tuple[int | str, ...], last: Iterable[str]) -> list[int]:
    """``derive_seed(*keys, word)`` for each word of ``last`` (with one key or more): there may be millions."""
    begin = repr((*keys, "")).removesuffix("'')").encode()
    first, number = hashlib.blake2b(begin, digest_size=8), int.from_bytes
    found = []
    for word in last:
        digest = first.copy()
        digest.update(f"{word!r})".encode())
        found.append(number(digest.digest(), "little") >> 1)
    return found


def seeded_noise(seed: int, shape: tuple[int, ...], device: torch.device = torch.device("cpu")) -> Tensor:  # noqa: B008
    """Standard normal noise of a CPU generator of its own: the same numbers on every device (``FlowModel.noise``).

    A GPU does what it was asked for before while the noise is drawn, and is not waited for.
    """
    return sent(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), device)
