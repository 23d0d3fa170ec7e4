"""DPG-Bench (Hu et al. 2024, arXiv 2403.05135): dense prompts of many objects and their relations."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image

from .port import Item, PromptSet, lines

_COLUMNS = 2


class DPGBench(PromptSet):
    """``prompts/``: a text file per prompt, whose name is the item's in ``dpg_bench.csv``."""

    label: ClassVar[str] = "DPG-Bench"
    looks: ClassVar[str] = "a folder of text files, a prompt in each"
    images: ClassVar[int] = 4

    def is_at(self, path: Path) -> bool:
        return bool(_files(path))

    def read(self, path: Path) -> list[Item]:
        """All items are of one category: the set's own categories are those of its questions."""
        return [_item(file) for file in _files(path)]

    def write(self, folder: Path, item: Item, pictures: Sequence[Image.Image]) -> None:
        """The images side by side, two in a row, as the set's scorer cuts them apart."""
        folder.mkdir(parents=True, exist_ok=True)
        width, height = pictures[0].size
        columns = min(_COLUMNS, len(pictures))
        sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height))
        for place, picture in enumerate(pictures):
            sheet.paste(picture, (place % columns * width, place // columns * height))
        sheet.save(folder / f"{item.key}.png")

    def needs(self, rewards: Collection[str]) -> list[str]:
        return [
            "DPG-Bench's own score needs its questions (dpg_bench.csv) and mPLUG-large, which answers them: run "
            "dpg_bench/compute_dpg_bench.py of ELLA's repository on each folder of images"
        ]


def _files(path: Path) -> list[Path]:
    """By number where the names are numbers, as they are in the set."""
    found = [file for file in path.glob("*.txt") if file.is_file()] if path.is_dir() else []
    return sorted(found, key=lambda file: (not file.stem.isdigit(), file.stem.zfill(9), file.stem))


def _item(file: Path) -> Item:
    prompt = " ".join(line for _, line in lines(file))
    if not prompt:
        raise ValueError(f"{file} holds no prompt: get it again")
    return Item(prompt=prompt, category="all", key=file.stem)
