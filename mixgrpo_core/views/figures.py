"""Drawings of a run: the window plan, and the report at its end (matplotlib, no display needed)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..objectives.figures import UpdateStats
from ..settings.config import TrainConfig

if TYPE_CHECKING:  # half a second: only who draws waits for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 3  # panels of what an update reported besides
_MOVES = ("move", "move_target")
_ROWS = 1000  # of a plan's drawing: more than it has pixels
_BLUE, _ORANGE, _GREY, _GREEN = "#2563eb", "#ea580c", "#a1a1aa", "#16a34a"


def plan_figure(config: TrainConfig, path: Path, *, prompt: int = 0, caption: str = "") -> None:
    """What is trained when: steps across, iterations down, the sigma curve above; ``caption`` below."""
    iterations = config.foreseen
    rows = min(iterations, _ROWS)
    grid = np.zeros((rows, config.steps))
    for row in range(rows):
        plan = config.plan(row * iterations // rows, prompt, config.sigmas())
        grid[row, : len(plan.steps)] = 1
        grid[row, list(plan.stochastic)] = 2
        grid[row, list(plan.trained)] = 3
    figure = _figure(8, 6)
    top, below = figure.subplots(2, 1, height_ratios=(1, 3), sharex=True)
    top.plot(np.arange(config.steps + 1), config.sigmas().numpy(), color=_BLUE, marker=".", linewidth=1)
    top.set_ylabel("sigma")
    top.set_title(
        "noise                                        structure  →  detail                                        image"
    )
    colours = {1: "#e4e4e7", 2: "#fdba74", 3: _ORANGE}
    canvas = np.ones((*grid.shape, 3))
    for value, colour in colours.items():
        canvas[grid == value] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    below.imshow(canvas, aspect="auto", interpolation="nearest", extent=(0, config.steps, iterations, 0))
    below.set_xlabel(
        "denoising step (orange: SDE, trained; pale orange: SDE; grey: ODE; white: saved by the short tail)"
    )
    below.set_ylabel("iteration (it goes on until it is stopped)" if config.endless else "iteration")
    if caption:
        figure.supxlabel(caption, fontsize=10)
    _save(figure, path)


def report_figure(
    metrics: Sequence[Mapping[str, Any]], config: TrainConfig, path: Path, grid: Image.Image | None = None
) -> None:
    """Reward curves, window, health and seconds of a run, and its before/after grid."""
    others = _other_figures(metrics)
    ratios: list[float] = [4, 2, 2, *[2] * -(-len(others) // _ACROSS)]
    ratios += [] if grid is None else [10.2 * grid.height / grid.width]
    figure = _figure(11, sum(ratios))
    panels = figure.add_gridspec(len(ratios), 2 * _ACROSS, height_ratios=ratios)
    left, right = slice(None, _ACROSS), slice(_ACROSS, None)
    _rewards(figure.add_subplot(panels[0, :]), metrics)
    _window(figure.add_subplot(panels[1, left]), metrics, config)
    _health(figure.add_subplot(panels[1, right]), metrics)
    _line(figure.add_subplot(panels[2, left]), metrics, "grad_norm", "gradient norm")
    _seconds(figure.add_subplot(panels[2, right]), metrics)
    for number, names in enumerate(others):
        row, column = divmod(number, _ACROSS)
        _other(figure.add_subplot(panels[3 + row, 2 * column : 2 * column + 2]), metrics, names)
    if grid is not None:
        axes = figure.add_subplot(panels[-1, :])
        axes.imshow(np.asarray(grid))
        axes.set_axis_off()
    _save(figure, path)


def _rewards(axes: "Axes", metrics: Sequence[Mapping[str, Any]]) -> None:
    steps = np.array([report["iteration"] + 1 for report in metrics])
    for name in metrics[0]["rewards"] if metrics else ():
        means = np.array([_number(report["rewards"][name]["mean"]) for report in metrics])
        spread = np.array([_number(report["rewards"][name]["spread"]) for report in metrics])
        (line,) = axes.plot(steps, means, linewidth=1.2, label=f"{name}, rollouts (band: spread)")
        axes.fill_between(steps, means - spread, means + spread, color=line.get_color(), alpha=0.12, linewidth=0)
    held_out: dict[str, list[tuple[int, float]]] = {}
    for report in metrics:
        for evaluation in report["evaluations"]:
            for name, stats in evaluation["rewards"].items():
                held_out.setdefault(name, []).append((evaluation["iteration"], _number(stats["mean"])))
    for name, points in held_out.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1, label=f"{name}, held out (ODE)")
    warned = [report["iteration"] + 1 for report in metrics if report.get("warnings")]  # older runs have no guards
    for place, iteration in enumerate(warned):
        label = "a guard warned" if not place else None
        axes.axvline(iteration, color=_ORANGE, linestyle=":", linewidth=1, label=label)
    axes.set_xlabel("iteration")
    axes.set_ylabel("reward")
    axes.legend(fontsize=8, ncols=2)
    axes.grid(alpha=0.25)


def _window(axes: "Axes", metrics: Sequence[Mapping[str, Any]], config: TrainConfig) -> None:
    for report in metrics:
        start, stop = report["window"]
        axes.plot([report["iteration"]] * 2, [start, stop], color=_ORANGE, linewidth=2, solid_capstyle="butt")
    axes.set_ylim(0, config.steps)
    axes.set_xlabel("iteration")
    axes.set_ylabel("trained steps")


def _health(axes: "Axes", metrics: Sequence[Mapping[str, Any]]) -> None:
    steps = [report["iteration"] + 1 for report in metrics]
    for name, colour in (("clip_low", _BLUE), ("clip_high", _GREEN)):
        axes.plot(steps, [_number(report["update"][name]) for report in metrics], color=colour, label=name, linewidth=1)
    axes.plot(
        steps, [report["flat_groups"] for report in metrics], color=_GREY, label="groups without spread", linewidth=1
    )
    axes.set_ylim(0, 1)
    axes.set_xlabel("iteration")
    axes.legend(fontsize=7)


def _other_figures(metrics: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Names of what updates reported besides what every run has, those of a panel together."""
    usual = {*UpdateStats(steps=0).to_json(), "loss"}
    names = dict.fromkeys(name for report in metrics for name in report["update"] if name not in usual)
    moves = [name for name in _MOVES if name in names]
    return [*([moves] if moves else []), *([name] for name in names if name not in moves)]


