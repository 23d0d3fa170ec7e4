"""Every published method trains, at the cost that is counted for it, tells its own figures, and resumes bit for bit."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from small_methods import PROMPTS, contexts_of, rewards_of, small
from toy import ToyModel

from mixgrpo_core import RunFolder, train
from mixgrpo_core.cli.settings import read_toml
from mixgrpo_core.settings.presets import METHODS
from mixgrpo_core.training.cost import in_part, iteration_cost, method_cost
from mixgrpo_core.training.probing import EVERY

FIGURES = {
    "flow_dppo": ["dropped", "kl_step", "above_tau"],
    "gcpo": ["clip_chunk_1", "clip_chunk_2", "clip_chunk_3", "clip_chunk_4"],
    "flash_grpo": ["step_weight"],
    "tempflow_grpo": ["step_weight", "flat_branches"],
    "pcpo": ["stopped", "step_weight"],
    "rsm": ["stopped", "step_weight"],
    "lambda_grpo": ["lambda", "damping"],
    "branch_grpo": ["flat_depths"],
    "tree_grpo": ["root_share"],
    "dynamic_tree_rpo": ["root_share"],
    "tmpo": ["imbalance", "path_spread"],
    "diffusion_nft": ["error_positive", "error_negative", "kl"],
    "awm": ["weighted_error", "kl", "kl_ema"],
    "dgpo": ["group_weight", "stopped", "error", "kl"],
    "v_grpo": ["error"],
    "ram": ["error_lagged", "kl"],
    "crd": ["match", "gain", "kl"],
    "fpo": ["weighted_error"],
    "slas": ["shaped_spread"],
    "gdpo": ["batch_spread"],
    "geo_align": ["largest_spread"],
    "otca": ["rewards_opposed", "idle_steps"],
    "otca_time": ["idle_steps"],
    "poca": ["front_share"],
    "pareto_slider": ["preference_one", "preference_other"],
    "perceptual_entropy": ["nearest_distance"],
    "vipo": ["structure_mean"],
    "mar_grpo": ["uncertainty_contrast"],
    "omninft_routing": ["routed_places"],
    "edit_grpo": ["routed_places"],
}
"""What each method tells besides loss, gradient and ratio, which all tell."""


def iterations(name, config, run):
    """The rest of a run, of a new model of the same seed."""
    model = ToyModel()
    for report in train(model, PROMPTS, rewards_of(name), config, contexts=contexts_of(name), run=run):
        yield report, model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Undisturbed runs, each made once: its folder, its reports and its weights."""
    root = tmp_path_factory.mktemp("methods")

    @cache
    def of(name):
        config = small(name)
        run = RunFolder.open_or_create(root / name, config)
        found = list(iterations(name, config, run))
        return run, [report for report, _ in found], found[-1][1].lora_state()

    return of


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_and_costs_what_is_counted(name, whole):
    config = small(name)
    _, reports, weights = whole(name)
    before = ToyModel().lora_state()
    assert [report.iteration for report in reports] == [0, 1]
    assert any((weights[key] != before[key]).any() for key in before), "nothing was learned"
    for report in reports:
        counted, found = dict(iteration_cost(config, report.iteration).nfe), dict(report.nfe)
        if report.update.recomputed or report.iteration:  # by rounding, which a counter has none of, or not looked at
            counted.pop("probe", None), found.pop("probe", None)
        assert found == pytest.approx(counted)
        assert report.update.steps == config.updates and report.update.figures["grad_norm"] > 0


@pytest.mark.parametrize("name", METHODS)
def test_it_goes_on_bit_for_bit(name, whole, tmp_path):
    undisturbed, _, weights = whole(name)
    config = small(name)
    next(iterations(name, config, RunFolder.open_or_create(tmp_path / "run", config)))  # closed after one iteration
    run = RunFolder.open(tmp_path / "run")
    assert run.settings == config, "the settings come back from the file"
    (_, model), *more = list(iterations(name, run.settings, run))
    assert not more and all((model.lora_state()[key] == weights[key]).all() for key in weights)
    assert [line["update"] for line in run.metrics()] == [line["update"] for line in undisturbed.metrics()]


@pytest.mark.parametrize("name", FIGURES)
def test_its_own_figures_are_written_down(name, whole):
    run, _, _ = whole(name)
    for line in run.metrics():
        assert [figure for figure in FIGURES[name] if not isinstance(line["update"].get(figure), float)] == []


@pytest.mark.parametrize("name", ["mixgrpo", "mixgrpo_sd35", "tree_grpo", "dgpo"])
def test_the_cost_that_is_told_is_that_of_all_prompts(name):
    config = replace(METHODS[name].config, iterations=1, prompts_per_iteration=8)
    counted, told = in_part(iteration_cost(config, 0), {"probe": 1 / EVERY}), method_cost(config, looks=1)
    assert told.rollout == pytest.approx(counted.nfe["rollout"])
    assert told.rollout + told.training == pytest.approx(sum(counted.nfe.values()))


def test_the_combination_of_the_page_is_one(tmp_path):
    page = (Path(__file__).resolve().parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    config = replace(read_toml(str(tmp_path / "run.toml")).train, iterations=1, eval_every=0)
    assert config.steps == METHODS["mixgrpo"].config.steps, "the rest is the preset's"
    (report,) = train(ToyModel(), PROMPTS, rewards_of("otca"), replace(config, prompts_per_iteration=1))
    assert {"lambda", "root_share", "rewards_opposed"} <= report.update.figures.keys()


def test_costs_that_are_known():
    flash = method_cost(METHODS["flash_grpo"].config, looks=300)
    assert flash.rollout == pytest.approx(4.5 / 24 + 1 / 24 + 20 - 5.5, abs=0.2), "on average 4.5 steps come before"
    assert method_cost(METHODS["dance_grpo"].config).against_dance == pytest.approx(1, abs=0.01)
