"""What text encoders made of texts: in main memory, or in a folder's files, which are read when they are asked for."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from .files import make_folder
from .tensor_files import bytes_of, read_tensors, write_tensors


class TextFiles:
    """Tensors and words by text; in main memory until they are given a folder.

    A file is known by the text and by ``encoder``, the digest of what encodes: another encoder's are not found. A
    damaged one is as one that is not there.
    """

    def __init__(self, encoder: str, folder: Path | None = None) -> None:
        self._encoder, self._folder = encoder, folder
        self._held: dict[str, tuple[Mapping[str, Tensor], Mapping[str, str]]] = {}

    def keep_in(self, folder: Path) -> None:
        """Put what is held into files, and what comes from now on too. Raises ``OSError``."""
        self._folder = folder
        for text in list(self._held):
            self.put(text, *self._held[text])
            del self._held[text]

    def put(self, text: str, tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> None:
        """Keep what was made of a text: tensors of the CPU, contiguous and apart. Raises ``OSError``."""
        if self._folder is None:
            self._held[text] = tensors, words
            return
        make_folder(self._folder)
        write_tensors(self._file(self._folder, text), tensors, {**words, _SUM: _checksum(tensors, words)})

    def get(self, text: str) -> tuple[Mapping[str, Tensor], Mapping[str, str]] | None:
        """What was kept of a text; None where there is nothing, or nothing whole."""
        if self._folder is None or text in self._held:
            return self._held.get(text)
        try:
            tensors, words = read_tensors(self._file(self._folder, text))
        except (SafetensorError, OSError):
            return None
        found = words.pop(_SUM, "")
        return (tensors, words) if found == _checksum(tensors, words) else None

    def _file(self, folder: Path, text: str) -> Path:
        name = hashlib.blake2b(f"{self._encoder}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return folder / f"{name}.safetensors"


_SUM = "checksum"


def _checksum(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(repr(sorted(words.items())).encode("utf-8", "surrogatepass"), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
