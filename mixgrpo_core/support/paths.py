"""Paths as people write them."""

from pathlib import Path


def user_path(path: str | Path) -> Path:
    """``path`` with ``~`` and ``~name`` as a home folder. Raises ``ValueError``: nobody of that name has one."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # of the standard library, for a user that there is not
        raise ValueError(f"no home folder is known for {str(path)!r}: write the whole path") from error
