"""A run whose reward learns from votes goes on, bit for bit, as one that nobody disturbed."""

import pytest
import torch
from toy import ToyModel
from voters import voting

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.rewards import HumanVote, TasteReward
from mixgrpo_core.rewards.people.votes import votes_at
from mixgrpo_core.rewards.people.voting import Thumbs
from mixgrpo_core.runs.reports import GroupScored

CONFIG = TrainConfig(
    iterations=6,
    seed=3,
    steps=6,
    images_per_prompt=8,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.05,
    updates=2,
    eval_every=2,
    eval_images=2,
    checkpoint_every=2,
)


def started(folder, config=CONFIG):
    """Model, reward and reports of a run in ``folder``, which may be there."""
    if not folder.exists():
        RunFolder.create(folder, config, {})
    run, model = RunFolder.open(folder), ToyModel()
    taste = TasteReward(ask=HumanVote(way=Thumbs(), seconds=5), asked=4, least=12, confidence=0.3)
    taste = votes_at(taste, folder / "votes", voting(folder))

    def reports(observer=lambda event: None):
        return train(
            model, ["a red circle", "blue"], {"taste": taste}, config, held_out=["grey"], run=run, observer=observer
        )

    return model, taste, reports


def state(model, taste):
    return {**model.lora_state(), "head": taste.taste.head.weights}


def test_a_run_with_a_taste_goes_on_bit_for_bit(tmp_path):
    model, taste, reports = started(tmp_path / "whole")
    done = list(reports())
    whole = state(model, taste)
    figures = [report.update.figures for report in done]
    assert figures[-1]["taste_groups_asked"] < 12  # it went on alone in some
    assert figures[-1]["taste_images"] > figures[1]["taste_images"]

    _, _, reports = started(tmp_path / "broken")
    places = []

    def stumble(event):
        if isinstance(event, GroupScored):
            places.append(event.iteration)
            if places.count(3) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(reports(stumble))
    model, taste, reports = started(tmp_path / "broken")
    rest = list(reports())
    assert [report.iteration for report in rest] == [3, 4, 5]
    again = state(model, taste)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [report.update.figures for report in rest] == figures[3:]
    votes = [{path.name for path in (tmp_path / name / "votes").glob("*.json")} for name in ("whole", "broken")]
    assert votes[0] == votes[1]
