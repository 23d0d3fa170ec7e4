"""Drawings of a run: what a picture shows is seen in its pixels."""

import numpy as np
from PIL import Image

from mixgrpo_core import TrainConfig
from mixgrpo_core.views.figures import report_figure

STATS = {"mean": 0.3, "spread": 0.1, "valid": 24, "count": 24, "within_group": 0.1}
USUAL = {"steps": 4, "loss": -0.01, "clip_low": 0.05, "clip_high": 0.04, "kl": None, "ratio_first": 2e-6}
USUAL |= {"ratio_max": 2e-3, "grad_norm": 1.0, "ratio_noise": 2e-6, "recomputed": False}


def drawn(path, **figures):
    """A run's report, with figures of its updates that are functions of the iteration."""
    reports = [
        {
            "iteration": number,
            "rewards": {"taste": STATS},
            "evaluations": [],
            "flat_groups": 0.1,
            "window": [0, 4],
            "seconds": {"rollout": 1.0},
            "update": {**USUAL, **{name: figure(number) for name, figure in figures.items()}},
        }
        for number in range(12)
    ]
    report_figure(reports, TrainConfig(iterations=12), path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


FIGURES = {
    "move": lambda number: 0.05,
    "move_target": lambda number: 0.05 - 0.002 * number,
    "rate": lambda number: 1e-4 * 1.2**number,
    "dropped": lambda number: 0.3,
    "kl_step": lambda number: 1e-6 * number,
}


def test_figures_of_other_sizes_are_each_legible(tmp_path):
    """A bump of half a figure is seen, however small it is beside the others."""
    plain = drawn(tmp_path / "plain.png", **FIGURES)
    for name in ("move", "rate"):
        figure = FIGURES[name]
        bump = {name: lambda number, figure=figure: figure(number) * (0.5 if number == 6 else 1.0)}
        changed = (plain != drawn(tmp_path / "bump.png", **FIGURES | bump)).any(-1)
        rows = np.flatnonzero(changed.any(1))
        assert changed.sum() > 50 and rows[-1] - rows[0] > 15, f"the line of {name} goes another way"
