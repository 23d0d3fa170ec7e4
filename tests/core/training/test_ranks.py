"""Several processes train one LoRA and give what one gives: real ones, over gloo, on the toy model."""

import os
import signal
import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from ranks import together
from toy import Dark, Red, ToyModel

from mixgrpo_core.advantages import BatchNormalised
from mixgrpo_core.evaluation.guards import DiversityLoss, HeldOutFall
from mixgrpo_core.objectives import DGPO, DiffusionNFT
from mixgrpo_core.rewards import Gated, Transformed
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.rewards.wrappers import RunningZ
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.reports import Progress
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.ranks import ALONE
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.out_of_memory import within_memory

PROMPTS = ["a" * length for length in range(3, 14)]
HELD_OUT = ["b" * 20, "c" * 31, "d" * 44]
CONFIG = TrainConfig(
    iterations=3, steps=6, images_per_prompt=4, prompts_per_iteration=4, updates=2, eval_every=2, eval_images=2
)
OF_THE_PROCESS = ("seconds", "peak_memory", "by_rank")


class FlatInOne(Red):
    """Has no opinion on one prompt in three."""

    def __call__(self, batch):
        found = super().__call__(batch)
        return Scores.of(found.values * 0) if len(batch.prompts[0]) % 3 == 0 else found


class Fails(Red):
    """Is down for the prompts of even length."""

    def __call__(self, batch):
        if len(batch.prompts[0]) % 2 == 0:
            raise OSError("no answer")
        return super().__call__(batch)


def trained(ranks, config=CONFIG, rewards=None, run=None, **more):
    """What a run leaves: LoRA, EMA and reports; of each rank."""
    model, reports = ToyModel(), []
    rewards = deepcopy(rewards) or {"red": Red(), "dark": Dark()}  # what they remember is of this run
    for report in train(model, PROMPTS, rewards, config, held_out=HELD_OUT, run=run, ranks=ranks, **more):
        reports.append({name: value for name, value in report.to_json().items() if name not in OF_THE_PROCESS})
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}, reports


def difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def close(one, other):
    """Figures that differ by rounding at most, words and counts not at all."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return other == pytest.approx(one, rel=1e-3, abs=1e-6)
    return one == other


def case(prompts=4, rewards=None, **settings):
    return replace(CONFIG, prompts_per_iteration=prompts, **settings), rewards


CASES = {
    "four prompts": case(),
    "five prompts, more updates than a rank's groups": case(5, updates=4, ema=0.9),
    "fewer prompts than ranks": case(1, updates=2),
    "flat groups": case(5, {"flat": FlatInOne()}, updates=3),
    "a failing reward beside another": case(4, {"fails": Fails(), "dark": Dark()}),
    "rewards that remember": case(
        5, {"z": Transformed(Red(), RunningZ(decay=0.5)), "gated": Gated(Dark(), by=Red(), most=0.7)}
    ),
    "credit over all groups": case(4, credit=(BatchNormalised(),)),
    "two passes": case(4, objective=DGPO()),
    "a lagged policy and forward draws": case(4, objective=DiffusionNFT()),
    "a step that sets itself": case(4, updates=4, learning_rate="auto"),
    "guards that measure": case(4, guards=(HeldOutFall(), DiversityLoss())),
}


@pytest.mark.parametrize("name", CASES)
def test_two_and_three_ranks_give_what_one_gives(name, tmp_path):
    config, rewards = CASES[name]
    alone, told = trained(ALONE, config, rewards)  # imports what the others are forked with
    moved = difference(alone, ToyModel().lora_state())
    assert moved > 1e-5
    for count in (2, 3):
        found = together(count, tmp_path / str(count), trained, config, rewards)
        for lora, reports in found:
            assert difference(found[0][0], lora) == 0, "the ranks have one LoRA"
            assert difference(alone, lora) <= 1e-3 * moved
            assert close(told, reports)


def in_folder(ranks, folder, config, observer=None):
    """A run in ``folder``, new or gone on with; what rank 0 makes, the others open."""
    if ranks.is_first:
        RunFolder.open_or_create(folder, config)
    ranks.all_gather(None)
    run = RunFolder.open(folder)
    return trained(ranks, config, run=run, **({} if observer is None else {"observer": observer(ranks)}))


def at_the_second_iteration(what):
    """An observer that does something on rank 1 while the second iteration rolls out."""

    def observer(ranks):
        def hear(event):
            if ranks.rank == 1 and isinstance(event, Progress) and (event.iteration, event.phase) == (1, "rollout"):
                what()

        return hear

    return observer


def fail():
    raise ValueError("no such thing")


def stop():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)  # until it is heard


def die():
    os.kill(os.getpid(), signal.SIGKILL)


ENDS = {
    "an error": (fail, ("RankFailed", "rank 1 of 2 failed: ValueError: no such thing")),
    "Ctrl-C": (stop, ("StoppedElsewhere", "")),
    "kill -9": (die, ("RankFailed", "another rank is gone")),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_one_rank_ends_all_and_another_number_of_ranks_goes_on(name, tmp_path):
    what, (kind, words) = ENDS[name]
    alone, told = trained(ALONE)
    found = together(2, tmp_path / "a", in_folder, tmp_path / "run", CONFIG, at_the_second_iteration(what))
    assert found[0][0] == kind
    assert found[0][1].startswith(words)
    assert (found[1] is None) == (what is die)
    run = RunFolder.open(tmp_path / "run")
    assert run.done == 1, "the last whole iteration is kept"
    for lora, _ in together(3, tmp_path / "b", in_folder, tmp_path / "run", CONFIG):
        assert difference(alone, lora) <= 1e-8
    assert [report["iteration"] for report in run.metrics()] == [0, 1, 2]
    assert len(run.metrics()[2]["by_rank"]) == 3
    assert run.metrics()[2]["rewards"]["red"]["mean"] == pytest.approx(told[2]["rewards"]["red"]["mean"], rel=1e-6)


class RunsOut(ToyModel):
    """Has room for two rows with a gradient."""

    def run(self, conds, body):
        def bounded(velocity):
            def asked(x, *more):
                if torch.is_grad_enabled() and len(x) > 2:
                    raise RuntimeError("CUDA out of memory (a test)")
                return velocity(x, *more)

            return body(asked)

        return super().run(conds, bounded)


def within(ranks):
    """The second rank's device is smaller."""
    tried = []

    def attempt(config):
        tried.append(config.update_batch)
        model = RunsOut() if ranks.rank == 1 else ToyModel()
        reports = list(train(model, PROMPTS, {"red": Red()}, config, ranks=ranks))
        return len(reports), {name: tensor.clone() for name, tensor in model.lora_state().items()}

    return *within_memory(attempt, replace(CONFIG, update_batch=4)), tried


