"""Seeds: all randomness of a run is a function of (seed, iteration, place, draw), and none of it is global."""

import hashlib

import torch
from torch import Tensor


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed from any mix of numbers and words: equal keys, equal seed; independent otherwise.

    All randomness of a run is drawn from such seeds, so an iteration can be done again, or resumed, bit for bit.
    """
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of a CPU generator of its own: the same numbers on every device (``FlowModel.noise``)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
