"""Guards: what each sees in numbers of known size, and what a run does with their word."""

import json
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
import torch
from rich.console import Console
from toy import Dark, Red, ToyModel

from mixgrpo_core import (
    BatchNormalised,
    DiversityLoss,
    HeldOutFall,
    PixelDrift,
    RunFolder,
    SlidingWindow,
    SmallPixels,
    TrainConfig,
    WindowPlanner,
    train,
)
from mixgrpo_core.cli.progress import run_progress
from mixgrpo_core.cli.report import print_summary
from mixgrpo_core.cli.settings import RunConfig, parse_flags
from mixgrpo_core.evaluation.guards import Alarm, EvaluationView
from mixgrpo_core.evaluation.guards.watch import Watch
from mixgrpo_core.evaluation.held_out import Evaluation
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.rewards.port import RewardBatch, RewardInfo, Scores
from mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_core.training.pace import Pace
from mixgrpo_core.training.workload import Workload

NAN = float("nan")


def stats(mean, spread=1.0, valid=200):
    return RewardStats(mean=mean, spread=spread, valid=valid, count=valid)


def story(guard, measured, rewards=None, weights=None):
    """The alarms of evaluations that measure the given images, one after another, through a checkpoint each time."""
    memory, alarms = {}, []
    for place, images in enumerate(measured):
        seen = EvaluationView(
            iteration=place, rewards=rewards or {}, weights=weights or {}, measured=guard.measure(images)
        )
        alarm, memory = guard.judge(seen, memory)
        memory = json.loads(json.dumps(memory, allow_nan=False))
        alarms.append(None if alarm is None else alarm.level)
    return alarms


# Diversity


def shrunk_to_the_mean(images, factor):
    mean = images.mean(0)
    return mean + factor * (images - mean)


def test_diversity_is_a_share_of_what_it_was_at_first():
    images = torch.rand(5, 16, 12, 3, generator=torch.Generator().manual_seed(0))
    measured = [shrunk_to_the_mean(images, factor) for factor in (1.0, 0.71, 0.69, 0.51, 0.49, 1.3)]
    guard = DiversityLoss(warn=0.7, stop=0.5)
    assert story(guard, measured) == [None, None, "warn", "warn", "stop", None]
    assert story(replace(guard, stop=None), measured)[4] == "warn"
    assert story(replace(guard, warn=None), measured) == [None, None, None, None, "stop", None]


def test_the_distance_of_black_from_white():
    images = torch.stack([torch.zeros(20, 30, 3), torch.ones(20, 30, 3)])
    assert DiversityLoss(embed=SmallPixels(side=4)).measure(images)["distance"] == pytest.approx([48**0.5])


def test_moving_the_images_of_all_prompts_together_is_no_loss():
    images = torch.rand(4, 8, 8, 3) / 2
    assert story(DiversityLoss(warn=0.99), [images, images + 0.4]) == [None, None]


def test_alike_images_at_the_start_and_single_images_raise_no_alarm():
    same = torch.full((3, 8, 8, 3), 0.5)
    assert story(DiversityLoss(), [same, same, torch.rand(3, 8, 8, 3)]) == [None] * 3
    assert DiversityLoss().measure(same[:1]) == {}
    assert story(DiversityLoss(), [same[:1], same[:1]]) == [None] * 2


@dataclass(frozen=True)
class Redness:
    """An embedding of one number."""

    def __call__(self, images):
        return images[..., :1].mean((1, 2))


def test_an_embedding_that_is_given_is_used_and_another_one_starts_anew():
    images = torch.zeros(2, 8, 8, 3)
    images[1, ..., 1:] = 1.0
    images[1, ..., 0] = 0.25
    guard = DiversityLoss(embed=Redness())
    assert guard.measure(images)["distance"] == pytest.approx([0.25])
    _, memory = guard.judge(EvaluationView(iteration=0, rewards={}, weights={}, measured=guard.measure(images)), {})
    pixels = DiversityLoss()
    alarm, memory = pixels.judge(
        EvaluationView(iteration=5, rewards={}, weights={}, measured=pixels.measure(images)), memory
    )
    assert alarm is None
    assert memory["distance"] == pytest.approx(pixels.measure(images)["distance"][0])


