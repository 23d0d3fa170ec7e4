"""What holds for every objective of the room: order, batches, repetition, and advantages of nothing."""

import json
import math
from dataclasses import fields, replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    followers,
    gradient_of,
    image_groups,
    make_groups,
    off_policy_gradient,
    permuted,
)

from mixgrpo_core import objectives
from mixgrpo_core.objectives import AWM, CRD, DGPO, FPO, TMPO, VGRPO, DiffusionNFT, Objective
from mixgrpo_core.objectives.pieces import StepNumbers
from mixgrpo_core.objectives.port import TRANSITIONS
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.config import TrainConfig, from_dict, to_dict
from mixgrpo_core.settings.kinds import SETTINGS

GRID = flow_sigmas(8, 3.0)
CANDIDATES = [StepNumbers.of(FlowSDE(0.7), GRID[i], GRID[i + 1]) for i in range(7)]
OWN = [cls() for cls in SETTINGS.of(Objective) if cls.__name__ in objectives.__all__]
VARIANTS = [
    AWM(per_draw=False),
    CRD(temperature=0.3),
    CRD(match="logistic", adaptive=False),
    DGPO(beta=1.0),
    FPO(per_draw=True),
    TMPO(exponent=20.0),
    VGRPO(clip=0.05, kl=0.1),
]
EVERY = pytest.mark.parametrize("objective", OWN + VARIANTS, ids=repr)


def groups_for(model, objective):
    by_step = TRANSITIONS in objective.needs
    return make_groups(model, (6, 3)) if by_step else image_groups(model, (6, 3), steps=6)


def moved_gradient(groups, objective, **settings):
    """Of a second update, after the weights have moved: ratios, clips and dampings are at work."""
    model = Toy()
    lagged, move = followers(model, objective, 0.1), direction(model, 0.1)
    model = Toy()
    return off_policy_gradient(model, groups, objective, move, lagged=lagged, candidates=CANDIDATES, **settings)


@EVERY
def test_neither_order_nor_batches_nor_repetition_change_it(objective):
    groups = groups_for(Toy(), objective)
    gradient, stats = moved_gradient(groups, objective)
    again, same = moved_gradient(groups, objective)
    assert torch.equal(again, gradient) and same == stats
    assert gradient.norm() > 1e-8
    turned = [permuted(groups[0], [4, 0, 5, 2, 1, 3]), permuted(groups[1], [2, 0, 1])]
    for other, figures in (
        moved_gradient(groups, objective, batch=1),
        moved_gradient(groups, objective, batch=4),
        moved_gradient(turned, objective),
    ):
        torch.testing.assert_close(other, gradient, rtol=1e-8, atol=1e-10 * float(gradient.norm()))
        assert figures.figures == pytest.approx(stats.figures, rel=1e-6, abs=1e-9)


@EVERY
def test_at_the_base_model_advantages_of_nothing_teach_nothing(objective):
    if isinstance(objective, TMPO):  # makes paths of equal reward equally likely, unless log-probs have no say
        objective = replace(objective, exponent=0.0)
    model = Toy(up=0.0)
    groups = groups_for(model, objective)
    assert gradient_of(model, groups, objective, candidates=CANDIDATES).norm() > 1e-8
    even = [replace(group, advantage=torch.zeros_like(group.advantage)) for group in groups]
    assert gradient_of(model, even, objective, candidates=CANDIDATES).norm() < 1e-14


@EVERY
def test_no_setting_takes_what_is_no_number(objective):
    for item in fields(objective):
        if isinstance(getattr(objective, item.name), float):
            with pytest.raises(ValueError, match=item.name):
                replace(objective, **{item.name: math.nan})


@pytest.mark.parametrize("cls", [AWM, CRD, DiffusionNFT])
def test_a_clip_that_advantages_are_divided_by_is_finite(cls):
    with pytest.raises(ValueError, match="adv_clip must be a finite number"):
        cls(adv_clip=math.inf)


@EVERY
def test_a_run_file_gives_back_every_setting(objective):
    config = TrainConfig(objective=objective)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
