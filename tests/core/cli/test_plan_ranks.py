"""``mixgrpo plan --ranks N``: counted by dealing the prompts out."""

import pytest

from mixgrpo_core.cli.dispatch import main
from mixgrpo_core.cli.plan_ranks import taken, words
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.ranks import Ranks


def dealt(prompts, updates, ranks):
    """Prompts of the busiest rank, and the sum over the updates of those of the busiest in each."""
    each = Ranks()
    each.size, each.updates = ranks, updates
    owners = [each.owner(place) for place in range(prompts)]
    parts = [owners, *(owners[update::updates] for update in range(min(updates, prompts)))]
    whole, *single = (max(part.count(rank) for rank in range(ranks)) for part in parts)
    return whole, sum(single)


@pytest.mark.parametrize(("prompts", "updates", "ranks"), [(4, 2, 2), (4, 4, 2), (8, 2, 4), (5, 1, 2), (12, 4, 3)])
def test_what_is_foretold_is_how_prompts_are_dealt(prompts, updates, ranks):
    sentence = words(TrainConfig(prompts_per_iteration=prompts, updates=updates), ranks)
    whole, single = dealt(prompts, updates, ranks)
    assert f"at best {prompts / whole:.3g} times as fast, and training {prompts / single:.3g} times" in sentence


def test_more_ranks_than_prompts_is_said():
    assert "2 ranks only wait" in words(TrainConfig(prompts_per_iteration=2, updates=1), 4)
    assert words(TrainConfig(), 1) == ""


def test_the_flag_is_taken_out_of_the_others(tmp_path, monkeypatch, capsys):
    assert taken(["--a", "--ranks=3", "b"]) == (3, ["--a", "b"])
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--train.iterations", "2", "--train.steps", "6", "--ranks", "2"]) == 0
    assert "2 ranks: at most 2 of 4 prompts each" in " ".join(capsys.readouterr().out.split())
    assert main(["plan", "--ranks", "none"]) == 2
    assert "expected a number of ranks after --ranks, found none" in capsys.readouterr().err
