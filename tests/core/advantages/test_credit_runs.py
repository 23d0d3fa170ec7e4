"""Every way of credit in a run: it is written down and read again, goes on bit for bit, and tells its figures."""

import json
from dataclasses import replace

import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core.advantages import (
    BackedUp,
    Border,
    BranchAdvantages,
    CentredRewards,
    Credit,
    DepthCredit,
    DinoPatches,
    Inside,
    LargestSpread,
    MaskCredit,
    MinNorm,
    NoveltyBonus,
    ParetoCredit,
    PreferenceSlots,
    Route,
    RoutedCredit,
    StructureCredit,
    SuperLinear,
    TimeCredit,
    UncertaintyCredit,
    WeightedAdvantages,
)
from mixgrpo_core.objectives import GRPO, TMPO, FlatGradient, NoiseLevel, PositionalGRPO
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.sampling import (
    BranchPlanner,
    BranchStepPlanner,
    GeometricWindow,
    IsoTemporalPlanner,
    MergedStepPlanner,
    Planner,
    TreePlanner,
    WanderingTreePlanner,
)
from mixgrpo_core.settings.config import TrainConfig, from_dict, to_dict
from mixgrpo_core.settings.kinds import SETTINGS
from mixgrpo_core.support.embedding import SmallPixels
from mixgrpo_core.training.loop import train

PROMPTS, REWARDS = ["a red circle", "a blue square"], {"red": Red(), "dark": Dark()}
CONFIG = TrainConfig(
    iterations=3,
    steps=6,
    images_per_prompt=6,
    prompts_per_iteration=2,
    updates=2,
    learning_rate=0.05,
    eval_every=0,
    checkpoint_every=1,
)
FIRST = WeightedAdvantages()
WAYS = [
    ((MinNorm(explore=0.2),), {"rewards_opposed"}),
    ((MinNorm(), TimeCredit()), {"rewards_opposed", "idle_steps"}),
    ((LargestSpread(),), {"largest_spread"}),
    ((CentredRewards(), SuperLinear(gamma=0.5)), {"shaped_spread"}),
    ((PreferenceSlots(slots=2, seed=3),), {"preference_red", "preference_dark"}),
    ((BranchAdvantages(),), {"flat_branches"}),
    ((FIRST, ParetoCredit()), {"front_share"}),
    ((FIRST, NoveltyBonus(weight=0.3, embed=SmallPixels(side=2))), {"nearest_distance"}),
    ((FIRST, DepthCredit(width=0.5)), {"flat_depths"}),
    ((FIRST, BackedUp(weights="log_prob", temperature=0.01)), {"root_share"}),
    ((FIRST, MaskCredit(area=Inside(right=0.5))), {"map_mean"}),
    (
        (FIRST, RoutedCredit((Route("red", Inside(right=0.5)), Route("dark", Border(), outside=True)))),
        {"routed_places"},
    ),
    ((FIRST, StructureCredit(even=False)), {"structure_mean"}),
    ((FIRST, UncertaintyCredit(share=0.5)), {"uncertainty_contrast"}),
]


def config_of(credit):
    by_place = any(stage.widens == "place" for stage in credit)
    return replace(CONFIG, credit=credit, objective=PositionalGRPO() if by_place else GRPO())


TREES = [
    (IsoTemporalPlanner(), (FIRST,), GRPO(step_weight=FlatGradient()), set()),
    (MergedStepPlanner(), (FIRST,), GRPO(step_weight=FlatGradient()), set()),
    (BranchStepPlanner(children=2), (BranchAdvantages(),), GRPO(step_weight=NoiseLevel()), {"flat_branches"}),
    (BranchPlanner(splits=(0, 2), pruned=(4,), slide=1), (FIRST, DepthCredit()), GRPO(), {"flat_depths"}),
    (TreePlanner(GeometricWindow(size=2), growth=0.5), (FIRST, BackedUp()), GRPO(), {"root_share"}),
    (WanderingTreePlanner(children=2), (FIRST,), TMPO(), {"imbalance", "path_spread"}),
]


@pytest.mark.parametrize(("planner", "credit", "objective", "figures"), TREES, ids=lambda value: type(value).__name__)
def test_a_run_of_a_plan(tmp_path, planner, credit, objective, figures):
    shared = not isinstance(planner, BranchStepPlanner)
    config = replace(
        CONFIG, planner=planner, credit=credit, objective=objective, images_per_prompt=8, shared_noise=shared
    )
    assert_a_run(tmp_path, config, figures)


def test_every_planner_is_run_somewhere():
    run = {type(planner).__name__ for planner, *_ in TREES} | {"WindowPlanner", "FullPlanner", "OdePlanner"}
    assert {cls.__name__ for cls in SETTINGS.of(Planner)} == run


@pytest.mark.parametrize(
    ("credit", "figures"), WAYS, ids=lambda value: type(value[-1]).__name__ if isinstance(value, tuple) else ""
)
def test_a_run_of_it(tmp_path, credit, figures):
    assert_a_run(tmp_path, config_of(credit), figures)


def assert_a_run(tmp_path, config, figures):
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    run = RunFolder.create(tmp_path / "run", config)
    reports = train(ToyModel(), PROMPTS, REWARDS, config, run=run)
    next(reports)
    reports.close()
    torch.manual_seed(1234)
    resumed = ToyModel()
    list(train(resumed, PROMPTS, REWARDS, config, run=RunFolder.open(tmp_path / "run")))
    whole = ToyModel()
    list(train(whole, PROMPTS, REWARDS, config))
    for name, tensor in whole.lora_state().items():
        assert torch.equal(tensor, resumed.lora_state()[name]), name
    assert whole.up.abs().max() > 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all(isinstance(line["update"][name], float) for line in lines for name in figures)


def test_every_stage_with_figures_is_run_above():
    run = {type(stage) for credit, _ in WAYS for stage in credit}
    left = {cls.__name__ for cls in SETTINGS.of(Credit)} - {cls.__name__ for cls in run}
    assert left == {"WeightedRewards", "BatchNormalised"}, "these are trained in test_combine and test_stages"
    assert from_dict(
        {"credit": ["WeightedAdvantages()", "StructureCredit(features=DinoPatches(file='a'))"]}
    ).credit == (
        FIRST,
        StructureCredit(DinoPatches("a")),
    )


@pytest.mark.parametrize(
    ("credit", "rewards", "words"),
    [
        ((FIRST, ParetoCredit()), 1, "ParetoCredit weighs 2 or more rewards against each other, and this run trains 1"),
        ((MinNorm(),), 1, "MinNorm weighs 2 or more rewards"),
        ((PreferenceSlots(slots=4),), 2, "6 images per prompt do not make 4 equal slots"),
        ((FIRST, RoutedCredit((Route("blue"),))), 2, r"RoutedCredit routes \['blue'\]"),
    ],
)
def test_credit_that_cannot_be_right_is_refused_before_any_work(credit, rewards, words):
    model = ToyModel()
    with pytest.raises(ValueError, match=words):
        list(train(model, PROMPTS, dict(list(REWARDS.items())[:rewards]), config_of(credit)))
    assert model.evaluations == 0


def test_a_figure_of_a_name_that_is_taken_is_refused():
    class Loud(ParetoCredit):
        def of_group(self, group, advantages, looked):
            return advantages.changed(advantages.values, clip_low=1.0)

    with pytest.raises(ValueError, match="the figure 'clip_low' is the update's own: report yours by another name"):
        list(train(ToyModel(), PROMPTS, REWARDS, replace(CONFIG, credit=(FIRST, Loud()))))
