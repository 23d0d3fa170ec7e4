"""The tokenizers of a diffusers folder, compared with their text encoders before a prompt goes through them."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPTokenizer, PretrainedConfig

from ...support.vocabulary import require_files, require_vocabulary
from .processors import PictureProcessor, wants_torchvision

_CONFIG, _WHOLE = "tokenizer_config.json", "tokenizer.json"
_LEGACY_END = 2  # in configurations of CLIP by older versions: the end is then the last token
_ASKED = 32  # words that prove the merges, the last of the vocabulary


def load_tokenizer(kind: type, folder: Path, encoder: PretrainedConfig | None) -> Any:
    """The tokenizer of ``folder``, or a processor with one, whose tokens are those of an encoder with this
    configuration.

    Raises:
        ValueError: a file is missing or broken, or the tokens are not the encoder's; the sentence says which.
    """
    clip = issubclass(kind, CLIPTokenizer)
    if clip:
        require_files(folder, ("vocab.json", "merges.txt", _CONFIG), (_WHOLE, _CONFIG))
    elif "ByT5" in kind.__name__:  # its tokens are bytes
        require_files(folder, (_CONFIG,))
    elif "T5" in kind.__name__:
        require_files(folder, (_WHOLE,), ("spiece.model",))
    else:
        require_files(folder, (_WHOLE,), ("vocab.json", "merges.txt"), ("tokenizer.model",), ("spiece.model",))
    try:
        made = _made(kind, folder)
    except Exception as error:  # whatever a broken file makes of it
        raise ValueError(f"{folder} cannot be read ({type(error).__name__}: {error})") from error
    if encoder is None:
        return made
    encoder = encoder.get_text_config()
    require_vocabulary(len(getattr(made, "tokenizer", made)), encoder.vocab_size)
    if not clip:
        return made
    _require_words(made)
    end = encoder.eos_token_id if encoder.eos_token_id != _LEGACY_END else len(made) - 1
    if made.eos_token_id != end:
        raise ValueError(f"its text ends with token {made.eos_token_id}, and the text encoder looks for {end}")
    return made


def _made(kind: Any, folder: Path) -> Any:
    if wants_torchvision(kind):
        return PictureProcessor.of(AutoTokenizer.from_pretrained(folder, local_files_only=True), folder)
    return kind.from_pretrained(folder, local_files_only=True)


def _require_words(tokenizer: CLIPTokenizer) -> None:
    """The longest-merged words of the vocabulary are one token each, else merges are missing."""
    words = {word[:-4]: number for word, number in tokenizer.get_vocab().items() if word.endswith("</w>")}
    plain = [word for word in words if len(word) > 1 and word.isascii() and word.isalpha()]
    asked = sorted(plain, key=words.__getitem__)[-_ASKED:]
    split = [word for word in asked if tokenizer(word, add_special_tokens=False)["input_ids"] != [words[word]]]
    if len(split) * 2 > len(asked):
        raise ValueError(f"its merges are not those of its vocabulary: it splits {split[-1]!r}, which is one token")
