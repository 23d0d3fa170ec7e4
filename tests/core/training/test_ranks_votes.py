"""Rewards that ask a person, or learn from one, on several ranks: one folder of votes, and the same taste on all."""

import pytest
import torch
from ranks import together
from toy import ToyModel
from voters import voting

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.rewards import HumanVote, TasteReward
from mixgrpo_core.rewards.people.votes import votes_at
from mixgrpo_core.rewards.people.voting import Thumbs
from mixgrpo_core.support.ranks import ALONE

VOTE = HumanVote(way=Thumbs(), seconds=5)
REWARDS = {"votes": VOTE, "a taste": TasteReward(ask=VOTE, asked=4, least=12, confidence=0.3)}
CONFIG = TrainConfig(
    iterations=4,
    seed=3,
    steps=6,
    images_per_prompt=8,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.05,
    updates=2,
)
PROMPTS = ["a red circle", "blue", "a dark square"]


def asked(ranks, folder, reward):
    """LoRA, scores, figures and the opinions that were learnt from, of a run in ``folder``."""
    if ranks.is_first and not folder.exists():
        RunFolder.create(folder, CONFIG, {})
    ranks.all_gather(None)
    reward, model = votes_at(reward, folder / "votes", voting(folder)), ToyModel()
    run = RunFolder.open(folder)
    done = [
        (
            report.to_json()["rewards"]["it"],
            {name: value for name, value in report.update.figures.items() if "it_" in name},
        )
        for report in train(model, PROMPTS, {"it": reward}, CONFIG, run=run, ranks=ranks)
    ]
    head = reward.taste.head.weights.clone() if isinstance(reward, TasteReward) else torch.zeros(1)
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}, done, head


@pytest.mark.parametrize("name", REWARDS)
def test_two_ranks_ask_and_learn_as_one_does(name, tmp_path):
    lora, done, head = asked(ALONE, tmp_path / "alone", REWARDS[name])
    found = together(2, tmp_path / "both", asked, tmp_path / "run", REWARDS[name])
    for other, reports, learnt in found:
        assert all(torch.equal(other[tensor], found[0][0][tensor]) for tensor in lora), "the ranks have one LoRA"
        assert torch.equal(learnt, found[0][2]), "and one taste"
        torch.testing.assert_close(learnt, head, rtol=0, atol=1e-6)
        assert all((other[tensor] - lora[tensor]).abs().max() <= 1e-6 for tensor in lora)
        for (scores, figures), (expected, before) in zip(reports, done, strict=True):
            assert scores["mean"] == pytest.approx(expected["mean"], abs=1e-5)
            assert figures == pytest.approx(before, abs=1e-5)
    ballots = [{path.name for path in (tmp_path / run / "votes").glob("*.json")} for run in ("alone", "run")]
    assert ballots[0] == ballots[1], "the same pictures were voted on"
