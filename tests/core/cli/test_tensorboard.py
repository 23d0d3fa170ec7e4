"""TensorBoard's events are a drawing: that they cannot be written is said, and the training goes on."""

import pytest
from toy import Red, ToyModel

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.cli.tensorboard import EventLog

pytest.importorskip("tensorboard")
CONFIG = TrainConfig(iterations=2, steps=5, images_per_prompt=2, prompts_per_iteration=1, updates=1, eval_every=0)


def reports():
    return train(ToyModel(), ["red"], {"red": Red()}, CONFIG)


def test_events_of_every_report_are_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventLog(tmp_path, 0) as events:
        for report in reports():
            events.write(report)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.step for point in found.Scalars("reward/red")] == [1, 2]


def test_a_folder_that_takes_no_events_is_said_once_and_nothing_else_happens(tmp_path):
    (tmp_path / "tensorboard").write_text("a file is in the way")

    def logged():
        with EventLog(tmp_path, 0) as events:
            for report in reports():
                events.write(report)

    with pytest.warns(RuntimeWarning, match=r"TensorBoard's events cannot be written .*goes on without them") as said:
        logged()
    assert len(said) == 1