# Drift


def greys(*levels):
    return torch.stack([torch.full((8, 8, 3), level) for level in levels])


def test_drift_is_in_units_of_the_spread_at_the_start():
    start = greys(0.3, 0.4, 0.5)  # brightness .4, spread .1; nothing else differs between grey images
    moved = [start + shift for shift in (0.0, 0.14, 0.16, -0.16, 0.31)]
    guard = PixelDrift(warn=1.5, stop=3.0)
    assert story(guard, [start, *moved]) == [None, None, None, "warn", "warn", "stop"]
    alarm, _ = guard.judge(
        EvaluationView(iteration=1, rewards={}, weights={}, measured=guard.measure(moved[4])),
        guard.judge(EvaluationView(iteration=0, rewards={}, weights={}, measured=guard.measure(start)), {})[1],
    )
    assert "brightness has risen by 3.1 times" in alarm.sentence


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("saturation", lambda x: x.mean(-1, keepdim=True) + 2.5 * (x - x.mean(-1, keepdim=True))),
        ("contrast", lambda x: 0.5 + 0.1 * (x - 0.5)),
        ("sharpness", lambda x: torch.cat([x[:, ::2].repeat_interleave(2, 1)], 0)[:, :, ::2].repeat_interleave(2, 2)),
        ("JPEG size", lambda x: torch.full_like(x, 0.5)),
    ],
)
def test_every_statistic_is_watched(name, change):
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.4, 0.6, 16)[None, :, None, None]
    strength = torch.linspace(0.18, 0.22, 6)[:, None, None, None]
    start = ramp + strength * (torch.rand(6, 16, 16, 3, generator=generator) - 0.5)
    guard = PixelDrift()
    _, memory = guard.judge(EvaluationView(iteration=0, rewards={}, weights={}, measured=guard.measure(start)), {})
    others = {key: values for key, values in guard.measure(change(start)).items() if key == name}
    alarm, _ = guard.judge(EvaluationView(iteration=1, rewards={}, weights={}, measured=others), memory)
    assert alarm is not None
    assert name in alarm.sentence


def test_images_too_small_for_a_measure_and_pixels_that_are_not_finite_are_no_alarm():
    small = torch.rand(4, 2, 2, 3)
    assert story(PixelDrift(), [small, small]) == [None, None]
    broken = torch.rand(4, 8, 8, 3)
    broken[0] = NAN
    assert story(PixelDrift(), [broken, broken]) == [None, None]


# Held-out rewards


def fall(guard, watched, trained):
    """Levels of the alarms over evaluations with these means; "t" is trained on, "w" only watched."""
    memory, alarms = {}, []
    for place, (w, t) in enumerate(zip(watched, trained, strict=True)):
        seen = EvaluationView(
            iteration=place,
            rewards={"w": stats(w), "t": stats(t)},
            weights={"t": 2.0},
            rollouts={"t": (t, 1.0)} if place else {},
        )
        alarm, memory = guard.judge(seen, memory)
        memory = json.loads(json.dumps(memory, allow_nan=False))
        alarms.append(None if alarm is None else alarm.level)
    return alarms


RISING = [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("watched", "trained", "expected"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], RISING, [None, None, "warn", "warn", "stop"]),
        ([5.0, 4.0, 6.0, 5.0, 4.0], RISING, [None, None, None, None, "warn"]),  # a new best counts anew
        ([5.0, 4.8, 4.8, 4.8, 4.8], RISING, [None] * 5),  # too little to mean anything
        ([5.0, 4.0, 4.9, 4.0, 4.9], RISING, [None] * 5),  # not in a row
        ([5.0, 4.0, 3.0, 2.0, 1.0], RISING[::-1], [None] * 5),  # everything falls: that is no hacking
        (RISING, RISING, [None] * 5),
        ([5.0, NAN, 4.0, NAN, 3.0], RISING, [None, None, None, None, "warn"]),  # no score says nothing
    ],
)
def test_a_watched_reward_that_falls_while_the_trained_one_rises(watched, trained, expected):
    assert fall(HeldOutFall(warn=2, stop=4), watched, trained) == expected


