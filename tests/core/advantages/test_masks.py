"""Credit per place: maps of areas, what they make of advantages, and that masked places learn nothing."""

from dataclasses import dataclass

import pytest
import torch
from groups import credit_of, path, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from toy import ToyModel

from mixgrpo_core.advantages import (
    Border,
    Inside,
    MaskCredit,
    PromptMask,
    TimeCredit,
    WeightedAdvantages,
    at_places,
    group_advantages,
)
from mixgrpo_core.models.pictures import maps_over_latents
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.objectives.clipped import policy_report
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.objectives.ratio import clipped_policy_loss
from mixgrpo_core.objectives.update import UpdateSettings, update_policy
from mixgrpo_core.rewards.port import Context
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.phases import PhaseClock

SIGMAS = flow_sigmas(3)
REWARDS = (0.0, 1.0, 5.0, -1.0)


def group_of(size=2, context=None, rewards=REWARDS, seed=0):
    """A group with latents ``[2, size, size]`` and images of four times the size."""
    generator = torch.Generator().manual_seed(seed)
    latents = list(torch.randn(4, len(rewards), 2, size, size, generator=generator))
    return scored_group(
        plain_scores(*rewards),
        trajectory=path(latents, SIGMAS),
        context=context,
        places=lambda maps: maps_over_latents(maps, (2, size, size)),
    )


def credit(mask, group, *, pixels=8, between=()):
    images = torch.zeros(len(REWARDS), pixels, pixels, 3)
    (found,) = credit_of((WeightedAdvantages(), *between, mask), [group], images)
    return found.values


def factors(mask, group, **options):
    """The map alone, ``[h, w]``."""
    found = credit(mask, group, **options) / group_advantages(torch.tensor(REWARDS))[:, None, None, None, None]
    assert torch.equal(found, found[:1, :1].expand_as(found)), "the same for all members and steps"
    return found[0, 0, 0]


def test_an_area_is_a_map_over_the_latents_and_its_edges_are_soft():
    found = factors(MaskCredit(area=Inside(left=0.25, top=0, right=1, bottom=0.75)), group_of())
    torch.testing.assert_close(found, torch.tensor([[0.5, 1], [0.25, 0.5]]))
    found = factors(MaskCredit(area=Border(width=0.25)), group_of(size=4))
    assert found.tolist() == [[1] * 4, [1, 0, 0, 1], [1, 0, 0, 1], [1] * 4]
    assert factors(MaskCredit(area=Border(width=0.125)), group_of()).unique().item() == pytest.approx(1 - 0.75**2)


def test_a_pixel_on_the_edge_counts_by_its_share():
    cover = Inside(left=0.1, right=0.55).cover(group_of(), 1, 10)
    assert cover[0].tolist() == pytest.approx([0, 1, 1, 1, 1, 0.5, 0, 0, 0, 0], abs=1e-6)
    cover = Border(width=0.25).cover(group_of(), 10, 2)  # of the shorter side: half a pixel
    assert cover[:, 0].tolist() == [0.75, *[0.5] * 8, 0.75]


def test_the_prompt_s_mask_has_any_size():
    mask = torch.tensor([[1.0, 0], [0, 0.5]])
    for scale in (1, 2, 8, 16):
        large = mask.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        found = factors(MaskCredit(area=PromptMask()), group_of(context=Context(mask=large)))
        torch.testing.assert_close(found, mask)


def test_a_prompt_without_a_mask_is_no_prompt_for_it():
    with pytest.raises(ValueError, match="PromptMask.. needs a mask with every prompt, found none with 'a red circle'"):
        credit(MaskCredit(area=PromptMask()), group_of())


def test_inside_out_and_in_between():
    area = Inside(right=0.5)
    plain = factors(MaskCredit(area=area), group_of())
    torch.testing.assert_close(factors(MaskCredit(area=area, inside=0, outside=1), group_of()), 1 - plain)
    torch.testing.assert_close(factors(MaskCredit(area=area, outside=0.2), group_of()), 0.2 + 0.8 * plain)


def test_an_even_map_has_mean_one_and_an_empty_one_stays_empty():
    found = factors(MaskCredit(area=Inside(right=0.25, bottom=0.5), even=True), group_of())
    torch.testing.assert_close(found, torch.tensor([[4.0, 0], [0, 0]]))
    black = group_of(context=Context(mask=torch.zeros(8, 8)))
    assert not credit(MaskCredit(area=PromptMask(), even=True), black).any()


