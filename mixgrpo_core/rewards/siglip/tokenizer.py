"""SigLIP's tokens: pieces of the text, its end, and padding up to 64, which the network reads, too.

The text of SigLIP is lower-cased and loses its punctuation (big_vision's ``canonicalize_text``); SigLIP 2 only
lower-cases. The vocabulary is not bundled: it lies beside the weights.
"""

import json
import logging
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...support.files import read_text
from ..networks.weight_files import WeightsError

PIECES, WHOLE = "spiece.model", "tokenizer.json"
_END = "</s>"  # SigLIP pads with its end, SigLIP 2 with a token of its own
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)

_log = logging.getLogger(__name__)


class SiglipTokens:
    """Prompts to token numbers, by the vocabulary of a folder.

    Attributes:
        count: tokens of the vocabulary.
    """

    def __init__(self, folder: Path) -> None:
        """Read ``spiece.model`` (where sentencepiece is installed) or ``tokenizer.json``.

        Raises:
            WeightsError: neither is in ``folder``, or it is broken.
        """
        pieces, whole = folder / PIECES, folder / WHOLE
        if not pieces.is_file() and not whole.is_file():
            raise WeightsError(
                f"expected SigLIP's {WHOLE} or {PIECES} in {folder}, found neither: put the one of its hub repository "
                "beside the weights"
            )
        try:
            self._rows, self.count, self._padding = _pieces(pieces) if _readable(pieces) else _whole(whole)
        except Exception as error:
            raise WeightsError(f"the tokenizer in {folder} cannot be read ({error}): get it again") from error

    def __call__(self, prompts: Sequence[str], context: int) -> Tensor:
        """Token numbers ``[N, context]``. What is longer is cut before its end, and a warning says how many."""
        rows = self._rows(prompts)
        long = sum(len(row) > context for row in rows)
        if long:
            _log.warning("%d of %d prompts are longer than %d tokens and are cut", long, len(rows), context)
        cut = [row if len(row) <= context else [*row[: context - 1], row[-1]] for row in rows]
        return torch.tensor([[*row, *[self._padding] * (context - len(row))] for row in cut])


def canonical(text: str) -> str:
    """Lower-cased, without ASCII punctuation, single spaces."""
    return re.sub(r"\s+", " ", text.lower().translate(_WITHOUT_PUNCTUATION)).strip()


_Reader = tuple[Callable[[Sequence[str]], list[list[int]]], int, int]


def _readable(pieces: Path) -> bool:
    from transformers.utils.import_utils import is_sentencepiece_available

    return pieces.is_file() and (is_sentencepiece_available() or not (pieces.parent / WHOLE).is_file())


def _pieces(file: Path) -> _Reader:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ImportError(f"{PIECES} needs the package sentencepiece; {WHOLE} beside it does not") from error

    model = SentencePieceProcessor(model_file=str(file))
    end = model.eos_id()
    if end < 0:
        raise ValueError("its vocabulary has no end of text")

    def rows(prompts: Sequence[str]) -> list[list[int]]:
        return [[*model.encode(canonical(prompt)), end] for prompt in prompts]

    return rows, model.get_piece_size(), end


def _whole(file: Path) -> _Reader:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    name = _padding_name(file.parent / "tokenizer_config.json")
    padding = tokenizer.token_to_id(name)
    if padding is None:
        raise ValueError(f"its vocabulary has no {name}")
    cleaned = canonical if name == _END else str.lower

    def rows(prompts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch([cleaned(prompt) for prompt in prompts])]

    return rows, tokenizer.get_vocab_size(), padding


def _padding_name(config: Path) -> str:
    if not config.is_file():
        return _END
    said: Any = json.loads(read_text(config)).get("pad_token", _END)
    return str(said.get("content", _END) if isinstance(said, dict) else said)
