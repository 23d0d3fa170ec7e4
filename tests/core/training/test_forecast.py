"""How long a run will take, before it begins."""

import json
from dataclasses import replace
from time import sleep

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner
from mixgrpo_core.rewards.port import RewardInfo
from mixgrpo_core.support.durations import duration
from mixgrpo_core.training.forecast import foretold, from_earlier
from mixgrpo_core.training.timed_step import rates_of_a_step
from mixgrpo_core.training.workload import Rates, Timed, Workload

CONFIG = TrainConfig(
    iterations=20,
    steps=8,
    images_per_prompt=8,
    prompts_per_iteration=10,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    updates=1,
    eval_every=10,
    eval_images=4,
)
SETUP = {"model": {"folder": "m", "height": 512, "seed": 0}, "rewards": {"a": "Red()"}, "prompts": ["one"]}
SECONDS = {"rollout": 16.0, "decode": 8.0, "reward": 4.0, "train": 12.0}
LOOK = 30.0
HELD_OUT = 6


def line(iteration, seconds, looked=False):
    """A line of ``metrics.jsonl``: an iteration, and an evaluation of 24 images where it has one."""
    stats = {"mean": 0.5, "spread": 0.1, "valid": 24, "count": 24}
    told = {"iteration": iteration, "rewards": {}, "update": {"loss": 0.0}, "window": [0, 2], "seconds": dict(seconds)}
    told["evaluations"] = [{"iteration": iteration, "rewards": {"a": stats}}] if looked else []
    if looked:
        told["seconds"]["evaluation"] = LOOK
    return json.dumps(told) + "\n"


def earlier(folder, name, *, config=CONFIG, setup=SETUP, seconds=SECONDS, iterations=8):
    """A run folder with known seconds; the first iteration warms up, one had the machine for itself, one shared it."""
    run = RunFolder.create(folder / name, config, setup)
    factors = {0: 5.0, 3: 0.1, 4: 9.0}
    lines = [
        line(number, {phase: factors.get(number, 1) * spent for phase, spent in seconds.items()}, looked=number == 0)
        for number in range(iterations)
    ]
    (run.path / "metrics.jsonl").write_text("".join(lines))
    return run.path


def of(config, **options):
    return Workload(config, held_out=HELD_OUT, **options)


def test_the_same_settings_take_what_they_took(tmp_path):
    path = earlier(tmp_path, "first")
    found = from_earlier(of(CONFIG, shown=0), [path], SETUP)
    assert found.seconds == pytest.approx(20 * 40 + 3 * LOOK)
    assert found.words == (
        "This run will take about 14 min 50 s (20 iterations of 40 s, 3 held-out evaluations of 30 s), as the run "
        "first took on this machine."
    )
    rest = from_earlier(of(CONFIG, shown=0), [path], SETUP, done=15)
    assert rest.seconds == pytest.approx(5 * 40 + LOOK)
    assert rest.words.startswith("The rest of this run will take about 3 min 50 s (5 iterations")


