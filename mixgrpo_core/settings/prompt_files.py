"""Prompts out of the files that people have: lines, JSON, tables, and folders of captions.

    .txt                a prompt per line; empty lines and lines that begin with # are left out
    .json               a list of prompts, or of objects with one
    .jsonl, .ndjson     a prompt, or an object with one, per line
    .csv, .tsv          a table with a column of prompts; its first line names the columns
    a folder            a caption file (.txt, .caption) per picture, or a metadata.jsonl or metadata.csv

An entry of JSON or a row of a table may name a reference picture, ``image``, and a ``mask`` of it, by paths that count
from the file, and have a size of its own, ``width`` and ``height``. A line of text says its size at its end, as
``--size 832x1216``.

An object's prompt, or a table's, is called ``prompt``, ``caption`` or ``text``, in capitals or not, or in the plural. A
suffix may be in capitals; a file of lines that is JSON in truth is read as what it is.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..support.file_kinds import what_it_is
from ..support.files import read_text
from ..support.paths import user_path
from ..support.pictured import Pictured, reworded, size_in
from ..support.sized import resized, with_option
from .caption_folders import captions

LONGEST_LINE = 10_000
LINES, JSON, TABLES = (".txt", ".text", ".prompts", ".caption", ""), (".json", ".jsonl", ".ndjson"), (".csv", ".tsv")
SUFFIXES = (".txt", *JSON, *TABLES)
_KEYS = ("prompt", "prompts", "caption", "captions", "text", "texts")
_MORE = ("image", "mask", "width", "height")
R = TypeVar("R")
Found = Iterator[tuple[str, object]]
"""Where in a file, in words, and what stands there for a prompt."""


def read_prompt_file(path: str | Path) -> list[str]:
    """The prompts of one file, or of a folder of captions.

    Raises:
        ValueError: nothing there, another kind of file, no prompts, or one of over 10,000 characters.
    """
    path = user_path(path)
    place = captions(path) if path.is_dir() else path
    found = _of_file(place) if isinstance(place, Path) else place
    prompts = [_prompt(said, place, path) for place, said in found]
    if not prompts:
        raise ValueError(f"{path} holds no prompts: write one per line")
    return prompts


def _of_file(path: Path) -> Found:
    suffix = path.suffix.lower()
    if not path.exists():
        raise ValueError(
            f"expected a prompt file at {path}, found nothing: check the path, or give the prompts themselves as a list"
        )
    wrong = what_it_is(path) if path.is_file() and path.stat().st_size else ""
    if wrong:
        raise ValueError(f"{path} holds no prompts: {wrong}")
    if suffix not in (*LINES, *JSON, *TABLES):
        raise ValueError(
            f"expected prompts as {', '.join(SUFFIXES)} or a folder of caption files, found {path}: save them as "
            "one of these"
        )
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(
            f"cannot read the prompt file {path} ({error.strerror}): check the path and its rights"
        ) from error
    if suffix in TABLES:
        return _table(text, path, "\t" if suffix == ".tsv" else None)
    if suffix in JSON or _is_json(text):
        return _json(text, path)
    return _lines(text, path)


def _prompt(said: object, place: str, path: Path) -> str:
    if not isinstance(said, str):
        raise ValueError(f"{place} of {path}: expected the prompt to be a string, found {type(said).__name__}")
    said, words = said.strip(), said
    if len(said) > LONGEST_LINE:
        raise ValueError(
            f"{place} of {path} has {len(said)} characters; expected a prompt of at most {LONGEST_LINE}: split it"
        )
    if not said:
        raise ValueError(f"{place} of {path}: expected a prompt with words, found none: remove the line")
    return reworded(words, said)


def _lines(text: str, path: Path) -> Found:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also break a prompt at U+2028 and the like
        line = line.strip()
        if line and line[0] != "#":
            yield f"line {number}", _at(f"line {number}", path, partial(with_option, line))


def _is_json(text: str) -> bool:
    """Whether a file of lines is JSON: as a whole a list, or with an object that has a prompt in its first line."""
    start = text.lstrip()
    if start[:1] not in ("[", "{"):  # of a prompt these are "[a red] cat" and the like
        return False
    try:
        if start[0] == "[":
            return isinstance(json.loads(start), list)
        return _key(json.loads(start.split("\n", 1)[0])) is not None
    except (ValueError, RecursionError):
        return False


def _json(text: str, path: Path) -> Found:
    """The entries of a list, or of lines; ``{"prompts": [...]}`` is the list."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "[":
            raise ValueError(f"{path} is not whole JSON ({error}): get it again, or mend it there") from error
        return _json_lines(text, path)
    key = _key(whole)
    if key is not None and isinstance(whole[key], list):
        whole = whole[key]
    elif key is not None:
        whole = [whole]
    if not isinstance(whole, list):
        raise ValueError(f'{path} is not a list of prompts: expected ["...", "..."] or [{{"prompt": "..."}}, ...]')
    return ((f"entry {number}", _said(entry, f"entry {number}", path)) for number, entry in enumerate(whole, 1))


def _json_lines(text: str, path: Path) -> Found:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'line {number} of {path} is not {{"prompt": "..."}}: {error}') from error
        yield f"line {number}", _said(entry, f"line {number}", path)


