"""Time left: kinds of work apart, by a clock that the test turns."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mixgrpo_core import FrozenWindow, SlidingWindow, TrainConfig, WindowPlanner
from mixgrpo_core.demo import demo_config
from mixgrpo_core.evaluation.held_out import Evaluation
from mixgrpo_core.objectives.figures import UpdateStats
from mixgrpo_core.runs.reports import Pictured, Progress, StepReport
from mixgrpo_core.training.gallery import is_due
from mixgrpo_core.training.pace import Pace
from mixgrpo_core.training.workload import Rates, Workload

DEMO = Path(__file__).parents[2] / "data" / "demo_seconds.json"
"""Seconds by phase of the first 28 iterations of the demo, on two quiet cores."""
ROLLOUT, DECODE, TRAIN, SAVING, EVALUATION, ENTRY = 6.0, 2.0, 4.0, 1.0, 50.0, 3.0
STEADY = {"rollout": ROLLOUT, "decode": DECODE, "train": TRAIN}
STEPS = 8


def config(iterations, eval_every=0):
    """Settings of which every iteration costs the same: 80 images, so that the gallery has an entry whenever due."""
    window = WindowPlanner(window=FrozenWindow(size=2))
    sizes = {"images_per_prompt": 8, "prompts_per_iteration": 10, "steps": STEPS, "updates": 1}
    return TrainConfig(iterations=iterations, eval_every=eval_every, eval_images=2, planner=window, **sizes)


def report(iteration, seconds, evaluations):
    return StepReport(
        iteration=iteration,
        rewards={},
        evaluations=[Evaluation(iteration=iteration, rewards={}, scores={})] * evaluations,
        update=UpdateStats(steps=1, figures={}),
        flat_groups=0.0,
        window=(0, 2),
        sigmas=[1.0, 0.5, 0.0],
        nfe={},
        seconds=seconds,
        peak_memory=0,
        trajectory_bytes=0,
    )


class Run:
    """A run that keeps to its times: entries of the gallery, iterations and evaluations, images at the end."""

    def __init__(self, config, *, at_the_end=0, shown=4, foretold=None):
        self.now, self.config, self.shown = 0.0, config, shown
        self.work = Workload(config, held_out=3, shown=shown, images_at_the_end=at_the_end)
        self.pace = Pace(self.work, foretold, clock=lambda: self.now)

    def evaluations(self, iteration):
        if not self.config.eval_every:
            return 0
        after = (iteration + 1) % self.config.eval_every == 0 or iteration + 1 == self.config.iterations
        return (iteration == 0) + after

    def entry(self, iteration):
        self.now += ENTRY
        self.pace.hear(Pictured(iteration=iteration, seconds=ENTRY))

    def iteration(self, number, seconds, saving=SAVING, evaluations=0):
        self.pace.hear(Progress(iteration=number, phase="rollout", done=0, total=1))
        self.now += sum(seconds.values()) + saving
        self.pace.finished(report(number, seconds, evaluations))

    def go(self, first=0):
        """After every iteration: what is said to be left."""
        said = {}
        for number in range(first, self.config.iterations):
            if self.shown and is_due(self.config, number):
                self.entry(number)
            looks = self.evaluations(number)
            self.iteration(number, {**STEADY, "evaluation": looks * EVALUATION}, evaluations=looks)
            said[number + 1] = (self.now, self.pace.seconds_left(number + 1))
        if self.shown:
            self.entry(self.config.iterations)
        return said


@pytest.mark.parametrize("shown", [0, 4])
@pytest.mark.parametrize(
    ("iterations", "eval_every", "at_the_end"),
    [(55, 10, 32), (50, 10, 0), (7, 3, 8), (5, 100, 8), (9, 0, 8), (1, 1, 8)],
)
def test_a_steady_run_is_foretold_from_its_first_iteration_on(iterations, eval_every, at_the_end, shown):
    run = Run(config(iterations, eval_every), at_the_end=at_the_end, shown=shown)
    assert run.pace.seconds_left(0) is None
    said = run.go()
    rates = run.pace.rates
    over = run.now + at_the_end * (STEPS * rates.row + rates.decoded)
    assert [left for _, left in said.values()] == pytest.approx([over - now for now, _ in said.values()])


def test_the_first_evaluation_and_the_gallery_do_not_count_as_pace():
    run = Run(config(40, 10))
    run.entry(0)
    run.iteration(0, {**STEADY, "evaluation": EVALUATION}, evaluations=1)
    assert run.pace.seconds_per_iteration == ROLLOUT + DECODE + TRAIN + SAVING
    entries = sum(is_due(run.config, number) for number in range(1, 41))
    assert entries == 8
    assert run.pace.seconds_left(1) == pytest.approx(39 * 13 + 4 * EVALUATION + entries * ENTRY)


def test_time_goes_by_within_an_iteration_and_no_longer_than_it_should_take():
    run = Run(config(10), shown=0)
    run.iteration(0, {"rollout": 10.0}, saving=0.0)
    assert run.pace.seconds_left(1) == pytest.approx(90)
    run.now += 4
    assert run.pace.seconds_left(1) == pytest.approx(86)
    run.now += 500
    assert run.pace.seconds_left(1) == pytest.approx(80)  # one that takes long does not eat up the others' time


def test_loading_and_a_resume_do_not_count():
    run = Run(config(10), shown=0)
    run.now += 60
    run.iteration(4, {"rollout": 10.0}, saving=0.0)
    run.pace.start()
    run.now += 60
    run.iteration(5, {"rollout": 10.0}, saving=0.0)
    assert run.pace.seconds_left(6) == pytest.approx(40)


def test_a_forecast_counts_until_the_first_iteration_is_whole():
    known = Rates(row=0.5, unit=0.0, decoded=0.0, scored=0.0, evaluated=1.0, pictured=2.0)
    run = Run(config(10, 5), foretold=known)
    entries = 11  # before each iteration and after the last
    whole = 0.5 * run.work.rows(0, 10) + 3 * 6 * 1.0 + entries * 2.0  # evaluations are of 6 images
    assert run.pace.seconds_left(0) == pytest.approx(whole)
    run.entry(0)
    assert run.pace.seconds_left(0) == pytest.approx(whole - ENTRY), "what is done is not waited for"
    run.iteration(0, STEADY, evaluations=0)
    assert run.pace.seconds_left(1) < whole / 2, "then the run's own seconds count"


def demo_run(seconds):
    """The recorded iterations by themselves: what is left after the first, said and true."""
    done = replace(
        demo_config(iterations=len(seconds)),
        steps=25,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=5, last=3), tail_ratio=0.4),
        updates=4,
        eval_every=14,
        eval_images=6,
        eval_steps=None,
    )  # as it was when they were recorded
    work, now = Workload(done, held_out=32, shown=0), [0.0]
    pace, said, ends = Pace(work, clock=lambda: now[0]), [], []
    for number, spent in enumerate(seconds):
        pace.hear(Progress(iteration=number, phase="rollout", done=0, total=1))
        now[0] += sum(spent.values())
        pace.finished(report(number, spent, int("evaluation" in spent)))
        said.append(pace.seconds_left(number + 1))
        ends.append(now[0])
    return said, [now[0] - end for end in ends]


def test_the_demos_own_seconds_are_foretold_within_a_quarter_after_its_first_iteration():
    said, true = demo_run(json.loads(DEMO.read_text()))
    for left, truth in list(zip(said, true, strict=True))[:-1]:
        assert left == pytest.approx(truth, rel=0.25)


def test_what_a_window_on_its_way_costs_is_counted_and_not_averaged():
    """The window of this run moves after each iteration and leaves ever less to roll out."""
    moving = WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=1))
    sizes = {"images_per_prompt": 4, "prompts_per_iteration": 2, "steps": 12, "updates": 1, "eval_every": 0}
    work = Workload(TrainConfig(iterations=6, planner=moving, **sizes), shown=0)
    rows = [work.rows(number, number + 1) for number in range(6)]
    assert rows == sorted(rows, reverse=True) and rows[-1] < 0.8 * rows[0]
    now = [0.0]
    pace = Pace(work, clock=lambda: now[0])
    pace.hear(Progress(iteration=0, phase="rollout", done=0, total=1))
    now[0] += rows[0]
    pace.finished(report(0, {"rollout": rows[0]}, 0))
    assert pace.seconds_left(1) == pytest.approx(sum(rows[1:]))
