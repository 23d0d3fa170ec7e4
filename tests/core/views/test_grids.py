"""Contact sheets."""

import torch

from mixgrpo_core.views.grids import labelled_grid, strip


def test_a_sheet_of_strips_is_the_sheet_of_the_pictures():
    torch.manual_seed(0)
    cells = [[torch.rand(2, 24, 36, 3), torch.rand(24, 36, 3)], [torch.rand(2, 24, 36, 3), torch.rand(24, 36, 3)]]
    strips = [[strip(cell, 12) for cell in row] for row in cells]
    assert [cell.size for cell in strips[0]] == [(36, 12), (18, 12)]
    words = (("one", "two"), ("a", "b"))
    assert labelled_grid(strips, *words, tile=12).tobytes() == labelled_grid(cells, *words, tile=12).tobytes()
