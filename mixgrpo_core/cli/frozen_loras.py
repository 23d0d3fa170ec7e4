"""LoRA files with their strengths, as flags and run files write them: ``FILE`` or ``FILE:STRENGTH``."""

import re
from collections.abc import Sequence

_WITH_STRENGTH = re.compile(r"(.+):([-+]?(\d+\.?\d*|\.\d+))")


def frozen_loras(words: Sequence[str]) -> dict[str, float]:
    """The strength of each file; 1 where none is said.

    Raises:
        ValueError: a file stands there twice.
    """
    found: dict[str, float] = {}
    for word in words:
        parts = _WITH_STRENGTH.fullmatch(word)
        file, strength = (word, 1.0) if parts is None else (parts[1], float(parts[2]))
        if file in found:
            raise ValueError(f"expected each LoRA once in model.loras, found {file} twice: add its strengths up")
        found[file] = strength
    return found
