"""T2I-CompBench (Huang et al. 2023, arXiv 2307.06350): attributes that belong to objects, and relations of objects."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image

from .port import Item, PromptSet, lines, not_empty

_CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
_VALIDATION = "_val"


class T2ICompBench(PromptSet):
    """``color_val.txt`` and its siblings: a prompt per line; what follows a tab is not part of it."""

    label: ClassVar[str] = "T2I-CompBench"
    looks: ClassVar[str] = "a folder with color_val.txt, shape_val.txt, ..., or one of them"
    images: ClassVar[int] = 10

    def is_at(self, path: Path) -> bool:
        return bool(_files(path))

    def read(self, path: Path) -> list[Item]:
        return [item for file in _files(path) for item in not_empty(_items(file), file)]

    def write(self, folder: Path, item: Item, pictures: Sequence[Image.Image]) -> None:
        samples = folder / item.category / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures, start=int(item.key) * len(pictures)):
            picture.save(samples / f"{item.prompt.replace('/', ' ')}_{number:06}.png")

    def needs(self, rewards: Collection[str]) -> list[str]:
        found = [
            "T2I-CompBench's scores of color, shape and texture need BLIP-VQA, those of spatial, 3d_spatial and "
            "numeracy UniDet, that of complex both and CLIP: run its BLIPvqa_eval, UniDet_eval and 3_in_1_eval on the "
            "images"
        ]
        if "CLIPScore" not in rewards:
            found.append("its score of non_spatial is CLIP's: give its weights, --rewards clip \"CLIPScore('...')\"")
        return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (path / f"{category}{_VALIDATION}.txt" for category in _CATEGORIES)
        return [file for file in found if file.is_file()]
    return [path] if path.suffix == ".txt" and path.stem.removesuffix(_VALIDATION) in _CATEGORIES else []


def _items(file: Path) -> list[Item]:
    category = file.stem.removesuffix(_VALIDATION)
    prompts = [line.split("\t")[0].strip() for _, line in lines(file)]
    return [Item(prompt=prompt, category=category, key=str(place)) for place, prompt in enumerate(prompts)]
