"""Labelled contact sheets: rows of prompts, columns of variants, words on the picture."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..support.pixels import to_image

_INK, _PAPER, _GAP = (24, 24, 27), (250, 250, 249), 6


def labelled_grid(
    cells: Sequence[Sequence[Tensor | Image.Image]],
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    tile: int = 128,
    title: str = "",
) -> Image.Image:
    """A sheet of images.

    Args:
        cells: per row and column a picture ``[H, W, 3]``, or several ``[n, H, W, 3]`` that stand side by side; or their
            `strip`, which needs less memory.
        rows, columns: their labels.
        captions: words under each cell.
        tile: height of a picture in pixels.
    """
    strips = [[strip(cell, tile) if isinstance(cell, Tensor) else cell for cell in row] for row in cells]
    font, small = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    margin, foot = 190, 18 if captions else 0
    head = 30 + (28 if title else 0)
    widths = [max(row[i].width for row in strips) + _GAP for i in range(len(columns))]
    height = head + len(strips) * (tile + foot + _GAP)
    sheet = Image.new("RGB", (margin + sum(widths), height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((8, 8), title, fill=_INK, font=ImageFont.load_default(size=18))
    for i, label in enumerate(columns):
        draw.text((margin + sum(widths[:i]), head - 24), label, fill=_INK, font=font)
    for y, (label, row) in enumerate(zip(rows, strips, strict=True)):
        top = head + y * (tile + foot + _GAP)
        draw.multiline_text((8, top + 4), textwrap.fill(label, 24), fill=_INK, font=small)
        for x, cell in enumerate(row):
            left = margin + sum(widths[:x])
            sheet.paste(cell, (left, top))
            if captions:
                draw.text((left, top + tile + 2), captions[y][x], fill=_INK, font=small)
    return sheet


def strip(cell: Tensor, tile: int) -> Image.Image:
    """A picture ``[H, W, 3]``, or several ``[n, H, W, 3]`` side by side, ``tile`` pixels high."""
    pictures = [to_image(image) for image in (cell if cell.ndim == 4 else cell[None])]
    scaled = [picture.resize((round(picture.width * tile / picture.height), tile)) for picture in pictures]
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in scaled], axis=1))
