"""Words on pictures that are looked at in a node: large enough to be read there."""

import math

from PIL import ImageFont

NODE_WIDTH, READABLE = 420, 11
"""Pixels of a picture in a node, and of letters that can be read there."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font_for(width: int) -> Font:
    """One that can be read in a picture of ``width`` pixels that is shown in a node."""
    return ImageFont.load_default(size=max(READABLE, math.ceil(width * READABLE / NODE_WIDTH)))


def line_height(font: Font) -> int:
    """Pixels from one line to the next."""
    return math.ceil(font.getbbox("Ag")[3]) + 2


def wrapped(text: str, font: Font, width: int, most: int) -> list[str]:
    """The text in at most ``most`` lines of ``width`` pixels; what has no room is left out."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_fitted(line, font, width) for line in lines]


def _fitted(text: str, font: Font, width: int) -> str:
    """The text, or as much of its beginning as fits ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
