"""The positional loss: a ratio for each place, summed over its channels."""

import math
from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    gradient_of,
    make_groups,
    off_policy_gradient,
    plain_gradient,
    update,
)
from torch.distributions import Normal

from mixgrpo_core.objectives import GRPO, PositionalGRPO, position_log_ratio
from mixgrpo_core.objectives.positional import over_positions

CLIP = 0.05


def big_graph(model, groups, clip=CLIP):
    """Place by place: one ratio of the summed log-densities, averaged over members, steps, places and channels."""
    losses = []
    for group in groups:
        for step, t in enumerate(group.trajectory.transitions):
            x = t.x[t.parent]
            v = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
            new, old = Normal(gaussian.mean, gaussian.std), Normal(t.old_mean[t.parent], gaussian.std)
            elements = new.log_prob(t.x_next) - old.log_prob(t.x_next)
            for member in range(len(x)):
                for row in range(2):
                    for col in range(2):
                        ratio = elements[member, :, row, col].sum().exp()
                        a = group.advantage[member] if group.advantage.ndim == 1 else group.advantage[member, step]
                        for channel in range(3):
                            one = a if a.ndim == 0 else a.expand(3, 2, 2)[channel, row, col]
                            one = one.clamp(-5, 5)
                            losses.append(-torch.min(one * ratio, one * ratio.clamp(1 - clip, 1 + clip)))
    return torch.stack(losses).mean()


def with_advantage(groups, *shape):
    found = []
    for number, group in enumerate(groups):
        generator = torch.Generator().manual_seed(number)
        size = len(group.advantage)
        found.append(replace(group, advantage=3 * torch.randn(size, *shape, generator=generator, dtype=torch.float64)))
    return found


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("shape", [(), (3,), (3, 1, 2, 2), (3, 3, 2, 2), (3, 1, 1, 1), (3, 3, 1, 1)], ids=str)
def test_its_gradient_is_that_of_one_big_graph_for_every_width_of_credit(shape, batch):
    model = Toy()
    groups, move = with_advantage(make_groups(model, (4, 3)), *shape), direction(model, 0.05)
    gradient, stats = off_policy_gradient(model, groups, PositionalGRPO(clip=CLIP), move, batch=batch)
    expected = plain_gradient(model, lambda: big_graph(model, groups), move)
    assert 0.1 < stats.figures["clip_low"] + stats.figures["clip_high"] < 0.5
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_its_gradient_is_that_of_its_loss_by_finite_differences():
    model, step = Toy(), 1e-7
    groups, move = with_advantage(make_groups(model, (4, 3)), 3, 1, 2, 2), direction(model, 0.05)
    objective = PositionalGRPO(clip=CLIP, kl=0.1)
    gradient, _ = off_policy_gradient(model, groups, objective, move, batch=4)

    def loss(by):
        return 2 * off_policy_gradient(model, groups, objective, by, batch=4)[1].figures["loss"]

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        found = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
        assert found == pytest.approx(float(gradient @ along), rel=1e-5)


def test_one_number_per_image_has_the_channels_times_grpos_gradient():
    model = Toy()
    groups = make_groups(model)
    by_place, whole = gradient_of(model, groups, PositionalGRPO(), batch=4), gradient_of(model, groups, GRPO())
    torch.testing.assert_close(by_place, 3 * whole, rtol=1e-9, atol=1e-12)


def test_a_map_that_is_zero_on_half_the_image_teaches_that_half_nothing():
    """A row of ``up`` makes one element of the velocity."""
    model = Toy()
    (group,) = with_advantage(make_groups(model, (6,)), 3, 1, 2, 2)
    mask = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    gradient = gradient_of(model, [replace(group, advantage=group.advantage * mask)], PositionalGRPO(), batch=4)
    up = gradient[28:].view(3, 2, 2, 2)
    assert (up[:, :, 1] == 0).all()
    assert (up[:, :, 0].abs().sum(-1) > 1e-6).all()


def test_a_map_that_broadcasts_one_ratio_would_be_no_credit_for_places():
    """ViPO's image code: a scalar ratio times a map is the image's loss times the map's mean. Ours is not."""
    model = Toy()
    (group,) = make_groups(model, (6,))
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(6, 1, 1, 2, 2, generator=generator, dtype=torch.float64).expand(6, 3, 1, 2, 2)
    spread = replace(group, advantage=group.advantage.double()[:, None, None, None, None] * maps)
    scalar = replace(group, advantage=group.advantage.double() * maps[:, 0, 0].mean((1, 2)))
    placed = gradient_of(model, [spread], PositionalGRPO())
    assert (placed - gradient_of(model, [scalar], PositionalGRPO())).norm() > 0.1 * placed.norm()


def test_the_sum_over_channels_keeps_double_precision():
    new = torch.full((2, 3, 2, 2), 1e-12, dtype=torch.float64)
    found = position_log_ratio(new, torch.zeros_like(new))
    torch.testing.assert_close(found, torch.full((2, 1, 2, 2), 3e-12, dtype=torch.float64), rtol=1e-12, atol=0)
    assert over_positions(found.unsqueeze(1), torch.zeros(2, 1, 3, 1, 1)).shape == (2, 1, 3, 2, 2)
    assert over_positions(found.unsqueeze(1), torch.zeros(2)).shape == (2, 1, 1, 2, 2)


def test_its_clip_widens_with_the_root_of_the_channels():
    """With the toy's three channels the default is 0.036 sqrt(3): a clip a little below it clips more."""
    model = Toy()
    groups, move = make_groups(model), direction(model, 0.1)

    def clipped(objective):
        figures = off_policy_gradient(model, groups, objective, move)[1].figures
        return figures["clip_low"], figures["clip_high"]

    default = clipped(PositionalGRPO())
    assert default == clipped(PositionalGRPO(clip=0.036 * math.sqrt(3)))
    assert default != clipped(PositionalGRPO(clip=0.036))
    assert sum(default) > 0.05
    assert PositionalGRPO().clip_range(48, channels=16) == (0.144, 0.144)
    assert PositionalGRPO(clip=(0.1, 0.2)).clip_range(48) == (0.1, 0.2)


def test_the_first_ratio_is_one():
    stats, _ = update(Toy(), make_groups(Toy()), PositionalGRPO(), batch=4)
    assert stats.figures["ratio_first"] < 1e-12
    assert not stats.recomputed
