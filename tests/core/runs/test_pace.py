"""Time left: phases apart, by a clock that the test turns."""

import pytest

from mixgrpo_core.evaluation.held_out import Evaluation
from mixgrpo_core.objectives.figures import UpdateStats
from mixgrpo_core.runs.pace import Pace
from mixgrpo_core.runs.reports import StepReport

ROLLOUT, DECODE, TRAIN, SAVING, EVALUATION = 6.0, 2.0, 4.0, 1.0, 50.0


def report(iteration, evaluations):
    return StepReport(
        iteration=iteration,
        rewards={},
        evaluations=[Evaluation(iteration=iteration, rewards={}, scores={})] * evaluations,
        update=UpdateStats(steps=1, figures={}),
        flat_groups=0.0,
        window=(0, 2),
        sigmas=[1.0, 0.5, 0.0],
        nfe={},
        seconds={"rollout": ROLLOUT, "decode": DECODE, "train": TRAIN, "evaluation": evaluations * EVALUATION},
        peak_memory=0,
        trajectory_bytes=0,
    )


class Run:
    """A run that keeps to its times: evaluations before it, every ``eval_every`` and at its end, images at the end."""

    def __init__(self, iterations, eval_every, at_the_end=0):
        self.now, self.iterations, self.eval_every = 0.0, iterations, eval_every
        self.end = at_the_end / 8 * (ROLLOUT + DECODE)
        self.pace = Pace(
            iterations, eval_every=eval_every, images=8, images_at_the_end=at_the_end, clock=lambda: self.now
        )

    def evaluations(self, iteration):
        if not self.eval_every:
            return 0
        after = (iteration + 1) % self.eval_every == 0 or iteration + 1 == self.iterations
        return (iteration == 0) + after

    def go(self, first=0):
        """After every iteration: what is said to be left."""
        said = {}
        for iteration in range(first, self.iterations):
            self.pace.begun(iteration)
            made = report(iteration, self.evaluations(iteration))
            self.now += sum(made.seconds.values()) + SAVING
            self.pace.finished(made)
            said[iteration + 1] = (self.now, self.pace.seconds_left(iteration + 1))
        return said


@pytest.mark.parametrize(
    ("iterations", "eval_every", "at_the_end"),
    [(55, 10, 32), (50, 10, 0), (7, 3, 8), (5, 100, 8), (9, 0, 8), (1, 1, 8)],
)
def test_a_steady_run_is_foretold_from_its_first_iteration_on(iterations, eval_every, at_the_end):
    run = Run(iterations, eval_every, at_the_end)
    assert run.pace.seconds_left(0) is None
    said = run.go()
    over = run.now + run.end
    assert [left for _, left in said.values()] == pytest.approx([over - now for now, _ in said.values()])


def test_the_first_evaluation_does_not_count_as_pace():
    run = Run(40, 10)
    run.pace.begun(0)
    run.now += EVALUATION + ROLLOUT + DECODE + TRAIN + SAVING
    run.pace.finished(report(0, 1))
    assert run.pace.seconds_per_iteration == ROLLOUT + DECODE + TRAIN + SAVING
    assert run.pace.seconds_left(1) == pytest.approx(39 * 13 + 4 * EVALUATION)


def test_time_goes_by_within_an_iteration_and_no_longer_than_it_should_take():
    run = Run(10, 0)
    run.pace.begun(0)
    run.now += 10
    run.pace.finished(report(0, 0))
    assert run.pace.seconds_left(1) == 90
    run.now += 4
    assert run.pace.seconds_left(1) == 86
    run.now += 500
    assert run.pace.seconds_left(1) == 80  # one that takes long does not eat up the others' time


def test_loading_and_a_resume_do_not_count():
    run = Run(10, 0)
    run.now += 60
    run.pace.begun(4)
    run.now += 10
    run.pace.finished(report(4, 0))
    run.pace.start()
    run.now += 60
    run.pace.begun(5)
    run.now += 10
    run.pace.finished(report(5, 0))
    assert run.pace.seconds_left(6) == 40
