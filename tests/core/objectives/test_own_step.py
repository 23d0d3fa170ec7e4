"""How far updates move the policy, measured from log-ratios, and the learning rate that steers to it."""

import json
import math
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import (
    DanceSDE,
    FlowCPS,
    FlowSDE,
    FrozenWindow,
    RunFolder,
    SlidingWindow,
    TrainConfig,
    WindowPlanner,
    load_lora,
    train,
)
from mixgrpo_core.models.policy import Policy
from mixgrpo_core.objectives import AWM, DGPO
from mixgrpo_core.objectives.own_step import FALL, HIGHEST, LOWEST, TARGET, Steering, own_count, steered, target
from mixgrpo_core.objectives.pieces import Group, transition_pieces
from mixgrpo_core.sampling.rollouts import rollout
from mixgrpo_core.settings.config import from_dict, to_dict

PROMPTS = ["a", "bbbb", "ccccccc", "dd"]
AUTO = TrainConfig(
    iterations=6,
    steps=8,
    images_per_prompt=12,
    prompts_per_iteration=4,
    planner=WindowPlanner(window=SlidingWindow(size=3, stride=1, hold=6)),
    learning_rate="auto",
    updates="auto",
    eval_every=0,
)


def measured(kernel, window, *, change=0.05, noise=0.0):
    """The move that the log-ratios tell, and the exact one, after the toy's LoRA has changed by ``change``."""
    model = ToyModel()
    config = replace(AUTO, kernel=kernel, planner=WindowPlanner(window=window), images_per_prompt=2000)
    group = Group(
        cond=0.4,
        trajectory=rollout(
            model, 0.4, config.plan(0, 0, config.sigmas(model)), config.sampling(), group_size=2000, seed=3
        ),
        advantage=torch.zeros(2000),
    )
    if noise:  # log-probs of the rollout that rounding has shifted
        shifted = [
            replace(step, old_log_prob=step.old_log_prob + noise * torch.randn(2000, generator=torch.manual_seed(i)))
            for i, step in enumerate(group.trajectory.transitions)
        ]
        group = replace(group, trajectory=replace(group.trajectory, transitions=tuple(shifted)))
    steering = Steering(torch.optim.SGD(model.parameters(), lr=0.1), 2, None)
    squares = torch.zeros(2)

    def hear(velocity):
        for piece in transition_pieces(group, 4000):
            policy = Policy(velocity, model.with_weights, {})
            steering.hear(policy, piece)
            now = policy(piece.x, piece.sigma)
            with torch.no_grad(), model.with_weights({**model.lora(), "net.lora_B.weight": torch.zeros(12, 2)}):
                before = velocity(piece.x, piece.sigma)
            rows = piece.parent  # as members weigh them
            squares.add_(torch.stack([(now - before)[rows].square().mean(), now[rows].square().mean()]).detach())

    model.run((0.4,), hear)
    steering.before_step()
    with torch.no_grad():
        model.up.add_(change * torch.randn(12, 2, generator=torch.manual_seed(7)))
    squares.zero_()
    model.run((0.4,), hear)
    steering.before_step()
    return steering.move, math.sqrt(float(squares[0] / squares[1]))


@pytest.mark.parametrize("kernel", [FlowSDE(eta=0.7), FlowSDE(eta=0.2), DanceSDE(eta=0.3), FlowCPS(eta=0.5)], ids=repr)
@pytest.mark.parametrize("start", [0, 4])
def test_log_ratios_tell_the_change_of_the_velocity_for_every_kernel_and_window(kernel, start):
    found, exact = measured(kernel, FrozenWindow(start=start, size=3))
    assert found == pytest.approx(exact, rel=0.1)
    assert 0.01 < exact < 0.2


def test_rounding_between_rollout_and_update_is_no_move():
    plain, exact = measured(FlowSDE(), FrozenWindow(size=3))
    noisy, _ = measured(FlowSDE(), FrozenWindow(size=3), noise=0.002)
    assert noisy == pytest.approx(exact, rel=0.15)
    still, _ = measured(FlowSDE(), FrozenWindow(size=3), change=0.0, noise=0.002)
    assert still < 0.2 * plain


