"""Files that people write, read; and files that are whole or not there, written by one process at a time."""

import codecs
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_MARKS = (  # the longer ones first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BYTE_ORDER_MARK = "\ufeff"


class TextFileError(ValueError):
    """A file that is no text, or text of an encoding that its first bytes do not tell."""


def read_text(path: Path) -> str:
    """The text of a file that a person may have written: UTF-8, or UTF-16 or UTF-32 that begins with its mark.

    Byte-order marks are left out, also those in the middle that joining files leaves; lines end in ``\\n``.

    Raises:
        OSError: it cannot be read.
        TextFileError: a sentence that names the file.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path} is not {encoding.upper()} (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:
        raise TextFileError(f"{path} holds null bytes: it is no text, or UTF-16 without its mark; save it as UTF-8")
    return text.replace(BYTE_ORDER_MARK, "").replace("\r\n", "\n").replace("\r", "\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, sync it, and rename it into place.

    A reader, or a process that was killed meanwhile, finds the old file or the new one, never a part. Raises
    ``OSError`` (disk full, read-only folder); the temporary file is gone then and the old file untouched.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new empty file beside ``path`` to write to; afterwards it is synced and renamed into place.

    Where the writing raises, the file is gone and the old one untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, so that it is there after a power cut too. Raises ``OSError``."""
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they are there after a power cut too."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Put a folder's list of names on the disk: a file that was made or renamed in it is found after a power cut.

    Some systems know no such thing (Windows, some network drives), or let nobody open a folder: then it is theirs.
    """
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock on the file ``path``; the system frees it however the process ends.

    Raises:
        BlockingIOError, PermissionError: another process holds it (POSIX, Windows).
    """
    with path.open("a+b") as file:
        _lock(file.fileno())
        yield
