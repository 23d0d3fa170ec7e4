"""Folders of pictures with their captions, as trainers of pictures use them."""

from collections.abc import Iterator
from pathlib import Path

from ..support.files import read_text
from ..support.pixels import PICTURES

CAPTIONS = (".txt", ".caption")
_METADATA = ("metadata.jsonl", "metadata.csv", "captions.jsonl")
_PICTURES = (*PICTURES, ".avif")  # their captions are read, they are not


def captions(folder: Path) -> Iterator[tuple[str, str]] | Path:
    """The captions of a folder, file by file in order of their names; or the file that holds all of them.

    Where there are pictures, only files that are named as one are captions. A caption is the whole text of its file, on
    one line.

    Raises:
        ValueError: there are none.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder} ({error.strerror}): check its rights") from error
    written = [path for path in files if path.suffix.lower() in CAPTIONS]
    pictures = {path.stem for path in files if path.suffix.lower() in _PICTURES}
    if pictures:
        written = [path for path in written if path.stem in pictures]
    if written:
        return _texts(written, bool(pictures))
    whole = next((path for path in files if path.name.lower() in _METADATA), None)
    if whole is None:
        raise ValueError(
            f"expected caption files ({', '.join(CAPTIONS)}) in the folder {folder}, found none: give a prompt file, "
            "or the folder that holds the captions"
        )
    return whole


def is_caption_folder(folder: Path) -> bool:
    """Whether ``captions`` finds some; as few names as possible are looked at."""
    try:
        return any(path.suffix.lower() in CAPTIONS or path.name.lower() in _METADATA for path in folder.iterdir())
    except OSError:
        return False


def _texts(files: list[Path], beside_pictures: bool) -> Iterator[tuple[str, str]]:
    for file in files:
        try:
            text = read_text(file)
        except OSError as error:
            raise ValueError(f"cannot read the caption {file} ({error.strerror}): check its rights") from error
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) > 1 and not beside_pictures:
            raise ValueError(
                f"{file} has {len(lines)} lines and no picture beside it: is it a list of prompts? Give that file by "
                "its name, or write a caption on one line"
            )
        if lines:
            yield f"the caption {file.name}", " ".join(" ".join(lines).split())
