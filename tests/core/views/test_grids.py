"""Contact sheets, with words that can be read where the sheet is shown, whole, and beside the right pictures."""

import torch

from mixgrpo_core.views.grids import labelled_grid, strip
from mixgrpo_core.views.lettering import NODE_WIDTH, READABLE, font_for, line_height, wrapped

PROMPT = "a small red circle on the left of a large blue square"


def test_a_sheet_of_strips_is_the_sheet_of_the_pictures():
    torch.manual_seed(0)
    cells = [[torch.rand(2, 24, 36, 3), torch.rand(24, 36, 3)], [torch.rand(2, 24, 36, 3), torch.rand(24, 36, 3)]]
    strips = [[strip(cell, 12) for cell in row] for row in cells]
    assert [cell.size for cell in strips[0]] == [(36, 12), (18, 12)]
    words = (("one", "two"), ("a", "b"))
    assert labelled_grid(strips, *words, tile=12).tobytes() == labelled_grid(cells, *words, tile=12).tobytes()


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
    grid = labelled_grid(cells, [PROMPT] * 4, ("without the LoRA", "with the LoRA"), tile=160)
    colours = {colour: count for count, colour in grid.getcolors(1 << 20)}
    for shade in shades:
        assert colours[(round(float(shade) * 255),) * 3] >= 2 * 160 * 160
    column = [grid.getpixel((20, y)) for y in range(grid.height)]
    first = column.index((round(float(shades[0]) * 255),) * 3)
    second = column.index((round(float(shades[2]) * 255),) * 3)
    assert second - first - 160 >= line_height(font_for(grid.width)), "there is room for the words"
    assert grid.getpixel((grid.width - 20, first + 80)) == (round(float(shades[1]) * 255),) * 3


def test_a_title_and_captions_of_several_lines_have_room_of_their_own():
    cells = [[torch.full((2, 40, 40, 3), 0.4), torch.full((2, 40, 40, 3), 0.6)]]
    words = (["a prompt"], ["one", "two"])
    plain = labelled_grid(cells, *words, tile=40)
    line = line_height(font_for(plain.width))
    long = "shape 0.1234  bright 0.5678  aesthetic 0.9012"
    made = labelled_grid(cells, *words, [[long, "x"]], tile=40, title="a set: colours")
    lines = len(wrapped(long, font_for(plain.width), 80, 4))
    assert lines > 2 and made.height == plain.height + line * (1 + lines)
    for shade in (0.4, 0.6):
        assert dict(map(reversed, made.getcolors(1 << 20)))[(round(shade * 255),) * 3] >= 2 * 40 * 40
