"""Rewards that score beside the rollouts of the next prompts: what they give is what they give in turn."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import FrozenWindow, TrainConfig, WindowPlanner
from mixgrpo_core.rewards import Gated
from mixgrpo_core.rewards.judges import Endpoint, JudgeReward, PairwiseReward
from mixgrpo_core.rewards.ocr import TextAccuracy
from mixgrpo_core.rewards.port import RewardInfo, about
from mixgrpo_core.runs.reports import GroupScored, Progress
from mixgrpo_core.support.aside import GivenUp, require_wanted
from mixgrpo_core.training.loop import train

CONFIG = TrainConfig(
    iterations=2,
    steps=5,
    images_per_prompt=4,
    prompts_per_iteration=5,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
    updates=2,
    eval_every=0,
    learning_rate=1e-2,
    rollout_batch=1,
)
PROMPTS = ["a", "bbb", "ccccc", "dd", "eeeeeee", "ffff"]


class Remembers(Red):
    """Its score depends on what it scored before; one prompt of some fails."""

    about = RewardInfo(aside=True)

    def __init__(self):
        self.seen, self.threads = 0.0, set()

    def __call__(self, batch):
        self.threads.add(threading.current_thread().name)
        if batch.prompts[0] == "dd":
            raise OSError("no answer")
        found = super().__call__(batch)
        self.seen = 0.5 * self.seen + float(found.values.mean())
        return replace(found, values=found.values - self.seen)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class InTurn(Remembers):
    about = RewardInfo()


class Low(ToyModel):
    """Decodes in less, too."""

    decode_dtype = torch.float32

    def decode_low(self, x):
        return self.decode(x.bfloat16().float())


def trained(reward, config=CONFIG):
    model, heard = Low(), []
    rewards = {"dark": Dark(), "red": reward, "darker": Dark()}
    reports = list(train(model, PROMPTS, rewards, config, observer=heard.append))
    groups = [event for event in heard if isinstance(event, GroupScored)]
    return model.lora_state(), reports, groups


@pytest.mark.parametrize("decode", ["float32", "auto"])
def test_a_run_is_bit_equal_to_the_one_that_scores_in_turn(decode):
    aside, in_turn = Remembers(), InTurn()
    config = replace(CONFIG, decode_dtype=decode)
    (lora, reports, groups), (plain, expected, others) = trained(aside, config), trained(in_turn, config)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in lora.items())
    again = {"MainThread"} if decode == "auto" else set()  # of the first group, to choose the precision
    assert aside.threads == {"mixgrpo aside"} | again and in_turn.threads == {"MainThread"}
    assert aside.state_dict() == in_turn.state_dict()
    for one, other in zip(reports, expected, strict=True):
        assert one.update.figures == other.update.figures and one.rewards == other.rewards
        assert [str(failure) for failure in one.failures] == [str(failure) for failure in other.failures] != []
    for one, other in zip(groups, others, strict=True):
        assert one.prompt == other.prompt and torch.equal(one.images, other.images)
        assert list(one.scores) == list(other.scores) == ["dark", "red", "darker"]
        assert torch.equal(one.advantage, other.advantage)


class Judge(Red):
    """Answers for the first prompt only once the next one is being rolled out."""

    about = RewardInfo(aside=True)

    def __init__(self):
        self.next_begun, self.waited = threading.Event(), []

    def __call__(self, batch):
        if batch.group == 0:
            self.waited.append(self.next_begun.wait(20))
        return super().__call__(batch)


def test_the_next_prompts_are_rolled_out_while_a_judge_looks():
    judge = Judge()

    def hear(event):
        if isinstance(event, Progress) and event.phase == "rollout" and event.done > CONFIG.steps:
            judge.next_begun.set()

    config = replace(CONFIG, iterations=1, rollout_batch=8)  # two groups fill a call
    (report,) = train(ToyModel(), PROMPTS, {"judge": judge}, config, observer=hear)
    assert judge.waited == [True] and report.rewards["judge"].valid == 20


class Slow(Red):
    about = RewardInfo(aside=True)

    def __init__(self):
        self.asked, self.given_up = [], threading.Event()

    def __call__(self, batch):
        self.asked.append(batch.group)
        try:
            while True:
                require_wanted()
                time.sleep(0.005)
        except GivenUp:
            self.given_up.set()
            raise


def test_a_stop_gives_up_what_is_asked_and_asks_no_more():
    slow, model = Slow(), ToyModel()
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}

    def stop(event):
        if isinstance(event, Progress) and slow.asked and event.done > 4 * CONFIG.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train(model, PROMPTS, {"slow": slow}, CONFIG, observer=stop))
    assert slow.given_up.wait(20) and slow.asked == [0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.lora_state().items())


class Interrupted(Red):
    about = RewardInfo(aside=True)

    def __call__(self, batch):
        raise KeyboardInterrupt


def test_what_a_reward_is_interrupted_by_ends_the_iteration():
    with pytest.raises(KeyboardInterrupt):
        list(train(ToyModel(), PROMPTS, {"red": Interrupted()}, CONFIG))
    require_wanted()  # outside of such work everything is wanted


def test_who_declares_it():
    far, near = JudgeReward(Endpoint("home")), Red()
    assert about(far).aside and about(PairwiseReward(Endpoint("home"))).aside and about(TextAccuracy()).aside
    assert not about(near).aside
    assert not about(Gated(far, by=near, least=0.1)).aside and about(Gated(far, by=far, least=0.1)).aside