def test_a_trained_reward_that_rises_in_rollouts_only():
    guard, memory, alarms = HeldOutFall(warn=2), {}, []
    for place, (held_out, rollouts) in enumerate([(0.0, None), (2.0, 0.0), (1.0, 1.0), (1.0, 2.0)]):
        seen = EvaluationView(
            iteration=place,
            rewards={"t": stats(held_out)},
            weights={"t": 1.0},
            rollouts={} if rollouts is None else {"t": (rollouts, 1.0)},
        )
        alarm, memory = guard.judge(seen, memory)
        alarms.append(alarm)
    assert alarms[:3] == [None] * 3
    assert "on trained prompts" in alarms[3].sentence
    assert "1, was 2" in alarms[3].sentence


def test_trained_rewards_that_nobody_asks_about_held_out_images_are_taken_from_the_rollouts():
    guard, memory, alarms = HeldOutFall(warn=2), {}, []
    for place, watched in enumerate([5.0, 4.0, 3.0, 2.0]):
        rollouts = {"t": (float(place), 1.0)} if place else {}
        seen = EvaluationView(iteration=place, rewards={"w": stats(watched)}, weights={"t": 1.0}, rollouts=rollouts)
        alarm, memory = guard.judge(seen, memory)
        alarms.append(alarm is not None)
    assert alarms == [False, False, False, True]  # the first rollouts come after the first evaluation


def test_a_fall_within_the_noise_of_few_images_is_none():
    def alarms(valid):
        guard, memory, found = HeldOutFall(warn=2), {}, []
        for place, watched in enumerate([1.0, 0.6, 0.6]):
            rewards = {"w": stats(watched, valid=valid), "t": stats(float(place))}
            alarm, memory = guard.judge(EvaluationView(iteration=place, rewards=rewards, weights={"t": 1.0}), memory)
            found.append(alarm is not None)
        return found

    assert alarms(32) == [False] * 3, "its standard error is 0.25"
    assert alarms(128) == [False, False, True]


# At work in a run


def evaluation(iteration=0, **means):
    return Evaluation(iteration=iteration, rewards={name: stats(mean) for name, mean in means.items()}, scores={})


@dataclass(frozen=True)
class Broken:
    where: str

    def measure(self, images):
        if self.where == "measure":
            raise RuntimeError("no such file")
        return {}

    def judge(self, seen, memory):
        raise RuntimeError("no such file")


@pytest.mark.parametrize("where", ["measure", "judge"])
def test_a_guard_that_fails_costs_its_own_word_only(where):
    watch, notes = Watch([Broken(where), DiversityLoss()], {}), {}
    images = torch.rand(3, 8, 8, 3)
    watch.see(images)
    (alarm,) = watch.judge(evaluation(), notes)
    assert (alarm.guard, alarm.level) == ("Broken", "warn")
    assert "no such file" in alarm.sentence
    watch.see(shrunk_to_the_mean(images, 0.1))
    assert [alarm.guard for alarm in watch.judge(evaluation(), notes)] == ["Broken", "DiversityLoss"]


def test_two_guards_of_a_class_remember_apart():
    watch, notes = Watch([DiversityLoss(), DiversityLoss(embed=Redness())], {}), {}
    watch.see(torch.rand(3, 8, 8, 3))
    watch.judge(evaluation(), notes)
    assert notes["guards"].keys() == {"DiversityLoss", "DiversityLoss 2"}
    assert notes["guards"]["DiversityLoss"] != notes["guards"]["DiversityLoss 2"]


