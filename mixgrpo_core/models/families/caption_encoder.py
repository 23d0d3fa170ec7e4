"""A word-level caption encoder: every word has one frozen vector.

    tokens[i] = table[word i],  i = 0..7 (missing words: the padding row)
    pooled    = sum of the words' vectors / sqrt(number of words)

The rows are orthogonal, so that a linear layer can tell any set of words apart; the model that reads them does the
learning. The empty caption, all padding and pooled 0, is the unconditional one of classifier-free guidance.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

TOKENS = 8
_PADDING = 0  # row of the table; words start at row 1


class CaptionEncoder(nn.Module):
    """Turns captions of known words into token vectors and one pooled vector.

    Args:
        vocabulary: the known words, in lower case.
        table: (1 + number of words, width) vectors; row 0 is the padding.
    """

    table: Tensor

    def __init__(self, vocabulary: Sequence[str], table: Tensor) -> None:
        super().__init__()
        if len(table) != len(vocabulary) + 1:
            raise ValueError(
                f"Expected one row per word and one for the padding, {len(vocabulary) + 1} in all, "
                f"found {len(table)} rows. Use CaptionEncoder.create(vocabulary) for a fresh table."
            )
        self.vocabulary = tuple(vocabulary)
        self.register_buffer("table", table)

    @classmethod
    def create(cls, vocabulary: Sequence[str], *, width: int = 64, seed: int = 0) -> "CaptionEncoder":
        """A fresh encoder with orthogonal rows whose entries have a root mean square of 1."""
        if len(vocabulary) >= width:
            raise ValueError(f"Expected fewer words than the width {width}, found {len(vocabulary)}. Raise width.")
        square = torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
        rows = torch.linalg.qr(square).Q[: len(vocabulary) + 1]
        return cls(vocabulary, (rows * math.sqrt(width)).contiguous())

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def forward(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode captions; the empty string is the unconditional caption.

        Returns:
            tokens (n, 8, width) and pooled (n, width).

        Raises:
            ValueError: an unknown word, or more than 8 words.
        """
        ids = torch.tensor([self._ids(caption) for caption in captions], device=self.table.device)
        tokens = self.table[ids.view(-1, TOKENS)]
        is_word = (ids.view(-1, TOKENS) != _PADDING).to(tokens.dtype)[..., None]
        count = is_word.sum(1).clamp(min=1)
        return tokens, (tokens * is_word).sum(1) / count.sqrt()

    def _ids(self, caption: str) -> list[int]:
        words = caption.lower().split()
        if len(words) > TOKENS:
            raise ValueError(f"Expected at most {TOKENS} words, found {len(words)} in {caption!r}. Shorten it.")
        for word in words:
            if word not in self.vocabulary:
                known = ", ".join(self.vocabulary)
                raise ValueError(f"Expected words out of: {known}; found {word!r} in {caption!r}. Use known words.")
        return [self.vocabulary.index(word) + 1 for word in words] + [_PADDING] * (TOKENS - len(words))

    def save(self, path: Path) -> None:
        """Write the table as safetensors with the vocabulary in the metadata."""
        save_file({"table": self.table.contiguous()}, path, {"vocabulary": json.dumps(self.vocabulary)})

    @classmethod
    def load(cls, path: Path) -> "CaptionEncoder":
        """Read what `save` wrote; the table becomes float32.

        Raises:
            ValueError: the file has no vocabulary in its metadata.
        """
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "vocabulary" not in metadata:
                found = ", ".join(metadata) or "nothing"
                raise ValueError(
                    f"Expected the metadata entry 'vocabulary' in {path}, found {found}. "
                    "Point to a file that CaptionEncoder.save wrote."
                )
            return cls(json.loads(metadata["vocabulary"]), file.get_tensor("table").to(torch.float32, copy=True))
