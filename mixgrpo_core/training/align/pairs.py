"""Pairs out of a folder: pictures of one name in ``better/`` and ``worse/``, and their captions beside them.

``better/fox.png``, ``worse/fox.jpg`` and ``better/fox.txt`` (or ``fox.txt`` in the folder itself) are one pair.
"""

from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...models.port import EncodesImages
from ...rewards.port import Origin
from ...support.files import read_text
from ...support.pixels import PICTURES, rgb_of
from .voted import Found, Voted

SIDES = ("better", "worse")
_CAPTIONS = (".txt", ".caption")


def pairs_in(folder: Path, model: EncodesImages) -> Found:
    """The pairs of a folder as groups of two that were voted on.

    Pictures are cut and scaled to the size of the model's images. One that cannot be read, has no partner or no caption
    is a fault, and the others are pairs all the same.

    Raises:
        ValueError: no folder of pairs, no pair in it, or the model makes no latents of pictures.
    """
    found = [_pictures(folder / side) for side in SIDES]
    names = [name for name in found[0] if name in found[1]]
    faults = [
        f"{path} has no partner of its name in {folder / other}"
        for own, others, other in ((found[0], found[1], SIDES[1]), (found[1], found[0], SIDES[0]))
        for name, path in own.items()
        if name not in others
    ]
    groups = []
    for name in names:
        try:
            caption = _caption(folder, name)
            images = torch.stack([_picture(side[name], model.resolution) for side in found])
        except (ValueError, OSError) as error:
            faults.append(str(error))
            continue
        groups.append(_pair(name, caption, model.encode_image(images)))
    if not groups:
        told = f" ({faults[0]})" if faults else ""
        raise ValueError(
            f"expected pairs of pictures of one name in {folder}/better and {folder}/worse, found none{told}"
        )
    return Found(groups=groups, without=0, faults=faults)


def _pair(name: str, caption: str, latents: Tensor) -> Voted:
    origin = Origin(seed=0, sigmas=torch.tensor([1.0, 0.0]))
    return Voted(name=name, prompt=caption, latents=latents.cpu(), shares=torch.tensor([1.0, 0.0]), origin=origin)


def _pictures(folder: Path) -> dict[str, Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    except OSError as error:
        raise ValueError(
            f"expected a folder of pictures at {folder} ({error.strerror}): give the folder that holds the pairs"
        ) from error
    return {path.stem: path for path in files}


def _caption(folder: Path, name: str) -> str:
    for place in (folder / SIDES[0], folder, folder / SIDES[1]):
        for suffix in _CAPTIONS:
            file = place / f"{name}{suffix}"
            if file.is_file():
                words = " ".join(read_text(file).split())
                if words:
                    return words
    raise ValueError(f"expected a caption in {folder / SIDES[0] / f'{name}.txt'}, found none: write one line there")


def _picture(path: Path, size: tuple[int, int]) -> Tensor:
    """``[H, W, 3]`` in 0..1: the middle of the picture, in the model's size."""
    try:
        with Image.open(path) as opened:
            pixels = rgb_of(opened)
    except Exception as error:  # each format of Pillow has its own errors
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error
    height, width = size
    whole = Image.fromarray((pixels * 255).round().astype("uint8"))
    fitted = ImageOps.fit(whole, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(rgb_of(fitted))