def _said(entry: object, place: str, path: Path) -> object:
    if isinstance(entry, str):
        return entry
    key = _key(entry)
    if key is None:
        found = f"the keys {', '.join(entry)}"[:100] if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f'{place} of {path} is not {{"prompt": "..."}}: found {found}')
    return _with_more(entry[key], entry, place, path)  # type: ignore[index, arg-type]  # what has a key is a table


def _with_more(said: object, entry: Mapping[str, object], place: str, path: Path) -> object:
    """The prompt with the pictures and the size that its entry names."""
    size = _at(place, path, partial(size_in, entry))
    named = {name: entry.get(name) for name in ("image", "mask")}
    if named["image"] is None and named["mask"] is None:
        return resized(said, size) if isinstance(said, str) else said
    if not isinstance(named["image"], str) or not isinstance(named["mask"], str | None):
        raise ValueError(
            f"{place} of {path}: expected the path of a picture as image, and perhaps one of a mask, found "
            f"{named['image']!r} and {named['mask']!r}: write paths that count from the file's folder"
        )
    picture, mask = (str((path.parent / file).absolute()) if file else "" for file in (named["image"], named["mask"]))
    return Pictured(said, picture, mask, size) if isinstance(said, str) else said


def _at(place: str, path: Path, read: Callable[[], R]) -> R:
    """What ``read`` gives, whose error says where it was."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{place} of {path}: {error}") from error


def _key(entry: object) -> str | None:
    """Under which key the prompt of an object stands."""
    by_word = {str(key).strip().lower(): key for key in entry} if isinstance(entry, dict) else {}
    return next((by_word[word] for word in _KEYS if word in by_word), None)


def _table(text: str, path: Path, mark: str | None) -> Found:
    """The column of prompts. A .csv is parted by what its first line is parted by: a comma, a semicolon or a tab."""
    first = text.lstrip("\n").split("\n", 1)[0]
    marks = [mark] if mark else [",", ";", "\t"]
    heads = {found: [cell.strip().strip('"').lower() for cell in first.split(found)] for found in marks}
    fitting = [found for found, head in heads.items() if any(word in head for word in _KEYS)]
    if not fitting:
        raise ValueError(
            f"expected a column prompt, caption or text in {path}, found {first[:100]!r} as its first line: name the "
            "columns there"
        )
    return _column(_rows(text, path, max(fitting, key=lambda found: len(heads[found]))), path)


def _column(rows: list[list[str]], path: Path) -> Found:
    head = [cell.strip().lower() for cell in rows[0]]
    place = next(head.index(word) for word in _KEYS if word in head)
    columns = {name: head.index(name) for name in _MORE if name in head}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if not place < len(row) <= len(head):
            raise ValueError(
                f"row {number} of {path} has {len(row)} cells, expected {len(head)}: put prompts that hold the mark "
                "between cells into double quotes"
            )
        cells = {name: row[column].strip() for name, column in columns.items() if column < len(row)}
        more = {name: cell for name, cell in cells.items() if cell}
        yield f"row {number}", _with_more(row[place], more, f"row {number}", path)


def _rows(text: str, path: Path, mark: str) -> list[list[str]]:
    """All rows. A .tsv of prompts with stray quotes has none around its cells."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error as error:
        if mark != "\t":
            raise ValueError(
                f"{path} is not a whole table ({error}): a cell with quotes in it is written in quotes, and each of "
                "its own is doubled"
            ) from error
        rows = [line.split(mark) for line in text.split("\n")]
    return [row for row in rows if row]
