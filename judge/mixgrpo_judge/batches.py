"""The wire format of rewards elsewhere: a batch of pictures out, a score for each back.

    request    a line of JSON about the batch, then the pixels: [G, H, W, 3], float32, little-endian, as they are
    answer     JSON: the values in the order of the pictures, null for one that is masked, and why

A batch is known by all of its bytes and the reward's name.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 1 << 30
"""Bytes of a request: 80 pictures of 1024 x 1024."""
_HEADER = 1 << 20
_PIXELS = np.dtype("<f4")


class NoBatch(ValueError):
    """Something came that is no batch, or no answer to one."""


@dataclass(frozen=True)
class Batch:
    """Pictures ``[G, H, W, 3]`` in 0..1, and the prompt of each."""

    pictures: Any
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """What came back.

    Attributes:
        values: in the order of the pictures; None where there is none.
        problem: why some are None; empty when all are there.
    """

    values: tuple[float | None, ...]
    problem: str = ""


def packed(pictures: Any, prompts: Sequence[str]) -> bytes:
    """The body of a request. ``pictures``: an array, or a tensor on the CPU."""
    pixels = np.ascontiguousarray(pictures, dtype=_PIXELS)
    head = {"shape": list(pixels.shape), "prompts": list(prompts)}
    return json.dumps(head).encode() + b"\n" + pixels.tobytes()


def unpacked(body: bytes) -> Batch:
    """The batch in a body. Raises ``NoBatch``."""
    head, line, pixels = body.partition(b"\n")
    try:
        if not line or len(head) > _HEADER:
            raise ValueError("no line of JSON at its beginning")
        told = json.loads(head)
        shape, prompts = [int(side) for side in told["shape"]], tuple(map(str, told["prompts"]))
        if len(shape) != 4 or shape[3] != 3 or min(shape) < 1 or len(prompts) != shape[0]:
            raise ValueError(f"pictures {shape} with {len(prompts)} prompts")
        if len(pixels) != math.prod(shape) * _PIXELS.itemsize:
            raise ValueError(f"{len(pixels)} bytes for pictures {shape}")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise NoBatch(f"expected a batch [G, H, W, 3] with a prompt for each picture, found {error}") from error
    return Batch(np.frombuffer(pixels, _PIXELS).reshape(shape).astype(np.float32), prompts)


def key_of(reward: str, body: bytes) -> str:
    """What tells a question from others."""
    return hashlib.sha256(reward.encode() + b"\n" + body).hexdigest()


def answer(scored: Scored) -> bytes:
    """The body of an answer."""
    return json.dumps({"values": scored.values, "problem": scored.problem}).encode()


def read_answer(content: bytes, count: int) -> Scored:
    """The answer to ``count`` pictures. Raises ``NoBatch``."""
    try:
        told = json.loads(content)
        values = tuple(None if value is None else float(value) for value in told["values"])
        if len(values) != count or any(value is not None and not math.isfinite(value) for value in values):
            raise ValueError(f"{len(values)} values")
        return Scored(values, str(told["problem"]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise NoBatch(f"expected {count} scores, found {error}") from error
