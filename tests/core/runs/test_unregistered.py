"""A class of one's own in a Python script, which nobody registered: its run is written, resumed and compared."""

from dataclasses import dataclass, replace

import pytest
from toy import Red, ToyModel

from mixgrpo_core import GRPO, RunFolder, TrainConfig, train
from mixgrpo_core.runs.folder import RunError


@dataclass(frozen=True)
class Private(GRPO):
    """GRPO by another name."""

    extra: float = 1.0


CONFIG = TrainConfig(
    steps=6, images_per_prompt=4, prompts_per_iteration=1, iterations=1, eval_every=0, objective=Private(extra=2.0)
)


def go(path, config):
    return list(train(ToyModel(), ["a"], {"red": Red()}, config, run=RunFolder.open_or_create(path, config)))


def test_it_starts_and_goes_on(tmp_path):
    assert len(go(tmp_path / "run", CONFIG)) == 1
    assert [report.iteration for report in go(tmp_path / "run", replace(CONFIG, iterations=2))] == [1]


def test_another_setting_of_it_is_refused(tmp_path):
    go(tmp_path / "run", CONFIG)
    with pytest.raises(RunError, match="Private"):
        go(tmp_path / "run", replace(CONFIG, objective=Private(extra=3.0), iterations=2))
