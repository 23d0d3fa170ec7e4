"""BERT's uncased WordPiece tokens, as ImageReward reads prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..networks.known_files import KnownFile
from ..networks.weight_files import WeightsError

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer

LENGTH = 35  # tokens of a prompt, [CLS] and [SEP] included; what follows is cut off
_NEEDED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_ADDED = 2  # [DEC] and [ENC], which BLIP added behind the vocabulary

VOCABULARY = KnownFile(
    name="vocab.txt",
    source="google-bert/bert-base-uncased (or any Salesforce BLIP repository)",
    size=231_508,
    licence="Apache-2.0",
    folder="reward_models/ImageReward",
)


class WordPiece:
    """A tokenizer made from a ``vocab.txt``."""

    def __init__(self, vocabulary: Path, rows: int) -> None:
        """
        Args:
            vocabulary: the file, or a folder with a ``vocab.txt``.
            rows: of the table of embeddings that it must fit.

        Raises:
            WeightsError: there is no such file, or it is another vocabulary.
        """
        file = vocabulary / VOCABULARY.name if vocabulary.is_dir() else vocabulary
        if not file.is_file():
            raise WeightsError(f"expected BERT's uncased vocabulary at {file}, found nothing. {VOCABULARY.words()}")
        try:
            words = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{file} cannot be read as text ({error}). {VOCABULARY.words()}") from error
        words = [word.strip("\r") for word in words]
        if words[-1] == "":
            words.pop()
        missing = [word for word in _NEEDED if word not in words]
        if missing or not rows - _ADDED <= len(words) <= rows:
            lacks = f", without {', '.join(missing)}" if missing else ""
            raise WeightsError(
                f"expected BERT's uncased vocabulary of {rows - _ADDED} words in {file}, found {len(words)}{lacks}. "
                f"{VOCABULARY.words()}"
            )
        self._tokenizer = _tokenizer({word: row for row, word in enumerate(words)})

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, 35]`` and their mask ``[B, 35]``: 1 where there is one, 0 where it is padding."""
        found = self._tokenizer.encode_batch(list(prompts))
        return torch.tensor([one.ids for one in found]), torch.tensor([one.attention_mask for one in found])


def _tokenizer(vocabulary: dict[str, int]) -> "BertWordPieceTokenizer":
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(vocabulary, lowercase=True)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=vocabulary["[PAD]"])
    return tokenizer
