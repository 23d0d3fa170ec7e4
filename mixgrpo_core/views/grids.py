"""Labelled contact sheets: rows of prompts, columns of variants, words on the picture that can be read in a node."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ..support.pixels import to_image
from .lettering import font_for, line_height, wrapped

_INK, _FAINT, _PAPER, _GAP = (24, 24, 27), (96, 96, 104), (250, 250, 249), 8
_NAME_LINES, _CAPTION_LINES = 2, 4


def labelled_grid(
    cells: Sequence[Sequence[Tensor | Image.Image]],
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    tile: int = 128,
    title: str = "",
) -> Image.Image:
    """A sheet of images: a row's name stands above its pictures, the columns' names above all.

    Args:
        cells: per row and column a picture ``[H, W, 3]`` in 0..1, or several ``[n, H, W, 3]`` that stand side by side;
            or their `strip`, which needs less memory.
        rows, columns: their names.
        captions: words under each cell.
        tile: height of a picture in pixels.
        title: of the whole sheet.
    """
    strips = [[strip(cell, tile) if isinstance(cell, Tensor) else cell for cell in row] for row in cells]
    widths = [max(row[place].width for row in strips) for place in range(len(columns))]
    lefts = [_GAP + sum(widths[:place]) + 2 * _GAP * place for place in range(len(columns))]
    whole = lefts[-1] + widths[-1] + _GAP
    font = font_for(whole)
    line = line_height(font)
    names = [wrapped(row, font, whole - 2 * _GAP, _NAME_LINES) for row in rows]
    heads = [wrapped(column, font, width, _NAME_LINES) for column, width in zip(columns, widths, strict=True)]
    feet = [
        [wrapped(text, font, width, _CAPTION_LINES) for text, width in zip(row, widths, strict=True)]
        for row in captions or [[""] * len(columns)] * len(rows)
    ]
    below = [max(map(len, foot)) if captions else 0 for foot in feet]
    above = wrapped(title, font, whole - 2 * _GAP, _NAME_LINES) if title else []
    tops, bottom = [], _GAP + line * (len(above) + max(map(len, heads)))
    for name, lines in zip(names, below, strict=True):
        tops.append(bottom)
        bottom += line * (len(name) + lines) + tile + 2 * _GAP
    sheet = Image.new("RGB", (whole, bottom), _PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(lines: Sequence[str], left: int, top: int, ink: tuple[int, int, int]) -> None:
        for place, words in enumerate(lines):
            draw.text((left, top + place * line), words, fill=ink, font=font)

    write(above, _GAP, _GAP // 2, _INK)
    for left, head in zip(lefts, heads, strict=True):
        write(head, left, _GAP // 2 + line * len(above), _INK)
    for top, name, foot, row in zip(tops, names, feet, strips, strict=True):
        write(name, _GAP, top, _FAINT)
        for left, picture, words in zip(lefts, row, foot, strict=True):
            sheet.paste(picture, (left, top + line * len(name) + _GAP // 2))
            write(words, left, top + line * len(name) + tile + _GAP, _INK)
    return sheet


def strip(cell: Tensor, tile: int) -> Image.Image:
    """A picture ``[H, W, 3]``, or several ``[n, H, W, 3]`` side by side, ``tile`` pixels high."""
    pictures = [to_image(image) for image in (cell if cell.ndim == 4 else cell[None])]
    scaled = [picture.resize((round(picture.width * tile / picture.height), tile)) for picture in pictures]
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in scaled], axis=1))
