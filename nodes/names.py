"""Names that an artist types and that become files: plain words, so that nothing leaves the output folder.

Every place under ``output`` is a fixed folder and one such name, whose ``/`` make sub-folders: no drive, no "..", no
name that Windows keeps for devices. Names are the same file everywhere: letters of any script in their composed form
(NFC), none that is another letter in other clothes or that nobody sees, and no dot or space at an end, which Windows
drops.
"""

import os
import re
import unicodedata
from pathlib import Path

LONGEST_NAME = 72
"""Characters of a name that is typed: there is room for what is put behind it (``-2``, ``-last``)."""
LONGEST_RUN = LONGEST_NAME + 8
_ROOM = 128
"""Bytes beyond one a character: file systems count bytes, 255 at most in one name."""

_MARKS = " ._-'"
_QUOTES = ("\u2018", "\u2019", "\u00b4", "`")  # what phones and word processors make of an apostrophe
_DRESSED = re.compile(r"<(?!compat)")  # full width, superscript, mathematical, ...: NFKC makes plain letters of them
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\U000e0000-\U000e0fff]")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d|conin|conout|clock)")


def check_name(name: str, label: str) -> str:
    """``name`` in its composed form when it can be the name of a file. ``label`` is the input that it came from.

    Raises:
        ValueError: says what is expected, what is wrong and how to mend it.
    """
    wrong = _fault(name, LONGEST_NAME)
    if wrong:
        raise ValueError(
            f"{label} becomes the name of a file: expected letters, digits, spaces, '-', '_', '.' and \"'\", and '/' "
            f"before what is in a folder, found {str(name)[: 2 * LONGEST_NAME]!r}, which {wrong}"
        )
    return composed(name)


def is_name(name: str) -> bool:
    """Whether a run can have that name, with what is put behind it."""
    return not _fault(name, LONGEST_RUN) and composed(name) == name


def composed(name: str) -> str:
    """One letter with its accent where two signs were written, as Apple's keyboards and file systems do."""
    return unicodedata.normalize("NFC", name)


def require_place(root: Path, name: str, label: str) -> None:
    """Raise ``ValueError`` unless ``name`` is, or may come to be, a place of its own under ``root``.

    A link may not lead out, a file not be where a folder is needed, and no other spelling of a folder or file be
    there that Windows or macOS take for the same.
    """
    place = root
    for part in name.split("/"):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{label}: {str(place)!r} is a file, so nothing can be in it: take another name")
        twin = _twin(place, part)
        if twin:
            raise ValueError(
                f"{label}: {part!r} and {twin!r}, which is there, are one name on Windows and macOS: write it as "
                "there, or take another name"
            )
        place /= part
    if not place.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{label}: {str(place)!r} is a link to another place: take another name")


def _twin(folder: Path, name: str) -> str:
    """What is in a folder under a name that differs in case or accents' form only; nothing where ``name`` itself is."""
    there = os.listdir(folder) if folder.is_dir() else []
    folded = composed(name.casefold())
    return "" if name in there else next((one for one in there if composed(one.casefold()) == folded), "")


def _fault(name: str, longest: int) -> str:
    """What is wrong with a name; nothing for a good one."""
    if not isinstance(name, str) or not name:
        return "is empty"
    name = composed(name)
    strange = next((sign for sign in name if not _usual(sign)), None)
    if strange == "\\":
        return "has '\\\\' in it: write '/' before what is in a folder"
    if strange in _QUOTES:
        return f'has {strange!r} in it: write "\'"'
    if strange is not None:
        return f"has {strange!r} in it: leave it out"
    if len(name) > longest:
        return f"has {len(name)} characters: take at most {longest}"
    if len(name.encode()) > longest + _ROOM:
        return "has too many characters for a file system: take a shorter one"
    return next(filter(None, map(_fault_of_part, name.split("/"))), "")


def _fault_of_part(part: str) -> str:
    """What is wrong with a name between two ``/``."""
    if not part:
        return "has no name before or behind a '/': write one, or leave it out"
    if not _begins(part[0]):
        return f"must begin with a letter or a digit, also behind a '/': {part[:8]!r} does not"
    if ".." in part:
        return "has two dots in a row: take one"
    if part[-1] in ". ":
        return "ends with a dot or a space: leave it out"
    if _DEVICE.fullmatch(part.split(".")[0].rstrip()):
        return "is a device on Windows: take another name"
    return ""


def _usual(sign: str) -> bool:
    accent = unicodedata.category(sign) in ("Mn", "Mc") and _seen(sign)
    return sign in _MARKS or sign == "/" or accent or _begins(sign)


def _begins(sign: str) -> bool:
    kind = unicodedata.category(sign)
    return (kind[0] == "L" or kind == "Nd") and _seen(sign)


def _seen(sign: str) -> bool:
    return not _DRESSED.match(unicodedata.decomposition(sign)) and not _UNSEEN.match(sign)
