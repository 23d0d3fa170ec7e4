"""When the first ratio is looked at: not in every iteration, and never where it could be wrong without a word."""

from dataclasses import replace

import torch
from toy import Red, ToyModel

from mixgrpo_core import FlowSDE, FrozenWindow, RunFolder, SlidingWindow, TrainConfig, WindowPlanner, load_lora, train

CONFIG = TrainConfig(
    iterations=12,
    steps=6,
    images_per_prompt=6,
    prompts_per_iteration=1,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    kernel=FlowSDE(eta=0.7),
    learning_rate=1e-2,
    updates=1,
    eval_every=0,
    checkpoint_every=1,
)


def probed(config=CONFIG, model=None):
    """The iterations that looked."""
    torch.manual_seed(0)
    reports = train(model or ToyModel(), ["a"], {"red": Red()}, config)
    return [report.iteration for report in reports if report.update.ratio_noise is not None]


def test_it_is_looked_at_first_every_tenth_iteration_and_when_the_window_has_moved():
    assert probed() == [0, 10]
    moves = WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=4))
    assert probed(replace(CONFIG, planner=moves)) == [0, 4, 8]


def test_noise_that_is_not_small_is_looked_at_in_every_iteration_and_mended():
    noisy = ToyModel(noise_of_batching=0.05)
    config = replace(CONFIG, iterations=3, rollout_batch=4, update_batch=6)
    assert probed(config, noisy) == [0, 1, 2]


class NoisyFrom(ToyModel):
    """Its batches differ from a certain row on, as on a device that begins to choose other kernels."""

    def run(self, conds, body):
        self.noise_of_batching = 0.0 if self.evaluations < 130 else 0.05
        return super().run(conds, body)


def test_noise_that_comes_later_is_seen_by_the_first_ratio_and_looked_at_from_then_on():
    found = probed(replace(CONFIG, iterations=9, rollout_batch=4, update_batch=6), NoisyFrom())
    assert found[0] == 0 and len(found) > 3 and found == [0, *range(found[1], 9)]
    assert found[1] > 2, "while there was none it was not looked at"


def test_a_resumed_run_looks_when_the_whole_one_does_and_again_with_other_batches(tmp_path):
    def run(name, iterations, **changes):
        config = replace(CONFIG, iterations=iterations, **changes)
        made = RunFolder.open_or_create(tmp_path / name, config)
        torch.manual_seed(0)
        for _ in train(ToyModel(), ["a"], {"red": Red()}, config, run=made):
            pass
        return load_lora(made.lora("last")).state, [one["update"]["ratio_noise"] for one in made.metrics()]

    whole, looks = run("whole", 5)
    run("parts", 3)
    again, looks_again = run("parts", 5)
    assert looks == looks_again == [0.0, None, None, None, None]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert run("parts", 6, update_batch=3)[1][5] is not None
