"""GenEval (Ghosh et al. 2023, arXiv 2310.11513): objects, their number, colour and place."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from .port import Item, PromptSet, lines, not_empty


class GenEval(PromptSet):
    """A line of ``evaluation_metadata.jsonl``: ``{"tag": "counting", "include": [...], "prompt": "..."}``."""

    label: ClassVar[str] = "GenEval"
    looks: ClassVar[str] = "evaluation_metadata.jsonl, or a folder with it"
    images: ClassVar[int] = 4

    def is_at(self, path: Path) -> bool:
        return _file(path).suffix == ".jsonl" and _file(path).is_file()

    def read(self, path: Path) -> list[Item]:
        file = _file(path)
        return not_empty([_item(line, number, place, file) for place, (number, line) in enumerate(lines(file))], file)

    def write(self, folder: Path, item: Item, pictures: Sequence[Image.Image]) -> None:
        samples = folder / item.key / "samples"
        samples.mkdir(parents=True)
        (folder / item.key / "metadata.jsonl").write_text(item.line + "\n", encoding="utf-8")
        for number, picture in enumerate(pictures):
            picture.save(samples / f"{number:04}.png")

    def needs(self, rewards: Collection[str]) -> list[str]:
        return [
            "GenEval's own score needs its object detector (Mask2Former of mmdetection): run "
            "evaluation/evaluate_images.py of its repository on each folder of images"
        ]


def _file(path: Path) -> Path:
    return path / "evaluation_metadata.jsonl" if path.is_dir() else path


def _item(line: str, number: int, place: int, file: Path) -> Item:
    try:
        said: Any = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not all(isinstance(said.get(key), str) and said[key] for key in ("tag", "prompt")):
        raise ValueError(f'line {number} of {file}: expected an object with "tag" and "prompt", found {line[:80]}')
    return Item(prompt=said["prompt"], category=said["tag"], key=f"{place:05}", line=line)
