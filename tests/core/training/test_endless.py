"""Runs of very many iterations, and runs that go on until they are stopped: nothing grows with their number."""

from dataclasses import replace
from itertools import islice

import pytest
from rich.console import Console
from toy import Red, ToyModel

from mixgrpo_core import DecayingWindow, RunFolder, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.cli import main
from mixgrpo_core.cli.plan import count_costs
from mixgrpo_core.cli.progress import run_progress
from mixgrpo_core.runs.checkpoint import read_checkpoint
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.runs.reports import Progress
from mixgrpo_core.settings.course import LOOKS, course
from mixgrpo_core.settings.prompt_sources import PocaCurriculum, PromptDraw, Shuffled
from mixgrpo_core.training.pace import Pace
from mixgrpo_core.training.visits import visited
from mixgrpo_core.training.workload import Workload

MANY = 2_000_000_000_000
FOREVER = -1
CONFIG = TrainConfig(
    iterations=FOREVER,
    steps=5,
    images_per_prompt=2,
    prompts_per_iteration=1,
    updates=1,
    eval_every=0,
    planner=WindowPlanner(window=DecayingWindow(size=2, hold=3)),
)


def reports(config, run=None, seed=0):
    return train(ToyModel(seed), ["red", "a blue one"], {"red": Red()}, config, run=run)


def test_a_run_without_an_end_is_stopped_and_gone_on_with(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    for seed, (config, more) in enumerate(((CONFIG, 4), (CONFIG, 3), (replace(CONFIG, iterations=9), 2))):
        going = reports(config, RunFolder.open(run.path), seed)
        assert len(list(islice(going, 10 if config.iterations == 9 else more))) == more
        going.close()
    list(reports(replace(CONFIG, iterations=9), RunFolder.create(tmp_path / "whole", replace(CONFIG, iterations=9))))
    found, wanted = (read_checkpoint(tmp_path / name / "checkpoints/000009.safetensors") for name in ("run", "whole"))
    assert all(found.tensors[name].equal(wanted.tensors[name]) for name in wanted.tensors if "random" not in name)
    assert [line["window"] for line in RunFolder.open(run.path).metrics()] == [
        line["window"] for line in RunFolder.open(tmp_path / "whole").metrics()
    ]
    with pytest.raises(RunError, match="has done 9 iterations, found iterations=5"):
        next(reports(replace(CONFIG, iterations=5), RunFolder.open(run.path)))
    going = reports(CONFIG, RunFolder.open(run.path))  # a finished run, until it is stopped
    assert next(going).iteration == 9
    going.close()


@pytest.mark.parametrize("iterations", [0, -2])
def test_other_numbers_below_1_are_no_number_of_iterations(iterations):
    with pytest.raises(ValueError, match="iterations must be at least 1, or -1, found"):
        replace(CONFIG, iterations=iterations)


@pytest.mark.parametrize("iterations", [MANY, 10**30, FOREVER])
@pytest.mark.parametrize("source", [Shuffled(), PocaCurriculum()])
def test_all_prompts_come_in_very_many_iterations(iterations, source):
    config = replace(CONFIG, iterations=iterations, prompt_source=source)
    assert visited(config, 10, 600) == list(range(600))


@pytest.mark.parametrize(("first", "iterations"), [(0, 3), (2, 11), (5, 24), (7, 26), (0, 100), (40, 41)])
def test_the_visited_prompts_are_those_that_are_chosen(first, iterations):
    def draw(iteration):
        return PromptDraw(seed=3, iteration=iteration, count=4, pool=37)

    chosen = {place for iteration in range(first, iterations) for place in Shuffled().choose(draw(iteration))}
    assert Shuffled().visited(draw(first), iterations) == sorted(chosen)


class Counting:
    """A window, and how often it was asked."""

    def __init__(self, window):
        self.window, self.looks = window, 0

    def at(self, iteration):
        self.looks += 1
        return self.window.at(iteration, 25)


@pytest.mark.parametrize("iterations", [2001, 50_000, MANY])
@pytest.mark.parametrize("window", [SlidingWindow(), DecayingWindow(hold=200), SlidingWindow(hold=1, stride=3)])
def test_the_course_of_a_window_is_found_to_the_iteration(window, iterations):
    counting = Counting(window)
    found = course(counting.at, iterations)
    assert counting.looks <= LOOKS
    changes = [i for i in range(6000) if i and window.at(i, 25) != window.at(i - 1, 25) and i < iterations]
    assert [iteration for iteration, _ in found] == [0, *changes]
    assert all(place == window.at(iteration, 25) for iteration, place in found)


def test_what_always_changes_is_looked_at_no_more_often():
    looks = []
    found = course(lambda iteration: looks.append(iteration) or iteration % 7, MANY)
    assert len(looks) <= LOOKS and found[0] == (0, 0)
    assert all(place == iteration % 7 for iteration, place in found)


@pytest.mark.parametrize("iterations", [str(MANY), "-1"])
def test_a_plan_of_very_many_iterations_is_drawn(tmp_path, capsys, iterations):
    assert main(["plan", "--out", str(tmp_path / "x"), "--train.iterations", iterations]) == 0
    told = capsys.readouterr().out
    assert "0-24" in told and (tmp_path / "x-plan.png").stat().st_size > 1000
    assert ("it goes on until it is stopped" in told) == (iterations == "-1")


def test_very_many_iterations_cost_what_their_last_stretch_costs():
    costs = count_costs(replace(CONFIG, iterations=MANY))
    assert costs.stretches[-1].last == MANY - 1
    assert costs.whole == pytest.approx(costs.stretches[-1].cost.units / costs.run.dance, rel=1e-6)


def test_progress_and_time_left_without_an_end():
    pace = Pace(Workload(replace(CONFIG, iterations=FOREVER)))
    for report in islice(reports(CONFIG), 2):
        pace.hear(Progress(iteration=report.iteration, phase="train", done=0, total=1))
        pace.finished(report)
    assert pace.seconds_per_iteration is not None and pace.seconds_left(2) is None
    for iterations in (FOREVER, MANY):
        now = [0.0]
        pace = Pace(Workload(replace(CONFIG, iterations=iterations)), clock=lambda now=now: now[0])
        pace.hear(Progress(iteration=report.iteration, phase="train", done=0, total=1))
        now[0] = 100.0
        console = Console(force_terminal=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
        with run_progress(pace, 0, console) as progress, console.capture() as shown:
            progress.report(report)
            console.print(progress._bars.get_renderable())
        assert ("2/?" in shown.get()) == (iterations == FOREVER)
        assert ("left years" in shown.get()) == (iterations == MANY)