def test_it_goes_with_credit_per_step():
    group, mask = group_of(), MaskCredit(area=Inside(right=0.75))
    (steps,) = credit_of((WeightedAdvantages(), TimeCredit()), [group])
    found = credit(mask, group, between=(TimeCredit(),))
    assert found.shape == (4, 3, 1, 2, 2)
    torch.testing.assert_close(found, steps.values[..., None, None, None] * factors(mask, group))
    twice = credit(mask, group, between=(TimeCredit(), mask))
    torch.testing.assert_close(twice, steps.values[..., None, None, None] * factors(mask, group) ** 2)


def test_latents_of_any_shape_and_double_precision():
    values = torch.tensor([1.0, -2], dtype=torch.float64)
    packed = torch.tensor([[0.0, 0.1, 1.0]]).double()[..., None]  # [1, tokens, 1]
    found = at_places(values, packed, 2)
    assert found.dtype == torch.float64
    assert found.shape == (2, 2, 3, 1)
    torch.testing.assert_close(found[1, 1, :, 0], torch.tensor([0, -0.2, -2], dtype=torch.float64))
    video = maps_over_latents(torch.ones(1, 8, 8), (16, 5, 2, 2))
    assert at_places(values, video, 3).shape == (2, 3, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Inside(left=0.5, right=0.5), "0 <= left < right <= 1"),
        (lambda: Inside(top=-0.1), "0 <= top < bottom <= 1"),
        (lambda: Border(width=0.5), "below 0.5"),
        (lambda: MaskCredit(area="left half"), "area must be an area such as"),
        (lambda: MaskCredit(inside=0, outside=0), "not both 0"),
        (lambda: MaskCredit(outside=-1), "0 or more"),
    ],
)
def test_areas_that_are_none(make, words):
    with pytest.raises(ValueError, match=words):
        make()


sides = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-3)


@given(sides, sides, st.integers(1, 40), st.integers(1, 40))
@examples(max_examples=100, deadline=None)
def test_the_mean_of_a_rectangle_is_its_area(across, down, height, width):
    area = Inside(left=across[0], top=down[0], right=across[1], bottom=down[1])
    cover = area.cover(group_of(), height, width)
    assert cover.shape == (height, width)
    assert ((cover >= 0) & (cover <= 1)).all()
    assert float(cover.mean()) == pytest.approx((across[1] - across[0]) * (down[1] - down[0]), abs=1e-5)


@given(st.permutations(range(4)))
@examples(max_examples=24, deadline=None)
def test_the_order_of_members_does_not_matter(order):
    mask = MaskCredit(area=Border(width=0.2), outside=0.1, even=True)
    moved = credit(mask, group_of(rewards=[REWARDS[i] for i in order]))
    torch.testing.assert_close(moved, credit(mask, group_of())[list(order)])


@dataclass(frozen=True)
class ByPlace(GRPO):
    """GRPO with a ratio for every element of the latent."""

    @property
    def finest_credit(self):
        return "place"

    def fixed_terms(self, policy, piece):
        return {"old": self._log_prob(policy.old, piece)}

    def terms(self, policy, piece):
        return {"new": self._log_prob(policy, piece)}

    def _log_prob(self, ask, piece):
        step = piece.step
        return step.per_member(step.gaussian(ask(piece.x, piece.sigma))).log_prob(step.x_next, reduce=False)

    @property
    def needs(self):
        return super().needs | {"old"}

    def loss(self, table, cells):
        return policy_report(clipped_policy_loss(table["new"], table["old"], cells.advantages, 0.2))


def test_masked_places_get_no_gradient_at_all_and_the_others_do():
    """A row of ``up`` makes one element of the velocity: it moves if and only if its place is in the area."""
    model = ToyModel()
    plan = windowed_plan(flow_sigmas(7, 3.0), range(1, 4))
    trajectory = rollout(model, 0.5, plan, RolloutSettings(kernel=FlowSDE(0.7)), group_size=4, seed=0)
    group = scored_group(plain_scores(*REWARDS), trajectory=trajectory, plan=plan, places=model.places)
    advantage = credit(MaskCredit(area=Inside(right=0.5)), group)
    assert advantage.shape == (4, 3, 1, 2, 2)
    clock = PhaseClock(lambda: model.evaluations)
    groups = [Group(cond=0.5, trajectory=trajectory, advantage=advantage)]
    with clock.phase("train"):
        update_policy(
            model,
            groups,
            ByPlace(),
            torch.optim.SGD(model.parameters(), lr=0.1),
            UpdateSettings(updates=1),
            clock=clock,
        )
    rows = model.up.grad.view(3, 2, 2, 2)
    assert (rows[:, :, 1] == 0).all()
    assert (rows[:, :, 0].abs().sum(-1) > 1e-6).all()
    assert (model.up.detach().view(3, 2, 2, 2)[:, :, 1] == 0).all()