def test_a_batch_that_one_rank_has_no_room_for_is_halved_on_all(tmp_path):
    trained(ALONE)  # imports
    first, second = together(2, tmp_path / "a", within)
    assert (first[0], second[0]) == (3, 3)
    assert first[2] == second[2] == [4, 2]
    assert difference(first[1], second[1]) == 0


def lending(ranks, fails):
    """Work that takes all ranks, which they ask for in other orders and numbers, and the last one only lends."""
    done = []
    ask = ranks.collective(done.append)
    with ranks.together():
        for number in ([0, 1, 2, 3], [3, 1], [])[ranks.rank]:
            ask(number)
        if fails and ranks.rank == 2:
            raise ValueError("no such thing")
        return done, ranks.all_gather(len(done))


def test_ranks_lend_a_hand_until_the_last_is_done(tmp_path):
    found = together(3, tmp_path / "a", lending, False)
    assert [done for done, _ in found] == [[0, 1, 2, 3, 1]] * 3
    assert [counts for _, counts in found] == [[4, 5, 0]] * 3, "told when asked for"
    for kind, words in together(3, tmp_path / "b", lending, True)[:2]:
        assert (kind, words) == ("RankFailed", "rank 2 of 3 failed: ValueError: no such thing")


def other_version(ranks):
    if ranks.rank:
        torch.__version__ = "0.1"
    return trained(ranks)


class OtherModel(ToyModel):
    digest = "another"


def other_model(ranks):
    model = OtherModel() if ranks.rank else ToyModel()
    return list(train(model, PROMPTS, {"red": Red()}, CONFIG, ranks=ranks))


def other_settings(ranks):
    return trained(ranks, replace(CONFIG, learning_rate=1e-4 * (1 + ranks.rank)))


def other_prompts(ranks):
    model, prompts = ToyModel(), PROMPTS[ranks.rank :]
    return list(train(model, prompts, {"red": Red()}, CONFIG, ranks=ranks))


class Counts(Red):
    """Remembers, but says so only when it does."""

    seen = 0

    def __call__(self, batch):
        self.seen += 1
        return super().__call__(batch)

    def state_dict(self):
        return {"seen": self.seen} if self.seen else {}


def secretly(ranks):
    return trained(ranks, replace(CONFIG, prompts_per_iteration=3), {"red": Counts()})


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (other_settings, "the setting learning_rate to be the same on all 2 ranks, found 0.0001 on rank 0 and 0.0002"),
        (other_prompts, "the list of prompts to be the same on all 2 ranks"),
        (other_model, "the model to be the same on all 2 ranks"),
        (other_version, "the version of torch to be the same on all 2 ranks"),
        (secretly, "what rewards remember to be the same on all 2 ranks"),
    ],
)
def test_ranks_that_differ_say_in_what(work, words, tmp_path):
    trained(ALONE)  # imports
    for kind, said in together(2, tmp_path / "a", work):
        assert kind == "RankFailed"
        assert words in said
