"""CLIP's tokens: byte pairs of the lower-cased text between a begin and an end, 77 in all.

The vocabulary (OpenAI's, MIT) is bundled. Attention is causal and the embedding is taken at the first end, so what
stands behind it does not matter; rows are filled up with 0, as open_clip does.
"""

import html
import logging
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...support.vocabulary import require_files, require_vocabulary
from ..networks.weight_files import WeightsError

VOCABULARY = 49408  # the last token is the end, the one before it the beginning
_END = VOCABULARY - 1
_FOLDER = Path(__file__).resolve().parents[2] / "assets/clip_tokenizer"

_STRAIGHT = str.maketrans("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f", "'" * 4 + '"' * 4)
_COMPATIBLE = re.compile("[\ufb00-\ufb06\uff01-\uff5e]")  # ligatures, full width

_log = logging.getLogger(__name__)


def tokens(prompts: Sequence[str], context: int = 77) -> Tensor:
    """Token numbers ``[N, context]``. What is longer is cut, its last token is the end, and a warning says how many."""
    rows = _tokenizer()(list(prompts), add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
    long = sum(len(row) > context for row in rows)
    if long:
        _log.warning("%d of %d prompts are longer than %d tokens and are cut", long, len(rows), context)
    cut = [row if len(row) <= context else [*row[: context - 1], _END] for row in rows]
    return torch.tensor([[*row, *[0] * (context - len(row))] for row in cut])


def cleaned(prompt: str) -> str:
    """The prompt as open_clip reads it (in short, for it uses the library ftfy): HTML's entities as characters, curly
    quotes straight, ligatures and full-width letters apart. Transformers' tokenizer does none of it."""
    text = html.unescape(html.unescape(prompt)).translate(_STRAIGHT)
    return _COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text).strip()


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    # The fast one: version 4's other one splits Chinese into characters, which neither OpenAI nor open_clip does.
    from transformers import CLIPTokenizerFast  # type: ignore[attr-defined]  # version 5 has the name at run time only

    try:
        require_files(_FOLDER, ("vocab.json", "merges.txt"))
        made = CLIPTokenizerFast.from_pretrained(_FOLDER, local_files_only=True)
        require_vocabulary(len(made), VOCABULARY)
    except (OSError, ValueError) as error:
        raise WeightsError(f"CLIP's bundled vocabulary is not whole ({error}): install this package again") from error
    return made
