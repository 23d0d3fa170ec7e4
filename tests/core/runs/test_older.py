"""Run folders of older versions: one that the version before credit had stages wrote is read, resumed and extended.

``tests/data/run_before_stages`` was stopped after two of four iterations; ``undisturbed_end`` is where that version
ends without a stop.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import Dark, Red, ToyModel

from mixgrpo_core import BatchNormalised, GuardGRPO, RunFolder, train
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.runs.older import present_settings
from mixgrpo_core.settings.config import TrainConfig, from_dict, to_dict

OLD = Path(__file__).parents[2] / "data" / "run_before_stages"
PROMPTS, HELD_OUT = ["a", "longer", "the longest"], ["held out"]


@pytest.fixture
def run(tmp_path):
    shutil.copytree(OLD, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def go_on(run, config):
    model = ToyModel()
    reports = list(train(model, PROMPTS, {"red": Red(), "dark": Dark()}, config, held_out=HELD_OUT, run=run))
    return model, reports


def test_it_goes_on_and_ends_where_the_version_that_wrote_it_ends(run):
    model, reports = go_on(run, run.settings)
    assert [report.iteration for report in reports] == [2, 3]
    expected = load_file(OLD / "undisturbed_end.safetensors")
    for name, tensor in model.lora_state().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
    assert len(run.metrics()) == 4


def test_its_settings_have_their_present_names_and_what_it_does_not_say_was_the_default_then(run):
    assert run.settings.credit == (BatchNormalised(),)
    assert run.settings.shift == 3.0
    path = run.path / "config.json"
    config = json.loads(path.read_text())
    del config["train"]["shift"]
    path.write_text(json.dumps(config))
    assert RunFolder.open(run.path).settings.shift == 3.0, "not this version's default, the model's own grid"
    assert TrainConfig().shift is None


def test_a_run_that_went_on_has_the_present_form(run):
    go_on(run, replace(run.settings, iterations=3))
    config = json.loads((run.path / "config.json").read_text())
    assert config["format"] == 2
    assert config["train"]["credit"] == ["BatchNormalised()"]
    assert "combination" not in config["train"]
    assert [report.iteration for report in go_on(RunFolder.open(run.path), replace(run.settings, iterations=4))[1]] == [
        3
    ]


def test_another_setting_is_still_refused_by_its_present_name(run):
    with pytest.raises(RunError, match="credit"):
        go_on(run, replace(run.settings, credit=TrainConfig().credit))


def test_what_cannot_be_read_is_one_sentence(run):
    path = run.path / "config.json"
    for change, words in (({"kernel": "GoneSDE(eta=1)"}, "GoneSDE"), ({"learning_rate": "much"}, "learning_rate")):
        config = json.loads((OLD / "config.json").read_text())
        config["train"] |= change
        path.write_text(json.dumps(config))
        with pytest.raises(RunError, match=words) as error:
            _ = RunFolder.open(run.path).settings
        assert "\n" not in str(error.value)
    config = json.loads((OLD / "config.json").read_text())
    path.write_text(json.dumps({**config, "format": 3}))
    with pytest.raises(RunError, match="format 3"):
        RunFolder.open(run.path)


def test_a_run_with_guards_old_weights_says_that_they_are_others_now():
    train_then = {
        **to_dict(TrainConfig(objective=GuardGRPO())),
        "objective": "GuardGRPO(clip=None, adv_clip=5.0, kl=0.0)",
    }
    with pytest.warns(RuntimeWarning, match="1 / kappa"):
        settings = from_dict(present_settings({"format": 1, "train": train_then}))
    assert settings.objective == GuardGRPO()
