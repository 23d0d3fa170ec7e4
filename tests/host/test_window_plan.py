"""The Window Plan node: its words and picture against the windows and the counted cost."""

import re
from dataclasses import replace

import pytest
import torch
from mixgrpo_pack.mixgrpo_core import FrozenWindow, RandomWindow, SlidingWindow, dance_grpo, mixgrpo, mixgrpo_flash
from mixgrpo_pack.mixgrpo_core.objectives import AWM
from mixgrpo_pack.mixgrpo_core.sampling.windows import coverage
from mixgrpo_pack.mixgrpo_core.training.cost import iteration_cost
from mixgrpo_pack.mixgrpo_core.training.run_cost import run_cost
from mixgrpo_pack.nodes.sampling.plan_words import coverage_words, plans_of, steps_words
from mixgrpo_pack.nodes.sampling.window_plan import WindowPlan
from mixgrpo_pack.nodes.sockets import TrainerSettings

GRAY, ORANGE = (228, 228, 231), (234, 88, 12)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path


def plan(window=None, settings=None, **numbers):
    numbers = {"steps": 10, "iterations": 12, "images_per_prompt": 4, "prompts_per_iteration": 1} | numbers
    with torch.inference_mode():
        output = WindowPlan.execute(**({"tail_ratio": 1.0, "shift": 3.0} | numbers), window=window, settings=settings)
    return output.args


def with_window(config, window):
    return replace(config, planner=replace(config.planner, window=window))


def told(text):
    """step -> number of iterations, read back from the words."""
    line = re.search(r"in so many of the iterations: (.*)\.", text).group(1)
    found = {}
    for first, last, count in re.findall(r"steps? (\d+)(?: to (\d+))? in (\d+)", line):
        found |= dict.fromkeys(range(int(first), int(last or first) + 1), int(count))
    return found


@pytest.mark.parametrize("window", [SlidingWindow(size=3, hold=2), RandomWindow(size=2), FrozenWindow(size=4, start=2)])
def test_the_words_are_the_windows_coverage(window):
    _, text = plan(window)
    expected = {step: count for step, count in enumerate(coverage(window, 12, 10)) if count}
    assert told(text) == expected


def test_the_papers_run_in_words():
    text = coverage_words(mixgrpo(), plans_of(mixgrpo()))
    assert "300 iterations of 25 steps; each makes 12 images for each of 32 prompts." in text
    assert "trains steps 0 to 3, the last steps 11 to 14." in text
    assert (
        "step 0 in 25, step 1 in 50, step 2 in 75, steps 3 to 11 in 100, step 12 in 75, step 13 in 50, step 14 in 25."
        in text
    )
    assert "Never trained: steps 15 to 23. The run ends before" in text
    assert "Step 24, the last" in text


def test_advice_is_given_only_where_it_helps():
    capped = with_window(mixgrpo(), SlidingWindow(last=3))
    assert "Never trained: steps 7 to 23.\n" in coverage_words(capped, plans_of(capped))
    whole = with_window(mixgrpo(), SlidingWindow(hold=10))
    assert "Never trained" not in coverage_words(whole, plans_of(whole))


def test_a_plan_that_trains_no_step_is_told_in_words():
    config = replace(mixgrpo(), objective=AWM(), iterations=3, steps=8, images_per_prompt=4, prompts_per_iteration=1)
    text = coverage_words(config, plans_of(config))
    assert text.endswith("\nNo step is trained: AWM learns from the images that come out.")
    assert run_cost(config, False, lambda done, of: None).share > 0


def test_steps_in_words():
    assert steps_words([]) == "no step"
    assert [steps_words(steps) for steps in ([4], [2, 3], [1, 4, 7])] == ["step 4", "steps 2 to 3", "steps 1, 4 and 7"]


def test_the_cost_is_that_of_every_iteration():
    """One iteration of a kind is counted for all of it: the sum over all iterations must be the same."""
    config = replace(mixgrpo_flash(), steps=8, iterations=9, images_per_prompt=4, prompts_per_iteration=2)
    config = with_window(config, SlidingWindow(size=2, hold=2))
    cost = run_cost(config, False, lambda done, of: None)
    every = [iteration_cost(config, iteration) for iteration in range(9)]
    assert sum(count for count, _ in cost.parts) == 9
    units = sum(count * part.units for count, part in cost.parts)
    assert units == pytest.approx(sum(item.units for item in every))
    dance = replace(dance_grpo(), steps=8, images_per_prompt=4, prompts_per_iteration=2)
    assert cost.share == pytest.approx(units / 9 / iteration_cost(dance, 0).units)
    rollouts = [item.nfe["rollout"] for item in every]
    assert cost.span("rollout") == f"{min(rollouts):.1f} to {max(rollouts):.1f}"


