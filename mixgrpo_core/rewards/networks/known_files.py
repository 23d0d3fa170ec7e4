"""Files of reward models by name: where they come from, how large they are, what their licence is, where they belong.

Nothing is downloaded: a file that is missing is named with all of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...support.paths import user_path
from .weight_files import WeightsError


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file, or a folder, that users bring.

    Attributes:
        name: of the file or folder.
        source: the hub repository (``owner/name``), or the page, that it comes from.
        size: bytes.
        licence: with what it restricts.
        folder: where it belongs, under ComfyUI's ``models``.
        original: the file's name at its source, where it is another one.
    """

    name: str
    source: str
    size: int
    licence: str
    folder: str = "reward_models"
    original: str = ""

    def words(self) -> str:
        """One sentence that says how to get it."""
        renamed = f" (there named {self.original})" if self.original else ""
        return (
            f"{self.name}{renamed} from {self.source}, {in_words(self.size)}, licence {self.licence}; "
            f"put it into models/{self.folder}"
        )


def expect(path: str, known: Sequence[KnownFile]) -> None:
    """Checks that there is something at ``path``.

    Raises:
        WeightsError: there is nothing; it says where the ``known`` files for it come from.
    """
    if not path or not user_path(path).exists():
        words = "; or ".join(file.words() for file in known)
        raise WeightsError(f"expected weights at {path!r}, found nothing{'. Get ' if words else ''}{words}")


def in_words(size: int) -> str:
    """Bytes as people say them: ``1.97 GB``, ``3.7 MB``, ``232 kB``."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 0)):
        if size >= scale:
            return f"{size / scale:.{digits}f} {unit}"
    return f"{size} bytes"
