"""Whether a tokenizer is the one of its text encoder: transformers makes an empty one where a file is missing."""

from collections.abc import Sequence
from pathlib import Path

_LEAST_SHARE = 0.9  # embedding tables are padded: T5 has 32,100 tokens for 32,128 rows, Qwen-VL 151,665 for 152,064


def require_files(folder: Path, *alternatives: Sequence[str]) -> None:
    """Raise ``ValueError`` unless all files of one of the alternatives are in ``folder``; it names what is missing."""
    missing = [[name for name in names if not (folder / name).is_file()] for names in alternatives]
    if not all(missing):
        return
    shares = [len(lost) / len(names) for lost, names in zip(missing, alternatives, strict=True)]
    nearest = missing.pop(shares.index(min(shares)))
    others = "".join(f", or {' and '.join(names)} in its place" for names in missing)
    raise ValueError(f"{folder} lacks {' and '.join(nearest)}{others}")


def require_vocabulary(count: int, rows: int) -> None:
    """Raise ``ValueError`` unless a tokenizer of ``count`` tokens fits an encoder of ``rows`` embeddings."""
    if not rows * _LEAST_SHARE <= count <= rows:
        raise ValueError(f"its vocabulary has {count} tokens, and the text encoder's {rows}")