def _other(axes: "Axes", metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Figures in a panel of their own: a rate of 1e-4 would be invisible beside a share."""
    steps = [report["iteration"] + 1 for report in metrics]
    for name, colour in zip(names, (_BLUE, _GREY), strict=False):
        values = [_number(report["update"].get(name)) for report in metrics]
        axes.plot(steps, values, label=name, color=colour, linewidth=1, zorder=2 if colour == _BLUE else 1)
    if names[0] in _MOVES:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
    if names[0] == "rate":
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_formatter("{x:.0e}")
        axes.yaxis.set_minor_formatter("{x:.0e}" if high < 10 * low else "")
    if len(names) > 1:
        axes.legend(fontsize=7)
    axes.set_xlabel("iteration")
    axes.set_ylabel(names[0])
    axes.grid(alpha=0.25, which="both")


def _line(axes: "Axes", metrics: Sequence[Mapping[str, Any]], name: str, label: str) -> None:
    steps = [report["iteration"] + 1 for report in metrics]
    axes.plot(steps, [_number(report["update"][name]) for report in metrics], color=_BLUE, linewidth=1)
    axes.set_xlabel("iteration")
    axes.set_ylabel(label)


def _seconds(axes: "Axes", metrics: Sequence[Mapping[str, Any]]) -> None:
    phases = sorted({phase for report in metrics for phase in report["seconds"]})
    steps = [report["iteration"] + 1 for report in metrics]
    series = [[report["seconds"].get(phase, 0.0) for report in metrics] for phase in phases]
    if metrics:
        axes.stackplot(steps, series, labels=phases, alpha=0.8)
        axes.legend(fontsize=7, ncols=2)
    axes.set_xlabel("iteration")
    axes.set_ylabel("seconds")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=110)
