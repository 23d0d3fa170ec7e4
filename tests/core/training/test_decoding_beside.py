"""Groups that are decoded beside the rollouts of the next ones: what comes of a run is what comes of it in turn."""

import threading
from copy import copy
from dataclasses import replace

import pytest
import tiny_pipelines
import torch
from ranks import together
from tiny_pipelines import opened
from toy import Dark, Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner
from mixgrpo_core.evaluation.guards import DiversityLoss
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.rewards.port import RewardInfo
from mixgrpo_core.runs.reports import GroupScored, Progress
from mixgrpo_core.settings.prompts import read_prompts
from mixgrpo_core.support.ranks import ALONE
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.out_of_memory import within_memory

CONFIG = TrainConfig(
    iterations=2,
    steps=5,
    images_per_prompt=4,
    prompts_per_iteration=5,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
    updates=2,
    eval_every=0,
    learning_rate=1e-2,
    rollout_batch=4,
    decode_beside=True,
    checkpoint_every=1,
)
IN_TURN = replace(CONFIG, decode_beside=False, rollout_batch=1)  # one prompt after the other, too
PROMPTS = ["a", "bbb", "ccccc", "dd", "eeeeeee", "ffff"]
ASIDE = "mixgrpo aside"


class Decodes(ToyModel):
    """Decodes in another thread; keeps in which, and hears ``at`` before it does."""

    decode_dtype = torch.float32

    def __init__(self, at=lambda x: None):
        super().__init__()
        self.at, self.threads = at, []

    def decoder(self):
        return copy(self)

    def decode(self, x, *, grad=False):
        assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        self.threads.append(threading.current_thread().name)
        self.at(x)
        return super().decode(x)

    def decode_low(self, x):
        return self.decode(x.bfloat16().float())


class Remembers(Red):
    """Its score depends on what it scored before; one prompt of some fails."""

    def __init__(self):
        self.seen = 0.0

    def __call__(self, batch):
        if batch.prompts[0] == "dd":
            raise OSError("no answer")
        found = super().__call__(batch)
        self.seen = 0.5 * self.seen + float(found.values.mean())
        return replace(found, values=found.values - self.seen)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Away(Remembers):
    about = RewardInfo(aside=True)


def ran(config, reward=None, model=None, **more):
    model, heard = model or Decodes(), []
    rewards = {"dark": Dark(), "red": reward or Remembers()}
    reports = list(train(model, PROMPTS, rewards, config, observer=heard.append, **more))
    return model, reports, [event for event in heard if isinstance(event, GroupScored)]


@pytest.mark.parametrize("reward", [Remembers, Away])
@pytest.mark.parametrize("decode", ["float32", "auto"])
def test_a_run_is_bit_equal_to_the_one_that_decodes_in_turn(decode, reward):
    torch.manual_seed(5)
    drawn = torch.random.get_rng_state()
    more = {"decode_dtype": decode, "guards": (DiversityLoss(),)}
    (model, reports, groups), (plain, expected, others) = (
        ran(replace(config, **more), reward()) for config in (CONFIG, IN_TURN)
    )
    assert all(torch.equal(tensor, plain.lora_state()[name]) for name, tensor in model.lora_state().items())
    again = {"MainThread"} if decode == "auto" else set()  # the first group, to choose the precision
    assert set(model.threads) == {ASIDE} | again and set(plain.threads) == {"MainThread"}
    for one, other in zip(reports, expected, strict=True):
        assert one.update.figures == other.update.figures and one.rewards == other.rewards
        assert one.decoded == other.decoded and {"rollout", "decode"} <= one.seconds.keys()
        assert [str(failure) for failure in one.failures] == [str(failure) for failure in other.failures] != []
    for one, other in zip(groups, others, strict=True):
        assert one.prompt == other.prompt and torch.equal(one.images, other.images)
        assert torch.equal(one.advantage, other.advantage)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_group_is_decoded_while_the_next_prompts_are_rolled_out():
    next_begun, waited = threading.Event(), []

    def first_only(x):
        if not waited:
            waited.append(next_begun.wait(20))

    def hear(event):
        if isinstance(event, Progress) and event.phase == "rollout" and event.done > CONFIG.steps:
            next_begun.set()

    config = replace(CONFIG, iterations=1, rollout_batch=8)  # two groups fill a call
    (report,) = train(Decodes(first_only), PROMPTS, {"red": Red()}, config, observer=hear)
    assert waited == [True] and report.rewards["red"].valid == 20


