"""Which stages may follow which, what they are told, and credit that is trained on for real."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from groups import credit_of, path, plain_scores, scored_group
from toy import Dark, Red, ToyModel

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.advantages import (
    BatchNormalised,
    CentredRewards,
    Credit,
    Inside,
    MaskCredit,
    ParetoCredit,
    SuperLinear,
    TimeCredit,
    WeightedAdvantages,
    WeightedRewards,
)
from mixgrpo_core.advantages.port import require_stages, width_of
from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.sampling.schedule import flow_sigmas

SLAS = SuperLinear(gamma=0.5)
LATER = (SLAS, ParetoCredit(), TimeCredit(), MaskCredit())
MAKERS = [CentredRewards(), WeightedAdvantages(), WeightedRewards(), BatchNormalised()]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("rest", "width"),
    [
        ((), "member"),
        ((SLAS,), "member"),
        ((ParetoCredit(), SLAS), "member"),
        ((SLAS, TimeCredit()), "step"),
        ((TimeCredit(), TimeCredit()), "step"),
        ((MaskCredit(),), "place"),
        ((ParetoCredit(), TimeCredit(), MaskCredit(), MaskCredit()), "place"),
    ],
)
def test_stages_that_fit(maker, rest, width):
    require_stages((maker, *rest))
    assert width_of((maker, *rest)) == width
    assert TrainConfig(credit=(maker, *rest)).credit == (maker, *rest)


FIRST = "credit begins with a stage that makes advantages of scores, such as WeightedAdvantages(), found {}"
ONLY_FIRST = "only the first stage of credit makes advantages of scores, and {} and {} both do: take one out"
BEFORE_WIDE = "{} changes numbers per image and must stand before {}, which widens them"
BEFORE_FINER = "TimeCredit makes a number per step and must stand before MaskCredit, which makes one per place"


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ((), FIRST.format("nothing")),
        *[
            ((stage,), FIRST.format(type(stage).__name__))
            for stage in (SLAS, ParetoCredit(), TimeCredit(), MaskCredit())
        ],
        ((SLAS, CentredRewards()), FIRST.format("SuperLinear")),
        *[((CentredRewards(), maker), ONLY_FIRST.format("CentredRewards", type(maker).__name__)) for maker in MAKERS],
        ((CentredRewards(), TimeCredit(), WeightedRewards()), ONLY_FIRST.format("CentredRewards", "WeightedRewards")),
        *[
            ((CentredRewards(), wide, stage), BEFORE_WIDE.format(type(stage).__name__, type(wide).__name__))
            for wide in (TimeCredit(), MaskCredit())
            for stage in (SLAS, ParetoCredit())
        ],
        ((CentredRewards(), MaskCredit(), TimeCredit()), BEFORE_FINER),
    ],
)
def test_stages_that_do_not_fit_are_refused_before_any_work(stages, sentence):
    for refused in (require_stages, lambda stages: TrainConfig(credit=stages)):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            refused(stages)


def test_credit_that_the_objective_cannot_use_is_refused_before_any_work():
    model, config = ToyModel(), TrainConfig(credit=(WeightedAdvantages(), MaskCredit()))
    with pytest.raises(
        ValueError,
        match="MaskCredit makes the credit one number per place, but GRPO can use one per step only: choose Pos",
    ):
        train(model, ["a"], {"red": Red()}, config)
    assert model.evaluations == 0


@dataclass(frozen=True)
class Looker(Credit):
    """Remembers how bright the images are, and writes down what it was given."""

    label: ClassVar[str] = "looker"

    def look(self, group, images):
        self.log.append((group.place, tuple(images.shape)))
        return {"bright": images.mean((1, 2, 3))}

    def of_group(self, group, advantages, looked):
        self.kept.append((group.place, dict(looked)))
        return advantages

    log: ClassVar[list] = []
    kept: ClassVar[list] = []


def test_a_stage_sees_each_group_s_images_and_gets_back_what_it_kept_and_nothing_else():
    Looker.log.clear(), Looker.kept.clear()
    config = TrainConfig(
        iterations=2,
        steps=6,
        images_per_prompt=3,
        prompts_per_iteration=2,
        updates=1,
        eval_every=0,
        credit=(WeightedAdvantages(), Looker(), TimeCredit()),
    )
    seen = []
    list(train(ToyModel(), ["a", "bb"], {"red": Red()}, config, observer=lambda event: note(event, seen)))
    assert Looker.log == [(0, (3, 2, 2, 3)), (1, (3, 2, 2, 3))] * 2
    assert [place for place, _ in Looker.kept] == [0, 1] * 2
    for (_, kept), images in zip(Looker.kept, seen, strict=True):
        assert list(kept) == ["bright"]
        assert torch.equal(kept["bright"], images.mean((1, 2, 3)))


def note(event, seen):
    if hasattr(event, "images"):
        seen.append(event.images)


def test_stages_run_over_all_groups_before_the_next_begins():
    """The spread of the iteration is that of the shaped values, of which the next stage gets the divided ones."""
    generator = torch.Generator().manual_seed(0)
    groups = []
    for rewards in ([0, 1, 5], [2, 2.1, 2.3]):
        latents = list(torch.randn(4, 3, 1, 2, 2, generator=generator))
        groups.append(scored_group(plain_scores(*rewards), trajectory=path(latents, flow_sigmas(3))))
    images = torch.zeros(3, 2, 2, 3)
    found = credit_of((CentredRewards(), SLAS, TimeCredit(), MaskCredit(area=Inside())), groups, images)
    shaped = credit_of((CentredRewards(), SLAS), groups)
    for fine, coarse in zip(found, shaped, strict=True):
        assert fine.values.shape == (3, 3, 1, 2, 2)
        torch.testing.assert_close(fine.values.mean((1, 2, 3, 4)), coarse.values, atol=1e-6, rtol=1e-5)
    assert float(torch.cat([group.values for group in shaped]).std()) == pytest.approx(1, rel=1e-6)


SMALL = TrainConfig(
    iterations=3,
    steps=8,
    images_per_prompt=6,
    prompts_per_iteration=3,
    updates=1,
    learning_rate=5e-4,
    eval_every=0,
    credit=(CentredRewards(), SLAS, TimeCredit()),
)


def test_slas_with_time_credit_trains_the_demo_model():
    model = load_demo(rank=2)
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    reports = list(train(model, train_prompts(), {"shape": ShapeReward()}, SMALL))
    assert len(reports) == 3
    for report in reports:
        assert report.update.steps == 1
        assert 0 < report.update.figures["grad_norm"] < float("inf")
        assert report.update.figures["ratio_first"] < 1e-4
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.lora_state().items())


@pytest.mark.parametrize(
    "credit", [(CentredRewards(), SLAS, TimeCredit()), (WeightedAdvantages(), ParetoCredit(), TimeCredit())]
)
def test_the_toy_learns_from_it(credit):
    toy = replace(SMALL, iterations=20, images_per_prompt=8, shift=1.0, learning_rate=2e-2, updates=2, credit=credit)
    means = [r.rewards["red"].mean for r in train(ToyModel(), ["a", "bbbb"], {"red": Red(), "dark": Dark()}, toy)]
    assert sum(means[-3:]) / 3 > sum(means[:3]) / 3 + 0.05
