"""Names that an artist types and that become files: plain words, so that nothing leaves the output folder.

Every place under ``output`` is a fixed folder and one such name: no separator, no drive, no "..", no name that Windows
keeps for devices. Names are the same file everywhere: ASCII, and no dot or space at the end, which Windows drops.
"""

import re

LONGEST_NAME = 72
"""Room for what is put behind a name (``-2``, ``-last``): names of runs have at most 80 characters."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d|conin|conout|clock)")


def check_name(name: str, label: str) -> str:
    """``name`` itself when it can be the name of a file. ``label`` is the input that it came from.

    Raises:
        ValueError: says what is expected, what is wrong and how to mend it.
    """
    wrong = _fault(name)
    if wrong:
        raise ValueError(
            f"{label} becomes the name of a file: expected letters, digits, spaces, '-', '_' and '.', found "
            f"{str(name)[: 2 * LONGEST_NAME]!r}, which {wrong}"
        )
    return name


def _fault(name: str) -> str:
    """What is wrong with a name; nothing for a good one."""
    if not isinstance(name, str) or not name:
        return "is empty"
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} characters: take at most {LONGEST_NAME}"
    if not _PLAIN.fullmatch(name):
        strange = next((sign for sign in name if not _PLAIN.fullmatch("a" + sign)), None)
        return "must begin with a letter or a digit" if strange is None else f"has {strange!r} in it: leave it out"
    if ".." in name:
        return "has two dots in a row: take one"
    if name[-1] in ". ":
        return "ends with a dot or a space: leave it out"
    if _DEVICE.fullmatch(name.split(".")[0].rstrip()):
        return "is a device on Windows: take another name"
    return ""