def test_other_settings_take_what_their_counted_work_takes(tmp_path):
    """More images, more iterations, and the gallery: pictures that are rolled out in full and not scored."""
    path = earlier(tmp_path, "first")
    wide = replace(CONFIG, images_per_prompt=16, iterations=40, eval_every=0)
    plain, wider = Workload(CONFIG, shown=0), Workload(wide, shown=0)
    seconds = 40 * (16 * wider.rows(0, 1) / plain.rows(0, 1) + 12 * wider.units(0, 1) / plain.units(0, 1) + 2 * (8 + 4))
    assert from_earlier(wider, [path], SETUP).seconds == pytest.approx(seconds)
    shown = from_earlier(Workload(wide, shown=4), [path], SETUP)
    entries = 8 + 1
    assert shown.seconds - seconds == pytest.approx(entries * 4 * (8 * 16 / plain.rows(0, 1) + 8 / 80))


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_take_what_the_first_of_them_does(ranks, tmp_path):
    """By an earlier run of one process, and by one of as many; held-out prompts are shared, the gallery is not."""
    config = replace(CONFIG, prompts_per_iteration=4, updates=2)
    alone, shared = of(config, shown=4), of(config, shown=4, ranks=ranks)
    found = from_earlier(shared, [earlier(tmp_path, "alone", config=config)], SETUP)
    most = {2: 2, 3: 2}[ranks]  # of 4 prompts in all; of the 2 of each update one
    sampled, trained = (SECONDS["rollout"] + SECONDS["decode"] + SECONDS["reward"]) * most / 4, SECONDS["train"] / 2
    assert shared.alone(0, 1, found.rates) == pytest.approx(sampled + trained)
    assert shared.evaluation(found.rates) == pytest.approx(LOOK / ranks)
    assert shared.entry(found.rates) == alone.entry(found.rates)

    path = earlier(tmp_path, "several", config=config)
    metrics = path / "metrics.jsonl"
    lines = [{**json.loads(line), "by_rank": [{}] * ranks} for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    again = from_earlier(shared, [path], SETUP)
    assert shared.alone(0, 1, again.rates) == pytest.approx(sum(SECONDS.values()))
    assert shared.evaluation(again.rates) == pytest.approx(LOOK)


def test_one_group_tells_of_an_iteration_whose_calls_have_rows_of_several_prompts():
    """The seconds of a machine on which a call costs as much as two rows are told apart again."""
    machine = Rates(row=1.0, unit=2.0, call=2.0, decoded=0.5, scored=0.25)
    config = replace(CONFIG, planner=WindowPlanner(window=FrozenWindow(size=2, start=3)))  # a shared prefix
    group = Workload(replace(config, iterations=1, prompts_per_iteration=1, updates=1), shown=0)
    network = group.alone(0, 1, replace(machine, decoded=0.0, scored=0.0))
    seconds = {"rollout": network / 4, "train": 3 * network / 4, "probe": 9.0, "decode": 77.0, "reward": 88.0}
    first = Timed(iteration=0, seconds=seconds, evaluations=0, evaluated=0)
    step = replace(machine, row=0.1, unit=0.2, call=0.2)  # ten times as fast, alone
    found = group.measured(first, step)
    whole = Workload(config, shown=0)
    assert whole.alone(0, 1, found) == pytest.approx(whole.alone(0, 1, machine))
    assert whole.alone(0, 1, group.rates([first])) > 1.15 * whole.alone(0, 1, machine), "by rows alone it is too much"


def test_evaluations_count_their_calls_and_the_rewards_that_only_watch():
    """6 prompts of 4 images in calls of 16 rows and 8 steps, and pictures of the gallery in calls of their own."""
    rates = Rates(row=1.0, unit=0.0, decoded=10.0, scored=100.0, watched=1000.0, call=7.0)
    work = of(replace(CONFIG, rollout_batch=16), shown=4)
    assert work.evaluation(rates) == 24 * (8 * 1 + 10 + 100 + 1000) + 2 * 8 * 7
    assert work.entry(rates) == 4 * (8 + 10) + 1 * 8 * 7
    narrow = of(replace(CONFIG, rollout_batch=3), shown=4)
    assert narrow.evaluation(replace(rates, watched=0.0)) == 24 * (8 + 10 + 100) + 8 * 8 * 7
    assert narrow.entry(rates) == 4 * (8 + 10) + 2 * 8 * 7


def test_rewards_without_a_weight_are_timed_apart():
    class Slow(Red):
        def __call__(self, batch):
            sleep(0.02)
            return super().__call__(batch)

    rewards = {"red": Red(), "slow": Slow()}
    found = rates_of_a_step(ToyModel(), "a prompt", replace(CONFIG, reward_weights={"slow": 0.0}), rewards)
    assert found.scored < found.watched and found.watched >= 0.02 / CONFIG.decode_batch


def test_without_an_end_it_tells_an_iteration(tmp_path):
    found = from_earlier(of(replace(CONFIG, iterations=-1)), [earlier(tmp_path, "first")], SETUP)
    assert found.seconds is None and found.words.startswith("An iteration will take about 40 s, as the run first")


def test_only_a_run_of_the_same_model_at_the_same_size_is_asked_and_the_likest_of_these(tmp_path):
    slow = {phase: 10 * spent for phase, spent in SECONDS.items()}
    large = {**SETUP, "model": {**SETUP["model"], "height": 1024}}
    others = [earlier(tmp_path, "large", setup=large, seconds=slow), earlier(tmp_path, "none", iterations=0)]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{ torn")
    others += [tmp_path / "torn", tmp_path / "not there"]
    assert from_earlier(of(CONFIG), others, SETUP) is None
    batch = earlier(tmp_path, "batch", config=replace(CONFIG, rollout_batch=1), seconds=slow)
    rewards = earlier(tmp_path, "rewards", setup={**SETUP, "rewards": {"b": "Dark()"}}, seconds=slow)
    lacking = from_earlier(of(CONFIG), [*others, rewards], SETUP)
    assert lacking.words.endswith("took on this machine; its rewards were others, so their time is not known.")
    found = from_earlier(of(CONFIG), [*others, rewards, batch], SETUP)
    assert "as the run batch took" in found.words and found.lacks == ""
    seed = {**SETUP, "model": {**SETUP["model"], "seed": 9}, "prompts": ["two"]}
    like = earlier(tmp_path, "like", setup=seed, config=replace(CONFIG, learning_rate=1.0))
    assert "as the run like took" in from_earlier(of(CONFIG), [batch, rewards, like], SETUP).words


def test_one_step_is_timed_where_nothing_is_known_and_leaves_no_trace(tmp_path):
    model = ToyModel(1)
    state = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = foretold(of(CONFIG), model, "a prompt", [], SETUP)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.lora_state().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert found.words.endswith("by one timed step; the rewards' time is not in it.")
    assert found.seconds > 0


def test_a_step_is_of_as_many_images_as_the_batch_has_and_memory_holds():
    class Small(ToyModel):
        most = 4

        def run(self, conds, body):
            def guarded(velocity):
                def call(x, sigma, rows=None):
                    if len(x) > self.most:
                        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
                    return velocity(x, sigma, rows)

                return body(call)

            return super().run(conds, guarded)

    model = Small()
    rates_of_a_step(model, "a prompt", replace(CONFIG, rollout_batch=4, update_batch=3))
    assert model.evaluations == 2 * (1 + 4) + 2 * (1 + 3)
    found = rates_of_a_step(model, "a prompt", replace(CONFIG, rollout_batch=16))
    assert found.row > 0 and found.call == 0, "one image alone tells it then"


def test_a_step_times_decoding_and_the_rewards_which_remember_nothing_of_it():
    asked, decoded = [], []

    class Remembers(Red):
        seen = 0

        def __call__(self, batch):
            asked.append(len(batch.images))
            self.seen += 1
            return super().__call__(batch)

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    class Person(Red):
        about = RewardInfo(held_out=False)

        def __call__(self, batch):
            raise AssertionError("nobody is asked before a run")

    class Decodes(ToyModel):
        def decode(self, x, *, grad=False):
            decoded.append(len(x))
            return super().decode(x, grad=grad)

    red, model, config = Remembers(), Decodes(), replace(CONFIG, rollout_batch=6, decode_batch=4)
    found = foretold(of(config), model, "a prompt", [], SETUP, rewards={"red": red, "person": Person()})
    assert (asked, decoded, red.seen) == ([4], [1, 1, 4, 4], 0)
    assert found.rates.scored > 0 and found.lacks == "the other rewards' time is not in it"
    assert foretold(of(config), model, "a prompt", [], SETUP, rewards={"red": red}).lacks == ""


def test_where_decoding_takes_long_one_image_tells_its_time():
    decoded = []

    class Slow(ToyModel):
        def decode(self, x, *, grad=False):
            decoded.append(len(x))
            sleep(0.06)
            return super().decode(x, grad=grad)

    assert rates_of_a_step(Slow(), "a prompt", CONFIG).decoded >= 0.06 and decoded == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.9, "1 h"),
        (7500, "2 h 5 min"),
        (3 * 86400 + 4 * 3600, "3 days 4 h"),
    ],
)
def test_seconds_in_words(seconds, words):
    assert duration(seconds) == words


class TwoPrecisions(ToyModel):
    """A model that decodes ten times faster in bfloat16."""

    decode_dtype = torch.float32

    def decode(self, x, *, grad=False):
        sleep(0.05 * len(x))
        return super().decode(x)

    def decode_low(self, x):
        sleep(0.005 * len(x))
        return super().decode(x)


def test_rollouts_are_counted_in_the_precision_that_they_will_have_and_held_out_images_in_theirs():
    auto, red = replace(CONFIG, decode_dtype="auto"), {"red": Red()}
    low = foretold(of(auto), TwoPrecisions(), "a prompt", [], SETUP, rewards=red)
    assert low.rates.decoded < 0.03 < low.rates.shown
    assert "as decoded in bfloat16, which their first group has to allow" in low.words
    own = foretold(of(replace(CONFIG, decode_dtype="float32")), TwoPrecisions(), "a prompt", [], SETUP, rewards=red)
    assert own.rates.decoded > 0.03 and own.rates.shown is None and own.lacks == ""