def test_random_training_steps_are_counted_once_per_kind_and_right():
    """DanceGRPO draws its steps in every iteration: few kinds, and the run is 100 % of itself."""
    config = replace(dance_grpo(), steps=8, iterations=20, images_per_prompt=4, prompts_per_iteration=1)
    cost = run_cost(config, False, lambda done, of: None)
    assert len(cost.parts) <= 2
    assert cost.share == pytest.approx(1, abs=0.05)


def test_guidance_doubles_the_evaluations_and_no_share():
    config = replace(mixgrpo(), steps=8, iterations=1, images_per_prompt=4, prompts_per_iteration=1)
    plain, guided = (run_cost(config, guided, lambda done, of: None) for guided in (False, True))
    assert guided.parts[0][1].nfe["rollout"] == 2 * plain.parts[0][1].nfe["rollout"]
    assert guided.share == pytest.approx(plain.share)


def test_the_cost_can_be_cancelled():
    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cost(mixgrpo(), False, stop)


def cells(image, colour):
    """Share of each tenth of the plan, left to right, that has this colour."""
    hits = ((image[0] * 255).round().int() == torch.tensor(colour)).all(-1)
    rows = hits.nonzero()
    return hits, rows


def test_the_picture_shows_the_trained_cells():
    """A fixed window is an upright bar: its share of the width of the plan, over its whole height."""
    image, _ = plan(FrozenWindow(size=4, start=0), steps=8)
    assert image.shape[0] == 1 and image.shape[-1] == 3 and image.dtype == torch.float32
    orange, _ = cells(image, ORANGE)
    gray, _ = cells(image, GRAY)
    row = int(orange.sum(1).argmax())
    trained, rest = int(orange[row].sum()), int(gray[row].sum())
    assert abs(trained / (trained + rest) - 0.5) < 0.02
    assert orange[row].nonzero().min() < gray[row].nonzero().min()
    moved, _ = plan(SlidingWindow(size=4, hold=3), steps=8)
    diagonal, _ = cells(moved, ORANGE)
    top, bottom = diagonal.any(1).nonzero()[[3, -4], 0]
    assert diagonal[top].nonzero().min() < diagonal[bottom].nonzero().min()


def test_settings_take_the_place_of_the_numbers_and_a_window_that_of_theirs():
    train = replace(mixgrpo(), steps=6, iterations=4, images_per_prompt=4, prompts_per_iteration=1)
    settings = TrainerSettings(train=train, cfg=4.5)
    _, text = plan(settings=settings)
    assert "4 iterations of 6 steps" in text and told(text) == dict.fromkeys(range(4), 4)
    _, text = plan(settings=settings, window=FrozenWindow(size=1, start=2))
    assert "4 iterations of 6 steps" in text and told(text) == {2: 4}


def test_another_window_keeps_the_settings_short_tail():
    train = replace(mixgrpo_flash(), steps=10, iterations=2, images_per_prompt=4, prompts_per_iteration=1)
    _, text = plan(settings=TrainerSettings(train=train), window=FrozenWindow(size=2))
    assert "image and iteration: 5.2 for" in text  # a shared step (1/4), one more, and 4 of the other 8


def test_a_short_tail_costs_less():
    window = FrozenWindow(size=2)
    whole, short = (re.search(r"costs (\d+)%", plan(window, tail_ratio=tail)[1]).group(1) for tail in (1.0, 0.4))
    assert int(short) < int(whole) < 100


def test_a_window_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match="does not fit 4 sampling steps"):
        plan(SlidingWindow(size=4), steps=4)


def test_the_smallest_run():
    _, text = plan(SlidingWindow(size=1), steps=2, iterations=1, images_per_prompt=2)
    assert told(text) == {0: 1} and "Never trained" not in text


def test_nothing_is_left_in_the_temporary_folder_but_the_preview(own_folder):
    plan(FrozenWindow())
    assert [path.suffix for path in (own_folder / "temp").iterdir()] == [".png"]
