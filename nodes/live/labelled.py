"""Grids of pictures with rows and columns that have names, to be looked at in a node."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ...mixgrpo_core.views.grids import strip
from .lettering import font_for, line_height, wrapped

_INK, _FAINT, _PAPER, _GAP = (24, 24, 27), (96, 96, 104), (250, 250, 249), 8


def labelled(
    cells: Sequence[Sequence[Tensor]],
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    tile: int,
) -> Image.Image:
    """A row's name stands above its pictures, the columns' names above all.

    Args:
        cells: per row and column a picture ``[H, W, 3]`` in 0..1, or several ``[n, H, W, 3]`` that stand side by side.
        rows, columns: their names.
        captions: words under each cell.
        tile: height of a picture in pixels.
    """
    strips = [[strip(cell, tile) for cell in row] for row in cells]
    widths = [max(row[place].width for row in strips) for place in range(len(columns))]
    lefts = [_GAP + sum(widths[:place]) + 2 * _GAP * place for place in range(len(columns))]
    whole = lefts[-1] + widths[-1] + _GAP
    font = font_for(whole)
    line = line_height(font)
    names = [wrapped(row, font, whole - 2 * _GAP, 2) for row in rows]
    heads = [wrapped(column, font, width, 2) for column, width in zip(columns, widths, strict=True)]
    below = [[wrapped(text, font, widths[x], 2) for x, text in enumerate(row)] for row in captions or [[]] * len(rows)]
    tops, bottom = [], _GAP + line * max(map(len, heads))
    for name, foot in zip(names, below, strict=True):
        tops.append(bottom)
        bottom += line * (len(name) + max(map(len, foot), default=0)) + tile + 2 * _GAP
    sheet = Image.new("RGB", (whole, bottom), _PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(lines: Sequence[str], left: int, top: int, ink: tuple[int, int, int]) -> None:
        for place, words in enumerate(lines):
            draw.text((left, top + place * line), words, fill=ink, font=font)

    for left, head in zip(lefts, heads, strict=True):
        write(head, left, _GAP // 2, _INK)
    for top, name, foot, row in zip(tops, names, below, strips, strict=True):
        write(name, _GAP, top, _FAINT)
        for x, picture in enumerate(row):
            sheet.paste(picture, (lefts[x], top + line * len(name) + _GAP // 2))
            if foot:
                write(foot[x], lefts[x], top + line * len(name) + tile + _GAP, _INK)
    return sheet