def test_snapshots_taken_before_do_not_change():
    """They hold the same notes: what is changed in place would be written into an interrupted iteration's start."""
    watch, notes = Watch([DiversityLoss(), HeldOutFall()], {"t": 1.0}), {}
    for mean in (1.0, 2.0):
        before, kept = dict(notes), json.dumps(notes)
        watch.see(torch.rand(3, 8, 8, 3))
        watch.hear({"t": stats(mean)}, notes)
        watch.judge(evaluation(t=mean), notes)
        assert json.dumps(before) == kept


PROMPTS, HELD_OUT = ["a", "bbbb"], ["zz", "cc c"]
CONFIG = TrainConfig(
    iterations=6,
    steps=6,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.2,
    eval_every=2,
    eval_images=4,
    checkpoint_every=100,
    guards=(),
)


def run(path, config, model=None, rewards=None):
    made = rewards or {"red": Red()}
    model = model or ToyModel()
    folder = RunFolder.open_or_create(path, config) if path else None
    with closing(train(model, PROMPTS, made, config, held_out=HELD_OUT, run=folder)) as reports:
        return list(reports)


STRICT = PixelDrift(warn=1e-6, stop=1e-5)  # any training moves more than that


def test_a_stop_ends_the_run_with_a_checkpoint_and_says_why(tmp_path):
    config = replace(CONFIG, guards=(STRICT,))
    reports = run(tmp_path / "run", config)
    assert [report.iteration for report in reports] == [0, 1]
    assert reports[0].warnings == []
    (alarm,) = reports[1].warnings
    assert alarm.level == "stop"
    assert reports[1].stopped == str(alarm)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.latest().iteration == 2
    assert (tmp_path / "run/lora/last.safetensors").exists()
    line = folder.metrics()[1]
    assert line["warnings"] == [{"guard": "PixelDrift", "level": "stop", "sentence": alarm.sentence}]
    assert line["stopped"].startswith("PixelDrift: the images' ")


def test_a_stopped_run_stays_stopped_until_it_is_asked_for_more(tmp_path):
    config = replace(CONFIG, guards=(STRICT,))
    run(tmp_path / "run", config)
    assert run(tmp_path / "run", config) == []
    more = run(tmp_path / "run", replace(config, iterations=8))
    assert [report.iteration for report in more] == [2, 3, 4, 5, 6, 7], "the guard was overruled"
    assert [alarm.level for report in more for alarm in report.warnings] == ["warn"] * 3


def test_other_guards_let_a_stopped_run_go_on_and_may_stop_it_again(tmp_path):
    run(tmp_path / "run", replace(CONFIG, guards=(STRICT,)))
    higher = replace(CONFIG, guards=(replace(STRICT, stop=2e-5),))
    assert [report.iteration for report in run(tmp_path / "run", higher)] == [2, 3]
    assert run(tmp_path / "run", higher) == []
    assert [report.iteration for report in run(tmp_path / "run", CONFIG)] == [4, 5]


def test_a_run_without_a_folder_stops_too():
    reports = run(None, replace(CONFIG, guards=(STRICT,)))
    assert len(reports) == 2
    assert reports[-1].stopped


def test_what_guards_compare_with_survives_a_resume(tmp_path):
    config = replace(CONFIG, guards=(PixelDrift(warn=0.01), HeldOutFall(warn=1, least=0.0)))
    rewards = {"red": Red(), "dark": Dark()}
    config = replace(config, reward_weights={"dark": 0.0})
    whole = run(tmp_path / "whole", config, rewards=rewards)
    folder = RunFolder.create(tmp_path / "parts", config)
    for _ in range(3):
        with closing(train(ToyModel(), PROMPTS, rewards, config, held_out=HELD_OUT, run=folder)) as reports:
            next(reports)
    run(tmp_path / "parts", config, rewards=rewards)
    assert any(report.warnings for report in whole)
    one, two = (RunFolder.open(tmp_path / name) for name in ("whole", "parts"))
    assert [line["warnings"] for line in one.metrics()] == [line["warnings"] for line in two.metrics()]
    assert one.latest().values["notes"] == two.latest().values["notes"]


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """Its settings lack what has been added since; it gets the defaults, and guards start to compare now."""
    old = replace(CONFIG, guards=TrainConfig().guards)
    run(tmp_path / "run", replace(old, iterations=2))
    path = tmp_path / "run/config.json"
    config = json.loads(path.read_text())
    for name in ("credit", "spread_floors", "guards"):
        del config["train"][name]
    path.write_text(json.dumps(config))
    assert [report.iteration for report in run(tmp_path / "run", replace(old, iterations=4))] == [2, 3]
    assert json.loads(path.read_text())["train"]["credit"] == ["WeightedAdvantages()"]


