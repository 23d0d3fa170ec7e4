"""Every published method trains, at the cost that is counted for it, with its own figures, and resumes bit for bit."""

import pytest
from small_methods import PROMPTS, contexts_of, rewards_of, small
from toy import ToyModel

from mixgrpo_core import train
from mixgrpo_core.settings.presets import METHODS
from mixgrpo_core.training.cost import iteration_cost


def trained(name, config, run=None, model=None):
    model = model or ToyModel()
    reports = list(train(model, PROMPTS, rewards_of(name), config, contexts=contexts_of(name), run=run))
    return model, reports


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_and_costs_what_is_counted(name):
    config = small(name)
    before = ToyModel().lora_state()
    model, reports = trained(name, config)
    assert [report.iteration for report in reports] == [0, 1]
    assert any((model.lora_state()[key] != before[key]).any() for key in before), "nothing was learned"
    for report in reports:
        counted, found = dict(iteration_cost(config, report.iteration).nfe), dict(report.nfe)
        if report.update.recomputed:  # by rounding, which a counter has none of
            del counted["probe"], found["probe"]
        assert found == pytest.approx(counted)
        assert report.update.steps == config.updates and report.update.figures["grad_norm"] > 0
