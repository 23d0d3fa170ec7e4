"""Grids whose words are read in a node: large enough there, whole, and beside the right pictures."""

import numpy as np
import torch
from mixgrpo_pack.nodes.live import sheet
from mixgrpo_pack.nodes.live.labelled import labelled
from mixgrpo_pack.nodes.live.lettering import NODE_WIDTH, READABLE, font_for, line_height, wrapped

PROMPT = "a small red circle on the left of a large blue square"


def test_letters_are_as_large_as_can_be_read_where_the_picture_is_shown():
    for width in (200, NODE_WIDTH, 1300, 4000):
        assert font_for(width).size * min(1, NODE_WIDTH / width) >= READABLE


def test_a_caption_is_wrapped_and_only_then_cut():
    font = font_for(NODE_WIDTH)
    lines = wrapped(PROMPT, font, 150, 9)
    assert " ".join(lines) == PROMPT and len(lines) > 1 and all(font.getlength(line) <= 150 for line in lines)
    cut = wrapped(f"{PROMPT} and a cross", font, 150, 2)
    assert cut[0] == lines[0] and len(cut) == 2 and cut[1].endswith("…") and font.getlength(cut[1]) <= 150
    [word] = wrapped("W" * 99, font, 150, 3)
    assert word.endswith("…") and font.getlength(word) <= 150


def test_pictures_of_before_and_after_stand_in_their_row_and_column_with_the_prompt_above():
    shades = torch.arange(1, 9) * 28 / 255
    cells = [[shades[2 * i + j].expand(2, 40, 40, 3) for j in range(2)] for i in range(4)]
    grid = labelled(cells, [PROMPT] * 4, ("without the LoRA", "with the LoRA"), tile=160)
    colours = {colour: count for count, colour in grid.getcolors(1 << 20)}
    for shade in shades:
        assert colours[(round(float(shade) * 255),) * 3] >= 2 * 160 * 160
    column = [grid.getpixel((20, y)) for y in range(grid.height)]
    first = column.index((round(float(shades[0]) * 255),) * 3)
    second = column.index((round(float(shades[2]) * 255),) * 3)
    assert second - first - 160 >= line_height(font_for(grid.width)), "there is room for the words"
    assert grid.getpixel((grid.width - 20, first + 80)) == (round(float(shades[1]) * 255),) * 3


def test_the_pictures_of_a_sheet_are_whole_beside_their_words():
    images = torch.stack([torch.full((20, 30, 3), shade) for shade in (0.2, 0.4, 0.6)])
    made = sheet.captioned(images, ["black", PROMPT, "white\nand more"])
    scale = max(1, round(sheet.SMALLEST_SAMPLE / 30))
    for image in images:
        colour = (round(float(image[0, 0, 0]) * 255),) * 3
        there = torch.from_numpy((np.asarray(made) == colour).all(-1))
        rows, columns = there.any(1).nonzero(), there.any(0).nonzero()
        box = there[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.shape == (20 * scale, 30 * scale) and bool(box.all())
