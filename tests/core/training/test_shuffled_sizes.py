"""Prompts of several sizes in any order: those of one size share calls; all else is in the order of the places."""

from dataclasses import replace

import pytest
import torch
from sized_toy import Apart, SizedToy, of_sizes
from toy import Red

from mixgrpo_core import FrozenWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.models.policy import Policy
from mixgrpo_core.models.sizes import sized
from mixgrpo_core.objectives.noise_probe import NoiseProbe
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.runs.reports import GroupScored
from mixgrpo_core.sampling.rollouts import Prompt, rollout_together
from mixgrpo_core.settings.prompt_sources.port import chosen_prompts
from mixgrpo_core.training.visits import prompt_draw

WORDS = ["a", "bbb", "ccccc", "dd", "eeeeeee", "ffff"]
CONFIG = TrainConfig(
    iterations=1,
    steps=5,
    images_per_prompt=4,
    prompts_per_iteration=6,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
    learning_rate=0.05,
    updates=1,
    eval_every=0,
)


class Looking(Red):
    """Keeps the places that it is asked about."""

    def __init__(self):
        self.seen = []

    def __call__(self, batch):
        self.seen.append(batch.group)
        return super().__call__(batch)


def trained(kind, pattern, config=CONFIG):
    """A run whose places have the sizes of the pattern: the model, the groups that were heard, its report."""
    model, reward, heard = kind(), Looking(), []
    chosen = chosen_prompts(config.prompt_source, prompt_draw(config, 0, len(WORDS)), {})
    prompts = dict(zip(chosen, of_sizes([WORDS[index] for index in chosen], pattern), strict=True))
    pool = [prompts[index] for index in range(len(WORDS))]
    (report,) = train(model, pool, {"red": reward}, config, observer=heard.append)
    groups = [event for event in heard if isinstance(event, GroupScored)]
    assert [event.prompt for event in groups] == [prompts[index] for index in chosen]
    assert reward.seen == list(range(len(WORDS))), "scored in the order of the places"
    return model, groups, report


@pytest.mark.parametrize(("rollout", "update"), [(16, 16), (2, 3)])
def test_shuffled_sizes_make_as_many_calls_as_sorted_ones_with_the_same_numbers(rollout, update):
    config = replace(CONFIG, rollout_batch=rollout, update_batch=update)
    model, groups, report = trained(SizedToy, "ABABAB", config)
    assert sorted(model.rows) == sorted(trained(SizedToy, "AAABBB", config)[0].rows)
    plain, alone, expected = trained(Apart, "ABABAB", config)
    assert len(model.rows) < len(plain.rows) and sum(model.rows) == sum(plain.rows)
    for one, other in zip(groups, alone, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.advantage, other.advantage, rtol=0, atol=1e-3)
    assert report.update.figures == pytest.approx(expected.update.figures, abs=1e-4)
    for name, tensor in model.lora_state().items():
        torch.testing.assert_close(tensor, plain.lora_state()[name], rtol=0, atol=1e-5)


def test_old_log_probs_that_are_retaken_are_those_of_their_own_groups():
    model = SizedToy()
    model.up.data.normal_(generator=torch.Generator().manual_seed(0))
    sigmas = CONFIG.sigmas(model)
    groups = []
    for place, prompt in enumerate(of_sizes(WORDS, "ABABAB")):
        asked = Prompt(cond=model.encode(prompt), plan=CONFIG.plan(0, place, sigmas), seed=place)
        (trajectory,) = rollout_together(sized(model, prompt), [asked], CONFIG.sampling(), group_size=4)
        groups.append(
            Group(cond=asked.cond, trajectory=trajectory, advantage=torch.ones(4), prompt=prompt, place=place)
        )
    probe = NoiseProbe(model, CONFIG.objective, 3, lambda velocity: Policy(velocity, model.with_weights, {}))
    again = probe.rescored(groups)
    for one, other in zip(groups, again, strict=True):
        assert (one.place, one.prompt, one.cond) == (other.place, other.prompt, other.cond)
        for before, after in zip(one.trajectory.transitions, other.trajectory.transitions, strict=True):
            torch.testing.assert_close(after.old_log_prob, before.old_log_prob, rtol=0, atol=1e-4)
