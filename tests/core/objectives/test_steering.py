"""How far updates move the policy and how much of that is right, measured from log-ratios."""

import math
from dataclasses import replace

import pytest
import torch
from toy import ToyModel

from mixgrpo_core import DanceSDE, FlowCPS, FlowSDE, FrozenWindow, TrainConfig, WindowPlanner
from mixgrpo_core.models.policy import Policy
from mixgrpo_core.objectives.look_back import LookBack
from mixgrpo_core.objectives.pieces import Group, Moment, transition_pieces
from mixgrpo_core.objectives.steering import Steering
from mixgrpo_core.sampling.rollouts import rollout

CONFIG = TrainConfig(steps=8, images_per_prompt=2000, prompts_per_iteration=1)


def measured(kernel, window, *, change=0.05, noise=0.0):
    """The move that the log-ratios tell, and the exact one, after the toy's LoRA has changed by ``change``."""
    model = ToyModel()
    config = replace(CONFIG, kernel=kernel, planner=WindowPlanner(window=window))
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
            steering.hear(policy, piece, group.advantage[piece.members], 0)
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


def signal_of(advantage, batch=4000, edges=None):
    """The correlation that is told after the toy's LoRA has changed, and of how many outcomes; 40 members, a step.

    Args:
        advantage: of the log-ratios ``[40]``.
    """
    model = ToyModel()
    config = replace(CONFIG, planner=WindowPlanner(window=FrozenWindow(size=1)), images_per_prompt=40)
    trajectory = rollout(model, 0.4, config.plan(0, 0, config.sigmas(model)), config.sampling(), group_size=40, seed=3)
    if edges is not None:
        step = replace(trajectory.transitions[0], edge=edges)
        trajectory = replace(trajectory, transitions=(step,))
    group = Group(cond=0.4, trajectory=trajectory, advantage=torch.zeros(40))
    steering = Steering(torch.optim.SGD(model.parameters(), lr=0.1), 2, None)
    found = []

    def hear(velocity):
        for piece in transition_pieces(group, 4000):
            step = piece.step
            now = step.per_member(step.gaussian(Policy(velocity, model.with_weights, {})(piece.x, piece.sigma)))
            found.append((now.log_prob(step.x_next) - step.old_log_prob).detach())
        told = advantage(found[-1])
        for piece in transition_pieces(group, batch):
            steering.hear(Policy(velocity, model.with_weights, {}), piece, told[piece.members], 0)

    model.run((0.4,), hear)
    steering.before_step()
    with torch.no_grad():
        model.up.add_(0.05 * torch.randn(12, 2, generator=torch.manual_seed(7)))
    model.run((0.4,), hear)
    steering.before_step()
    return steering.figures


def test_the_signal_is_the_correlation_of_advantages_with_log_ratios():
    other = torch.randn(40, generator=torch.manual_seed(1))

    def mixed(ratio):
        ratio, noise = ((one - one.mean()) / one.std(correction=0) for one in (ratio, other))
        return 0.6 * ratio + 0.8 * noise

    found, signs = signal_of(mixed), [signal_of(lambda r, s=s: s * (r - r.mean()))["signal"] for s in (1, -1)]
    assert signs == pytest.approx([math.sqrt(40 / 39), -math.sqrt(40 / 39)], rel=1e-3)  # unbiased of a known mean
    last = []
    expected = signal_of(lambda ratio: last.append(ratio) or mixed(ratio))["signal"]
    told = torch.corrcoef(torch.stack([mixed(last[-1]), last[-1]]))[0, 1]
    assert found["signal"] == pytest.approx(float(told) * math.sqrt(40 / 39), rel=1e-3) == expected
    assert found["signal_cells"] == 40


def test_pieces_of_one_member_tell_what_a_whole_group_tells():
    whole, single = signal_of(lambda ratio: ratio - ratio.mean()), signal_of(lambda ratio: ratio - ratio.mean(), 1)
    assert single == pytest.approx(whole, rel=1e-4) and {*whole} == {"move", "signal", "signal_cells"}


def test_members_of_a_tree_that_share_an_outcome_count_once():
    leaves = torch.arange(40) // 4
    assert signal_of(lambda ratio: ratio - ratio.mean(), edges=leaves)["signal_cells"] == 10


def test_a_look_back_is_the_exact_change_of_the_velocity():
    model = ToyModel()
    config = replace(
        CONFIG, planner=WindowPlanner(window=FrozenWindow(start=1, size=2)), images_per_prompt=6, shared_noise=False
    )
    plan = config.plan(0, 0, config.sigmas(model))
    trajectory = rollout(model, 0.4, plan, config.sampling(), group_size=6, seed=3)
    group = Group(cond=0.4, trajectory=trajectory, advantage=torch.zeros(6), prompt="a")
    assert len(trajectory.transitions[0].x) == 6, "rows of their own"
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    with torch.no_grad():
        model.up.add_(0.05 * torch.randn(12, 2, generator=torch.manual_seed(7)))
    size, change = LookBack(model, before, 1).sums(group, Moment())
    squares = []
    for step in trajectory.transitions:
        x = step.x[step.parent[:2]]
        now = model.run((0.4,), lambda velocity, x=x, step=step: velocity(x, step.sigma))
        with model.with_weights(before):
            then = model.run((0.4,), lambda velocity, x=x, step=step: velocity(x, step.sigma))
        squares.append((float(now.detach().square().mean()), float((now - then).detach().square().mean())))
    exact = [sum(one) / 2 for one in zip(*squares, strict=True)]
    assert [size, change] == pytest.approx(exact, rel=1e-3)
    assert all(
        torch.equal(before[name], tensor) is (name != "net.lora_B.weight") for name, tensor in model.lora().items()
    )
