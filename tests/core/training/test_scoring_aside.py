"""Rewards that score beside the rollouts of the next prompts: what they give is what they give in turn."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner
from mixgrpo_core.rewards import Gated
from mixgrpo_core.rewards.judges import Endpoint, JudgeReward, PairwiseReward
from mixgrpo_core.rewards.ocr import TextAccuracy
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.votes import HumanVote, HumanVoteAt
from mixgrpo_core.rewards.port import RewardInfo, about
from mixgrpo_core.rewards.taste.looks import SiglipImages
from mixgrpo_core.rewards.taste.reward import TasteReward
from mixgrpo_core.rewards.taste.sources import read_picture
from mixgrpo_core.runs.reports import GroupScored, Progress, Waiting
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
    assert about(HumanVote()).aside and not about(HumanVote(fallback=near)).aside
    assert about(TasteReward(ask=HumanVote())).aside and not about(TasteReward(file="mine")).aside
    assert not about(TasteReward(encoder=SiglipImages("f"), ask=HumanVote())).aside, "a network on the device"
    assert not about(Gated(far, by=near, least=0.1)).aside and about(Gated(far, by=far, least=0.1)).aside


class Person:
    """Looks at one group after the other, and at the first only once the next has been rolled out."""

    def __init__(self, folder, ahead=True):
        self.box, self.ahead, self.next_begun = BallotBox(folder / "votes"), ahead, threading.Event()
        self.order, self.threads, self.open = [], set(), []

    def __call__(self, ballot):
        self.threads.add(threading.current_thread().name)
        if not ballot.open:
            return
        if not self.order and self.ahead:
            assert self.next_begun.wait(20)
        self.open.append([self.box.read(id).open for id in self.box.ids()].count(True))
        self.order.append((ballot.iteration, ballot.group))
        images = torch.stack([read_picture(path) for path in self.box.pictures(ballot.id)])
        red = images[..., 0].mean((1, 2))
        self.box.vote(ballot.id, {n: 1 if value > red.median() else -1 for n, value in enumerate(red.tolist())})

    def hear(self, event):
        if isinstance(event, Progress) and event.phase == "rollout" and event.done > CONFIG.steps:
            self.next_begun.set()


class Sequential(HumanVoteAt):
    """Asked where it is called, as before people could be asked beside the rollouts."""

    @property
    def about(self):
        return replace(super().about, aside=False)


def asked(folder, person, kind, taste):
    vote = HumanVote(seconds=20.0)
    reward = TasteReward(ask=kind(vote, folder / "votes", person), least=8) if taste else None
    return reward or kind(vote, folder / "votes", person)


@pytest.mark.parametrize("taste", [False, True], ids=["votes", "a taste"])
def test_people_vote_on_a_group_while_the_next_is_rolled_out_and_the_run_is_bit_equal(tmp_path, taste):
    ran = []
    for name, kind in (("aside", HumanVoteAt), ("in turn", Sequential)):
        person = Person(tmp_path / name, ahead=kind is HumanVoteAt)
        model, heard, reward = ToyModel(), [], asked(tmp_path / name, person, kind, taste)

        def hear(event, person=person, heard=heard):
            person.hear(event)
            heard.append(event)

        reports = list(train(model, PROMPTS, {"vote": reward}, CONFIG, observer=hear))
        ran.append((person, model.lora_state(), reports, reward.state_dict(), heard))
    (person, lora, reports, state, heard), (other, plain, expected, state_in_turn, _) = ran
    assert person.threads == {"mixgrpo aside"} and other.threads == {"MainThread"}
    assert person.order == other.order == sorted(person.order) and person.order[:5] == [(0, n) for n in range(5)]
    assert set(person.open) == {1}, "the clock of a group starts when it is shown"
    assert all(torch.equal(tensor, plain[name]) for name, tensor in lora.items())
    assert [one.rewards for one in reports] == [one.rewards for one in expected]
    assert spelled(state) == spelled(state_in_turn)
    waiting = [event.groups for event in heard if isinstance(event, Waiting) and event.iteration == 0]
    assert max(waiting) > 1 and waiting[-1] == 0


def spelled(state):
    """A state with its tensors as text."""
    if isinstance(state, dict):
        return {name: spelled(value) for name, value in state.items()}
    return repr(state.tolist()) if isinstance(state, torch.Tensor) else repr(state)


def test_a_stop_ends_the_wait_and_loses_no_vote(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    box, shown, ended = BallotBox(run.path / "votes"), threading.Event(), threading.Event()

    def half(ballot):
        box.vote(ballot.id, {0: 1, 1: -1})
        shown.set()

    class Ends(HumanVoteAt):
        def __call__(self, batch):
            try:
                return super().__call__(batch)
            finally:
                ended.set()

    def stop(event):
        if isinstance(event, Progress) and event.done > CONFIG.steps and shown.wait(20):
            raise KeyboardInterrupt

    reward = Ends(HumanVote(seconds=60.0), run.path / "votes", half)
    with pytest.raises(KeyboardInterrupt):
        list(train(ToyModel(), PROMPTS, {"vote": reward}, CONFIG, observer=stop, run=run))
    assert ended.wait(20), "nobody is asked any more"
    (ballot,) = [box.read(id) for id in box.ids()]
    assert ballot.open and ballot.votes == {0: 1, 1: -1}
    person = Person(run.path, ahead=False)
    vote = HumanVoteAt(HumanVote(seconds=60.0), run.path / "votes", person)
    list(train(ToyModel(), PROMPTS, {"vote": vote}, CONFIG, run=RunFolder.open(run.path)))
    assert ballot.id in box.ids() and len(box.ids()) == 10 and box.read(ballot.id).full
