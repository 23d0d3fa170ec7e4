"""Which reward a reward is, in words: its settings, and the files that it reads."""

import hashlib
import os
import re
from pathlib import Path

from .wrappers.exchange import map_parts

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")  # of an object without a repr of its own: another one in every session
_SAMPLES, _SAMPLE = 64, 4096  # of a file, bytes: reading all of it would take as long as loading the model


def recognised(reward: object) -> str:
    """The ``repr`` of a reward by which it is told from others: files in it by their name and a digest of samples.

    Another file of the same name is another reward; the same file in another place is the same.
    """
    text = repr(reward)

    def named(part: str) -> str:
        nonlocal text
        if _holds_weights(part):
            path = Path(part)
            text = text.replace(repr(part), repr(f"{path.name} {_digest(path)}"))
        return part

    map_parts(reward, str, named)
    return _ADDRESS.sub("", text)


def files_of(path: Path) -> list[Path]:
    """The file itself, or those in a folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _holds_weights(part: str) -> bool:
    """Whether a setting is a path of what is there; relative, where it may be a word, of a file or a model's folder."""
    if os.path.isabs(part):
        return os.path.exists(part)
    return bool(part) and (os.path.isfile(part) or os.path.isfile(os.path.join(part, "config.json")))


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for file in files_of(path):
        size = file.stat().st_size
        digest.update(f"{'' if file == path else file.name} {size}".encode())
        with file.open("rb") as opened:
            for place in range(0, size, max(_SAMPLE, size // _SAMPLES)):
                opened.seek(place)
                digest.update(opened.read(_SAMPLE))
    return digest.hexdigest()
