"""HPDv2's benchmark (Wu et al. 2023, arXiv 2306.09341): what people prefer, in four styles."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ...support.files import read_text
from .port import Item, PromptSet, not_empty

_STYLES = ("anime", "concept-art", "paintings", "photo")


class HPDv2(PromptSet):
    """``anime.json``, ``concept-art.json``, ``paintings.json``, ``photo.json``: each a list of prompts."""

    label: ClassVar[str] = "HPDv2"
    looks: ClassVar[str] = "a folder with anime.json, concept-art.json, paintings.json, photo.json, or one of them"
    images: ClassVar[int] = 1

    def is_at(self, path: Path) -> bool:
        return bool(_files(path))

    def read(self, path: Path) -> list[Item]:
        return [item for file in _files(path) for item in not_empty(_items(file), file)]

    def write(self, folder: Path, item: Item, pictures: Sequence[Image.Image]) -> None:
        """The first image, which is all that the benchmark looks at; further ones stand beside the style's folder."""
        style = folder / item.category
        for number, picture in enumerate(pictures):
            place = style if number == 0 else folder.with_name(f"{folder.name}-{number}") / item.category
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{item.key}.jpg", quality=95)

    def needs(self, rewards: Collection[str]) -> list[str]:
        if "HPSv2" in rewards:
            return []
        return [
            "HPDv2's own score is HPSv2: give its weights, --rewards hps \"HPSv2('HPS_v2.1_compressed.pt')\", or run "
            "hpsv2.evaluate on the images"
        ]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / f"{style}.json" for style in _STYLES if (path / f"{style}.json").is_file()]
    return [path] if path.suffix == ".json" else []


def _items(file: Path) -> list[Item]:
    try:
        said: Any = json.loads(read_text(file))
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): check the path and its rights") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}): get it again") from error
    if not isinstance(said, list) or not all(isinstance(prompt, str) and prompt.strip() for prompt in said):
        raise ValueError(f"expected a list of prompts in {file}, found something else: get it again")
    return [Item(prompt=prompt, category=file.stem, key=f"{place:05}") for place, prompt in enumerate(said)]