def test_the_rule_in_numbers():
    assert target(0) == TARGET == 0.05
    assert target(FALL) == pytest.approx(0.05 / math.sqrt(2))
    assert steered(1e-3, 0.04, 0.01) == pytest.approx(5e-4)  # the root of a quarter
    assert steered(1e-3, 0.01, 0.0144) == pytest.approx(1.2e-3)
    assert steered(1e-3, 0.0, 0.01) == 2e-3  # no more than twice at once
    assert steered(1e-3, 1.0, 1e-9) == 5e-4
    assert steered(HIGHEST, 0.0, 1.0) == HIGHEST
    assert steered(LOWEST, 1.0, 0.0) == LOWEST


def test_the_number_of_updates_leaves_enough_members_for_each():
    assert [own_count(8, 12, whole=False), own_count(4, 12, whole=False), own_count(1, 4, whole=False)] == [16, 8, 1]
    assert own_count(4, 12, whole=True) == 4
    assert replace(AUTO, updates=5).update_count == 5


def moves(config, **model):
    torch.manual_seed(0)
    return [report.update.figures for report in train(ToyModel(**model), PROMPTS, {"red": Red()}, config)]


def test_the_policy_moves_as_far_as_it_should_and_ever_less():
    found = moves(replace(AUTO, iterations=16))
    late = found[4:]  # the first rate is a guess
    shares = [figures["move"] / figures["move_target"] for figures in late]
    assert 0.6 < sum(shares) / len(shares) < 1.6
    assert found[15]["move_target"] == pytest.approx(TARGET / math.sqrt(1 + 15 / FALL))


def test_a_fixed_rate_tells_its_move_and_keeps_its_rate():
    slow, fast = (moves(replace(AUTO, learning_rate=rate, iterations=3))[-1] for rate in (1e-3, 1e-2))
    assert "rate" not in slow and "move_target" not in slow
    assert fast["move"] > 4 * slow["move"] > 0


def test_a_run_that_was_resumed_goes_on_with_its_rate_bit_for_bit(tmp_path):
    def run(name, iterations):
        config = replace(AUTO, iterations=iterations, checkpoint_every=1)
        made = RunFolder.open_or_create(tmp_path / name, config)
        torch.manual_seed(0)
        for _ in train(ToyModel(), PROMPTS, {"red": Red()}, config, run=made):
            pass
        return load_lora(made.lora("last")).state, [report["update"].get("rate") for report in made.metrics()]

    whole, rates = run("whole", 5)
    run("parts", 2)
    again, rates_again = run("parts", 5)
    assert rates == rates_again and len({*rates}) > 3
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_auto_is_a_word_of_files_and_nothing_else_is():
    assert from_dict(json.loads(json.dumps(to_dict(AUTO)))) == AUTO
    assert from_dict({"learning_rate": "auto"}).first_rate == 1e-4
    for name, words in {"learning_rate": "a number or 'auto'", "updates": "a whole number or 'auto'"}.items():
        with pytest.raises(ValueError, match=f"{name} expects {words}, found 'fast'"):
            from_dict({name: "fast"})
        with pytest.raises(ValueError, match=f"{name} must be .*, or auto"):
            replace(AUTO, **{name: "fast"})


def test_what_cannot_steer_says_so_before_the_run():
    with pytest.raises(
        ValueError, match="learning_rate = 'auto' measures .* and AWM has none: give learning_rate a num"
    ):
        moves(replace(AUTO, objective=AWM()))
    with pytest.raises(ValueError, match="needs 4 of them an iteration at least, found 2: set updates to 'auto'"):
        moves(replace(AUTO, updates=2))
    two = replace(AUTO, prompts_per_iteration=2, images_per_prompt=4, updates=8)
    with pytest.raises(ValueError, match="8 updates leave fewer of 4 images of each of 2 prompts: lower updates to 4"):
        moves(two)
    assert all("move" in figures for figures in moves(replace(two, updates=4)))
    with pytest.raises(ValueError, match="leave fewer of 3 images of each of 2 prompts: take more images, or give"):
        moves(replace(two, images_per_prompt=3))
    assert replace(AUTO, objective=DGPO()).update_count == 4  # whole groups
