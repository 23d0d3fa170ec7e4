"""Grids whose words are read in a node: each picture is whole beside its words."""

import numpy as np
import torch
from mixgrpo_pack.nodes.live import sheet

PROMPT = "a small red circle on the left of a large blue square"


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
