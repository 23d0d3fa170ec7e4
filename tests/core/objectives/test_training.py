"""Every objective trains the demo model for real, and a run of one with a lagged policy goes on where it was left."""

import json
import math
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.lagged import Lag
from mixgrpo_core.objectives import (
    AWM,
    CRD,
    DGPO,
    FPO,
    GCPO,
    PCPO,
    RAM,
    RSM,
    VGRPO,
    DiffusionNFT,
    FlowDPPO,
    LambdaGRPO,
    PositionalGRPO,
)
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.reports import Progress
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

PROMPTS = ["a red circle", "a blue square"]
CONFIG = TrainConfig(
    iterations=2,
    steps=5,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=FrozenWindow(size=3, start=0)),
    updates=2,
    update_batch=4,
    eval_every=0,
    learning_rate=1e-3,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def flat(state):
    return torch.cat([tensor.flatten() for tensor in state.values()])


@pytest.mark.parametrize(
    ("objective", "figures"),
    [
        (GCPO(chunks=(1, 2), kl=0.01), {"clip_low", "clip_high", "kl", "ratio_max"}),
        (FlowDPPO(kl=0.01), {"dropped", "kl_step", "above_tau", "kl", "ratio_max"}),
        (PCPO(kl=0.01), {"stopped", "kl", "ratio_max"}),
        (RSM(), {"stopped", "ratio_max"}),
        (LambdaGRPO(), {"lambda", "damping", "clip_low", "clip_high", "ratio_max"}),
        (PositionalGRPO(), {"clip_low", "clip_high", "ratio_max"}),
        (AWM(levels=3), {"kl", "kl_ema", "ratio_max"}),
        (DGPO(levels=2, own_samples=2), {"group_weight", "stopped", "error", "kl"}),
        (FPO(levels=3), {"clip_low", "clip_high", "ratio_max"}),
        (VGRPO(levels=2), {"error"}),
        (VGRPO(levels=2, clip=0.05, kl=0.1), {"error", "clip_low", "clip_high", "kl_old", "ratio_max"}),
        (RAM(levels=3), {"kl", "error_lagged"}),
        (CRD(), {"match", "gain", "kl"}),
        (DiffusionNFT(teaching="good"), {"error_positive", "error_negative", "kl"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_it_trains_the_demo_model_and_its_figures_reach_the_metrics(objective, figures, tmp_path):
    model, config = load_demo(rank=2), replace(CONFIG, iterations=1, objective=objective)
    before = flat(model.lora_state()).clone()
    run = RunFolder.create(tmp_path / "run", config)
    reports = list(train(model, PROMPTS, {"red": Red()}, config, run=run))
    after = flat(model.lora_state())
    assert torch.isfinite(after).all()
    assert (after - before).abs().max() > 5e-4
    for report in reports:
        found = report.update.to_json()
        assert report.update.steps == 2
        assert {"loss", "grad_norm", *figures} <= found.keys()
        assert all(math.isfinite(found[name]) for name in ("loss", "grad_norm", *figures))
        assert found["grad_norm"] > 0
    lines = [json.loads(line)["update"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [report.update.to_json() for report in reports]


LATE = replace(
    CONFIG, iterations=3, objective=DiffusionNFT(lag=Lag(start=0.4, rate=0.1, cap=0.9, every="iteration"), kl=0.01)
)


def undisturbed(make_model, config):
    model = make_model()
    list(train(model, PROMPTS, {"red": Red()}, config))
    return flat(model.lora_state()).clone()


@pytest.mark.parametrize(
    ("make_model", "config"), [(lambda: load_demo(rank=2), LATE), (ToyModel, LATE)], ids=["demo", "toy"]
)
def test_a_run_that_was_left_after_an_iteration_goes_on_to_the_same_end(tmp_path, make_model, config):
    run = RunFolder.create(tmp_path / "run", config)
    reports = train(make_model(), PROMPTS, {"red": Red()}, config, run=run)
    next(reports)
    reports.close()
    torch.manual_seed(1234)
    resumed = make_model()
    found = list(train(resumed, PROMPTS, {"red": Red()}, config, run=RunFolder.open(tmp_path / "run")))
    assert [report.iteration for report in found] == [1, 2]
    assert torch.equal(flat(resumed.lora_state()), undisturbed(make_model, config))


@pytest.mark.parametrize(
    "objective",
    [
        DiffusionNFT(lag=Lag(start=0.4, every="iteration")),
        AWM(lag=Lag(start=0.4)),
        DGPO(beta=1.0, own_samples=3, lag=Lag(start=0.4)),
        RAM(levels=3, lag=Lag(start=0.4, every="iteration")),
        CRD(lag=Lag(start=0.4, every="iteration"), sampler_lag=Lag(start=0.2)),
        FPO(levels=3),
        VGRPO(),
        PCPO(),
        LambdaGRPO(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_run_that_was_killed_between_two_updates_goes_on_to_the_same_end(tmp_path, objective):
    """A lagged policy had already been blended once in the iteration that is done again."""
    config = replace(CONFIG, iterations=4, objective=objective, learning_rate=0.05)
    run = RunFolder.create(tmp_path / "run", config)

    def kill(event):
        if isinstance(event, Progress) and (event.iteration, event.phase, event.done) == (2, "train", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train(ToyModel(), PROMPTS, {"red": Red()}, config, run=run, observer=kill))
    resumed = ToyModel()
    found = list(train(resumed, PROMPTS, {"red": Red()}, config, run=RunFolder.open(tmp_path / "run")))
    assert [report.iteration for report in found] == [2, 3]
    assert torch.equal(flat(resumed.lora_state()), undisturbed(ToyModel, config))