class Vote(Red):
    """A person, who is asked about images of the training only."""

    about = RewardInfo(held_out=False)

    def __init__(self):
        self.asked = []

    def __call__(self, batch: RewardBatch) -> Scores:
        self.asked.append(batch.context)
        return super().__call__(batch)


def test_a_reward_that_does_not_score_held_out_images_is_not_asked_about_them(tmp_path):
    vote = Vote()
    reports = run(tmp_path / "alone", replace(CONFIG, guards=TrainConfig().guards), rewards={"vote": vote})
    assert [context.iteration for context in vote.asked] == [number for number in range(6) for _ in PROMPTS]
    assert len({context.seed for context in vote.asked}) == 12
    assert reports[-1].rewards["vote"].valid == 8
    assert [evaluation.rewards for report in reports for evaluation in report.evaluations] == [{}] * 4
    assert "best" not in RunFolder.open(tmp_path / "alone").latest().values["notes"]
    run(tmp_path / "both", CONFIG, rewards={"vote": Vote(), "red": Red()})
    assert RunFolder.open(tmp_path / "both").latest().values["notes"]["best"]["reward"] > 0


def test_a_reward_that_fails_on_all_held_out_images_leaves_no_nan_in_what_is_saved(tmp_path):
    """Readers of LoRA metadata and checkpoints other than Python's take NaN for a fault of the file."""
    fails = FunctionReward(lambda images, prompts: [NAN] * len(images))
    run(tmp_path / "run", replace(CONFIG, reward_weights={"fails": 0.0}), rewards={"red": Red(), "fails": fails})
    notes = RunFolder.open(tmp_path / "run").latest().values["notes"]
    json.dumps(notes, allow_nan=False)
    assert notes["before"].keys() == notes["after"].keys() == {"red"}


def test_alarms_read_as_a_sentence():
    assert str(Alarm(guard="PixelDrift", level="warn", sentence="it is so")) == "PixelDrift: it is so"


def test_a_guard_s_word_is_heard_on_the_command_line(tmp_path, capsys):
    config = replace(CONFIG, guards=(STRICT,))
    reports = run(tmp_path / "run", config)
    folder = RunFolder.open(tmp_path / "run")
    console = Console(width=500)
    with run_progress(Pace(Workload(TrainConfig(iterations=6))), 0, console) as progress:
        progress.report(reports[1])
    print_summary(folder, folder.metrics(), config, console)
    said = capsys.readouterr().out
    assert said.count(reports[1].warnings[0].sentence) == 2
    assert "stopped by a guard after 2 iterations" in said
    assert f"mixgrpo resume {folder.path} --iterations N" in said
    old = [
        {key: value for key, value in line.items() if key not in ("warnings", "stopped")} for line in folder.metrics()
    ]
    print_summary(folder, old, config, console)
    assert "stopped" not in capsys.readouterr().out


def test_guards_and_credit_are_flags():
    words = ["--train.guards", "PixelDrift(stop=3)", "HeldOutFall", "--train.credit", "BatchNormalised()"]
    settings = parse_flags(RunConfig(), words, "mixgrpo", "").train
    assert settings.guards == (PixelDrift(stop=3.0), HeldOutFall())
    assert settings.credit == (BatchNormalised(),)
    assert parse_flags(RunConfig(), ["--train.guards"], "mixgrpo", "").train.guards == ()