def test_memory_that_runs_out_in_the_thread_halves_the_batch_that_is_decoded():
    told = []

    def three_at_most(x):
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def attempt(config):
        return ran(config, model=Decodes(three_at_most))

    model, _, _ = within_memory(attempt, replace(CONFIG, decode_batch=4), lambda lower, words: told.append(words))
    assert told == ["decode_batch 4 did not fit while decoding, 2 is tried"]
    plain, _, _ = ran(replace(CONFIG, decode_batch=2))
    assert all(torch.equal(tensor, plain.lora_state()[name]) for name, tensor in model.lora_state().items())


def threads():
    return [thread for thread in threading.enumerate() if thread.name == ASIDE]


@pytest.mark.parametrize("where", ["in the rollout", "in the thread"])
def test_a_stop_in_the_middle_ends_the_thread_and_the_run_goes_on_bit_for_bit(tmp_path, where):
    decoding, rolled = threading.Event(), []

    def at(x):
        decoding.set()
        if where == "in the thread" and len(rolled) > 8 * CONFIG.steps:
            raise KeyboardInterrupt

    def hear(event):
        if isinstance(event, Progress) and event.phase == "rollout":
            rolled.append(event)
            if where == "in the rollout" and len(rolled) == 8 * CONFIG.steps:
                assert decoding.is_set()
                raise KeyboardInterrupt

    run = RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        list(train(Decodes(at), PROMPTS, {"red": Red()}, CONFIG, observer=hear, run=run))
    assert threads() == [], "nothing is decoded any more"
    model, plain = Decodes(), Decodes()
    list(train(model, PROMPTS, {"red": Red()}, CONFIG, run=RunFolder.open(run.path)))
    list(train(plain, PROMPTS, {"red": Red()}, IN_TURN))
    assert all(torch.equal(tensor, plain.lora_state()[name]) for name, tensor in model.lora_state().items())


def test_a_stop_leaves_what_is_not_decoded_yet():
    """The thread hears it between two calls of the decoder."""
    seen, under_way, go_on = [], threading.Event(), threading.Event()

    def at(x):
        seen.append(len(x))
        under_way.set()
        assert go_on.wait(20)

    def hear(event):
        if isinstance(event, Progress) and event.phase == "rollout" and event.done > CONFIG.steps:
            assert under_way.wait(20)
            threading.Timer(0.1, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train(Decodes(at), PROMPTS, {"red": Red()}, replace(CONFIG, decode_batch=1), observer=hear))
    assert seen == [1] and threads() == []


def test_two_ranks_give_what_one_gives(tmp_path):
    def of(ranks):
        model, reports, _ = ran(CONFIG, Red(), ranks=ranks)
        assert set(model.threads) == {ASIDE}
        return {name: tensor.clone() for name, tensor in model.lora_state().items()}, reports[-1].rewards["red"]

    lora, rewards = of(ALONE)
    for found, told in together(2, tmp_path, of):
        assert told.mean == pytest.approx(rewards.mean, rel=1e-5) and told.valid == rewards.valid
        assert all(torch.allclose(found[name], lora[name], atol=1e-5) for name in lora)


def test_prompts_of_several_sizes_of_a_pipeline(tmp_path):
    folder = tiny_pipelines.make_folder("flux-dev", tmp_path / "flux")
    prompts = read_prompts(("a red circle", "a red circle --size 32x48", "a blue square --size 64x32"), []).train
    bright = {"bright": FunctionReward(lambda images, prompts: images.mean((1, 2, 3)))}
    images = []
    for beside in (True, False):
        heard = []
        config = replace(CONFIG, iterations=1, prompts_per_iteration=3, decode_beside=beside)
        list(train(opened(folder), prompts, bright, config, observer=heard.append))
        images.append([event.images for event in heard if isinstance(event, GroupScored)])
    assert [one.shape[1:3] for one in images[0]] != [images[0][0].shape[1:3]] * 3
    assert all(torch.equal(one, other) for one, other in zip(*images, strict=True))


def test_models_that_cannot_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="while the network runs, and ToyModel cannot: .* Leave decode_beside out"):
        list(train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG))
    with pytest.raises(
        ValueError, match="found the demo's edit twin, which reads pictures .*: leave decode_beside out"
    ):
        load_demo(edit=True).decoder()
    demo = load_demo()
    demo.device = torch.device("mps")
    with pytest.raises(ValueError, match="expected the device cuda or cpu for decode_beside, found mps, .*: leave"):
        demo.decoder()
