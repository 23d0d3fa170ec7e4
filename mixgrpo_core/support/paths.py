"""Paths as people write them."""

import re
from pathlib import Path


def user_path(path: str | Path) -> Path:
    """``path`` with ``~`` and ``~name`` as a home folder.

    Raises:
        ValueError: nobody of that name has one, or there are control characters in it, as backslashes leave them.
    """
    bad = next((character for character in str(path) if character < " "), None)
    if bad is not None:
        raise ValueError(
            f"expected a path, found {str(path)!r}, which holds {bad!r}: write / for each backslash of a Windows path"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # of the standard library, for a user that there is not
        raise ValueError(f"no home folder is known for {str(path)!r}: write the whole path") from error


def in_shell(path: Path) -> str:
    """A path as a shell takes it: in double quotes, which Windows knows too, where spaces or other signs need them."""
    return str(path) if re.fullmatch(r"[\w./\\:+-]+", str(path)) else f'"{path}"'


def in_link(name: str) -> str:
    """A file's name as the target of a link in Markdown: all but plain letters, digits and ``_.-~/`` as %-codes."""
    return re.sub(r"[^\w.~/-]", lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode()), name, flags=re.ASCII)
