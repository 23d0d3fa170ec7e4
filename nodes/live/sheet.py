"""Contact sheets: the images of a group in a grid, best and worst framed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from ...mixgrpo_core.advantages.group import has_spread
from ...mixgrpo_core.rewards.port import Scores
from ...mixgrpo_core.views.lettering import font_for, line_height, wrapped

LARGEST_TILE = 512
FRAME = 8
"""Pixels around a tile: a block of JPEG, so that the frame's colour does not run into the tile."""
LINE = 4
SMALLEST_SAMPLE, WIDEST_READABLE = 192, 4
"""Pixels of a sample, and tiles in a row whose words can be read in a node: more would leave no room for words."""
_PLAIN, _BEST, _WORST, _INK = (38, 38, 42), (34, 197, 94), (239, 68, 68), (244, 244, 245)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of a group: its scores by reward (None where masked), its advantage, and whether it stands out."""

    scores: Mapping[str, float | None]
    advantage: float
    best: bool = False
    worst: bool = False


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A grid of equal tiles, row by row.

    Attributes:
        image: the picture; every tile has a frame of ``FRAME`` pixels around it.
        columns: tiles in a row.
        size: width and height of a tile within its frame, pixels.
        tiles: what belongs to each.
    """

    image: Image.Image
    columns: int
    size: tuple[int, int]
    tiles: tuple[Tile, ...]

    def layout(self) -> dict[str, Any]:
        """JSON values that let a browser cut the tiles out of the picture."""
        return {
            "columns": self.columns,
            "tile": {"width": self.size[0], "height": self.size[1], "frame": FRAME},
            "tiles": [vars(tile) | {"scores": dict(tile.scores)} for tile in self.tiles],
        }

    def corner(self, index: int) -> tuple[int, int]:
        """Upper left pixel of a tile's frame."""
        row, column = divmod(index, self.columns)
        return column * (self.size[0] + 2 * FRAME), row * (self.size[1] + 2 * FRAME)


def contact_sheet(images: Tensor, scores: Mapping[str, Scores], advantage: Tensor) -> Sheet:
    """The sheet of a group: ``images [G, H, W, 3]`` in 0..1, scores by reward, advantages ``[G]``.

    Tiles are at most ``LARGEST_TILE`` pixels wide or high. Best and worst are those of the highest and the lowest
    advantage among images that have a score; a group without spread has neither.
    """
    tiles = _tiles(scores, advantage.detach().float().cpu())
    pictures = _pictures(images)
    size, columns = pictures[0].size, columns_for(len(pictures), pictures[0].size)
    rows = math.ceil(len(pictures) / columns)
    image = Image.new("RGB", (columns * (size[0] + 2 * FRAME), rows * (size[1] + 2 * FRAME)), _PLAIN)
    sheet = Sheet(image=image, columns=columns, size=size, tiles=tiles)
    for index, (picture, tile) in enumerate(zip(pictures, tiles, strict=True)):
        left, top = sheet.corner(index)
        if tile.best or tile.worst:
            inset = FRAME - LINE
            right, bottom = left + size[0] + 2 * FRAME - 1, top + size[1] + 2 * FRAME - 1
            box = (left + inset, top + inset, right - inset, bottom - inset)
            ImageDraw.Draw(image).rectangle(box, fill=_BEST if tile.best else _WORST)
        image.paste(picture, (left + FRAME, top + FRAME))
    return sheet


def columns_for(count: int, size: tuple[int, int]) -> int:
    """Columns that make a grid of ``count`` tiles about 3:2, with as few empty places as that allows."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        shape = columns * size[0] / (rows * size[1])
        return abs(math.log(shape / 1.5)) + (columns * rows - count) / count

    return min(range(1, count + 1), key=cost)


def captioned(images: Tensor, captions: list[str]) -> Image.Image:
    """``[B, H, W, 3]`` in a grid, a caption under each; captions may have several lines."""
    if len(captions) != len(images):
        raise ValueError(f"expected a caption for each of {len(images)} images, found {len(captions)}")
    pictures = _pictures(images)
    scale = max(1, round(SMALLEST_SAMPLE / max(pictures[0].size)))
    width, height = (scale * side for side in pictures[0].size)
    columns = columns_for(len(pictures), (width, height))
    font = font_for(min(columns * (width + FRAME), WIDEST_READABLE * width))
    lines = [[part for text in words.split("\n") for part in wrapped(text, font, width, 3)] for words in captions]
    line = line_height(font)
    foot = line * max(map(len, lines)) + 4
    step = (width + FRAME, height + FRAME + foot)
    image = Image.new("RGB", (columns * step[0], math.ceil(len(pictures) / columns) * step[1]), _PLAIN)
    draw = ImageDraw.Draw(image)
    for index, (picture, words) in enumerate(zip(pictures, lines, strict=True)):
        left, top = (index % columns) * step[0] + FRAME // 2, (index // columns) * step[1] + FRAME // 2
        image.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        for place, text in enumerate(words):
            draw.text((left, top + height + 2 + place * line), text, fill=_INK, font=font)
    return image


def save(sheet: Sheet, run: str) -> Path:
    """Write the sheet to the host's temp folder; a run has one, which the next one replaces."""
    folder = Path(folder_paths.get_temp_directory()) / "mixgrpo"
    folder.mkdir(parents=True, exist_ok=True)
    name = run.replace("/", "~")  # which no name of a run holds
    path, partial = folder / f"{name}.jpg", folder / f"{name}.part"
    sheet.image.save(partial, format="JPEG", quality=92, subsampling=0)
    partial.replace(path)
    return path


def _tiles(scores: Mapping[str, Scores], advantage: Tensor) -> tuple[Tile, ...]:
    count = len(advantage)
    values = [
        {name: float(found.values[i]) if bool(found.valid[i]) else None for name, found in scores.items()}
        for i in range(count)
    ]
    scored = [i for i in range(count) if any(value is not None for value in values[i].values())]
    spread = has_spread(advantage) and len(scored) > 1
    best = max(scored, key=lambda i: float(advantage[i])) if spread else None
    worst = min(scored, key=lambda i: float(advantage[i])) if spread else None
    return tuple(
        Tile(scores=values[i], advantage=float(advantage[i]), best=i == best, worst=i == worst) for i in range(count)
    )


def _pictures(images: Tensor) -> list[Image.Image]:
    """Pictures of at most ``LARGEST_TILE``, made smaller where the images are: that may be a GPU."""
    pixels = images.detach().float().clamp(0, 1).movedim(-1, 1)
    scale = LARGEST_TILE / max(pixels.shape[-2:])
    if scale < 1:
        pixels = interpolate(pixels, scale_factor=scale, mode="area")
    in_bytes = (pixels.movedim(1, -1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(picture) for picture in in_bytes]
