"""The proof that a model reads its prompts: different prompts give different conditionings, by each text encoder."""

import hashlib
import logging
import re
from collections.abc import Mapping

import torch
from torch import Tensor

_SURELY_READ = 60  # characters that no encoder cuts off: 77 tokens are the shortest limit
_log = logging.getLogger(__name__)


class ToldApart:
    """Hears the prompts of a run with what each text encoder made of them.

    Args:
        limit: tokens of a prompt that the model reads at most; None where it reads all.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._heard: dict[tuple[str, str], str] = {}

    def hear(self, prompt: str, pieces: Mapping[str, Tensor | str]) -> None:
        """Compare a prompt with those before it.

        Prompts that differ in capitals only, or behind the limit, may give the same: where all encoders agree on it, a
        line in the log says so.

        Raises:
            ValueError: an encoder gives numbers that are not finite, or the same for two prompts of different words.
        """
        twins = [self._twin(prompt, name, piece) for name, piece in pieces.items()]
        twin = twins[0] if twins else None
        if twin is not None and all(found == twin for found in twins):
            reads = "" if self._limit is None else f", which reads no more than {self._limit} tokens"
            _log.warning("two prompts are the same to this model%s: %r and %r. Remove one", reads, twin, prompt)

    def _twin(self, prompt: str, name: str, piece: Tensor | str) -> str | None:
        """Another prompt of which this encoder made the same."""
        if isinstance(piece, Tensor) and not bool(piece.isfinite().all()):
            raise ValueError(
                f"{name} makes NaN or infinity of the prompt {prompt[:60]!r}: load it in a wider precision"
            )
        first = self._heard.setdefault((name, _digest(piece)), prompt)
        if first != prompt and _words(first) and _words(prompt) and _words(first) != _words(prompt):
            raise ValueError(
                f"{name} reads two different prompts as one ({first[:60]!r} and {prompt[:60]!r}): its tokenizer or its "
                "weights are not whole, get them again"
            )
        return None if first == prompt else first


def _words(prompt: str) -> list[str]:
    """The words that any encoder tells from others: letters and digits of English, at the beginning."""
    return re.findall("[a-z0-9]+", prompt[:_SURELY_READ].casefold())


def _digest(piece: Tensor | str) -> str:
    data = piece.encode() if isinstance(piece, str) else piece.detach().to("cpu", torch.float32).numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
