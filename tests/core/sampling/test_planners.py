"""A planner that learns: what it remembers is kept with the run, and handed to it again."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from memories import SMALL, assert_same_story, played

from mixgrpo_core.runs.checkpoint import read_checkpoint
from mixgrpo_core.sampling.planners import GroupResult, Planner, deterministic_plan, windowed_plan
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.memory import NOTHING

PROMPTS = ["a red circle", "a blue square", "green"]


@dataclass(frozen=True)
class Restless(Planner):
    """Trains one step, and goes on to the next after an iteration whose scores did not rise."""

    def plan(self, iteration, prompt, sigmas, memory=NOTHING):
        return windowed_plan(sigmas, [memory.get("step", 0) % (len(sigmas) - 2)])

    def learn(self, memory, groups):
        level = float(torch.cat([scores.values for group in groups for scores in group.scores.values()]).mean())
        rose = level > memory.get("level", -math.inf)
        return {"step": memory.get("step", 0) + (not rose), "level": level}


@dataclass(frozen=True)
class Careless(Planner):
    """Counts its prompts' visits by number, which JSON has no keys of."""

    def plan(self, iteration, prompt, sigmas, memory=NOTHING):
        return windowed_plan(sigmas, [memory.get("visits", {}).get(prompt, 0) % (len(sigmas) - 2)])

    def learn(self, memory, groups):
        visits = dict(memory.get("visits", {}))
        for group in groups:
            visits[group.prompt] = visits.get(group.prompt, 0) + 1
        return {"visits": visits}


@dataclass(frozen=True)
class Reckless(Planner):
    """Remembers what is no number, or what it is told to."""

    level: float | None = -1.0

    def plan(self, iteration, prompt, sigmas, memory=NOTHING):
        return windowed_plan(sigmas, [0])

    def learn(self, memory, groups):
        return {} if memory else {"level": math.nan if self.level == -1 else self.level}


LEARNING = replace(SMALL, iterations=8, planner=Restless())


def test_what_a_planner_learned_decides_its_plans_and_stands_in_the_checkpoint(tmp_path):
    story = played(LEARNING, PROMPTS, tmp_path, resumed_at=[5])
    steps = [0, *(memory["planner"]["step"] for memory in story.memories)]
    assert len(set(steps)) > 2, "this needs a run whose scores do not always rise"
    trained = [report.window[0] for report in story.reports]
    assert trained == [step % 5 for step in steps[:-1]]
    kept = read_checkpoint(tmp_path / "state.safetensors").values["notes"]["learned"]
    assert kept == story.memories[4]
    assert set(kept) == {"planner"}, "a prompt source that remembers nothing leaves no note"


@pytest.mark.parametrize("planner", [Restless(), Careless()])
@pytest.mark.parametrize("resumed_at", [[1], [4], [2, 3, 7]])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(tmp_path, planner, resumed_at):
    config = replace(LEARNING, planner=planner)
    whole = played(config, PROMPTS, tmp_path)
    assert_same_story(played(config, PROMPTS, tmp_path, resumed_at=resumed_at), whole)


def test_an_iteration_that_is_cut_after_it_learned_is_put_back(tmp_path):
    assert_same_story(played(LEARNING, PROMPTS, tmp_path, cut_at=[1, 5]), played(LEARNING, PROMPTS, tmp_path))


def test_what_is_forgotten_is_gone(tmp_path):
    story = played(replace(LEARNING, iterations=3, planner=Reckless(level=1.0)), PROMPTS, tmp_path)
    assert story.memories == [{"planner": {"level": 1.0}}, {}, {"planner": {"level": 1.0}}]


def test_not_a_number_is_no_memory(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        played(replace(LEARNING, planner=Reckless()), PROMPTS, tmp_path)


def test_a_planner_hears_of_every_group_in_order_with_all_its_scores(tmp_path):
    heard = []

    class Listener(Restless):
        def learn(self, memory, groups):
            heard.append(groups)
            return super().learn(memory, groups)

    story = played(replace(LEARNING, iterations=3, planner=Listener()), PROMPTS, tmp_path)
    assert [[group.prompt for group in groups] for groups in heard] == story.prompts
    for groups, report in zip(heard, story.reports, strict=True):
        assert all(isinstance(group, GroupResult) and len(group.scores["red"].values) == 3 for group in groups)
        assert [group.plan.trained[0] for group in groups] == [report.window[0]] * 2


def test_by_default_a_planner_remembers_what_it_did():
    class Plain(Planner):
        def plan(self, iteration, prompt, sigmas, memory=NOTHING):
            return deterministic_plan(sigmas)

    memory = {"kept": 1}
    assert Plain().learn(memory, []) is memory
    assert Plain().candidates(flow_sigmas(5)) == (0, 1, 2, 3)
