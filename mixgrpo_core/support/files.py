"""Writing files so that they are whole or not there, by one process at a time."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, sync it, and rename it into place.

    A reader, or a process that was killed meanwhile, finds the old file or the new one, never a part. Raises
    ``OSError`` (disk full, read-only folder); the temporary file is gone then and the old file untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock on the file ``path``; the system frees it however the process ends.

    Raises:
        BlockingIOError, PermissionError: another process holds it (POSIX, Windows).
    """
    with path.open("a+b") as file:
        _lock(file.fileno())
        yield
