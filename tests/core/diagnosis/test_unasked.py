"""What is told of a run that is being watched: the grave causes, in the light and words of the command."""

from dataclasses import replace

import pytest

from mixgrpo_core import TrainConfig
from mixgrpo_core.diagnosis import Diagnosis, Evidence, Finding, diagnosed
from mixgrpo_core.diagnosis.evidence import Trend
from mixgrpo_core.objectives.own_step import HIGHEST, LOWEST

RISES = Trend(before=0.1, now=0.5, error=0.01, spread=0.2)
STANDS = replace(RISES, now=0.1)


def cause(gravity):
    return Finding(sign="x", found="it is so", change="do that", gravity=gravity)


@pytest.mark.parametrize(("trend", "told"), [(RISES, [0.8]), (None, [0.8]), (STANDS, [0.8, 0.6])])
def test_a_run_that_rises_is_not_nagged(trend, told):
    found = Diagnosis(trend=trend, findings=[cause(0.8), cause(0.6), cause(0.4)])
    assert [finding.gravity for finding in found.unasked] == told


def test_a_finding_says_its_light_and_words():
    assert [cause(gravity).light for gravity in (0.5, 0.25, 0.2)] == ["bad", "watch", "good"]
    assert cause(0.6).words == "It is so: do that."
    assert Finding(sign="x", found="all is well").words == "All is well."
    assert cause(0.6).to_json() == {
        "sign": "x",
        "found": "it is so",
        "change": "do that",
        "gravity": 0.6,
        "light": "bad",
        "words": "It is so: do that.",
    }


def evidence(update, count=40):
    """Reports of a run whose update figures are functions of the iteration."""
    stats = {"mean": 0.1, "spread": 0.1, "valid": 24, "count": 24, "within_group": 0.1}
    reports = [
        {
            "iteration": i,
            "rewards": {"taste": stats},
            "evaluations": [],
            "flat_groups": 0.0,
            "window": [0, 4],
            "update": {"steps": 4, **{name: figure(i) for name, figure in update.items()}},
        }
        for i in range(count)
    ]
    return Evidence(train=TrainConfig(), setup={}, reports=reports, lora={})


@pytest.mark.parametrize(("growth", "light"), [(1.0, "good"), (1.1, "watch"), (1.2, "bad")])
def test_a_distance_that_runs_away_is_seen(growth, light):
    found = diagnosed(evidence({"kl": lambda i: 0.001 * growth**i}))
    [kl] = [finding for finding in found.findings if finding.sign == "KL"]
    assert kl.light == light and bool(kl.change) == (light != "good")
    assert (kl in found.unasked) == (light == "bad")


@pytest.mark.parametrize(
    ("sign", "update", "words"),
    [
        ("step size", {"clip_low": lambda i: 0.4, "clip_high": lambda i: 0.3}, "a tenth of the learning rate"),
        ("precision", {"ratio_first": lambda i: 0.004}, "higher precision"),
        ("step size", {"move": lambda i: 0.2, "grad_norm": lambda i: 1.0}, "learning_rate = 'auto'"),
    ],
)
def test_what_the_live_view_warned_of_is_told(sign, update, words):
    first = diagnosed(evidence(update, count=3)).unasked[0]
    assert first.sign == sign and words in first.words


def own_step(rate, move, count=12):
    """A run that sets its own step, which asks for a move of 4 %."""
    made = evidence(
        {"rate": rate, "move": lambda i: move, "move_target": lambda i: 0.04, "grad_norm": lambda i: 1.0}, count
    )
    return replace(made, train=replace(made.train, learning_rate="auto"))


@pytest.mark.parametrize(
    ("rate", "move", "sign", "light", "words"),
    [
        (
            HIGHEST,
            0.02,
            "movement",
            "watch",
            "the rate is at 0.03, the highest that the trainer sets, and moves the policy",
        ),
        (
            HIGHEST,
            0.0005,
            "movement",
            "bad",
            "the rate is at 0.03, the highest that the trainer sets, and moves the policy",
        ),
        (
            LOWEST,
            0.06,
            "step size",
            "watch",
            "the rate is at 1e-06, the lowest that the trainer sets, and moves the policy",
        ),
        (
            LOWEST,
            0.15,
            "step size",
            "bad",
            "the rate is at 1e-06, the lowest that the trainer sets, and moves the policy",
        ),
    ],
)
def test_a_rate_at_its_limit_is_told_with_what_to_do(rate, move, sign, light, words):
    [found] = [one for one in diagnosed(own_step(lambda i: rate, move)).findings if one.sign == sign]
    assert found.light == light and words in found.change and ": " in found.change
    others = [one for one in diagnosed(own_step(lambda i: rate, move)).findings if one.sign != sign]
    assert not any("the trainer sets" in one.words for one in others)


@pytest.mark.parametrize(
    ("rate", "move"),
    [
        (lambda i: HIGHEST, 0.04),  # it is what was asked for
        (lambda i: LOWEST, 0.04),
        (lambda i: HIGHEST if i % 3 else HIGHEST / 2, 0.02),  # it comes back
        (lambda i: 1e-3, 0.02),
    ],
)
def test_a_rate_that_may_go_further_is_not_told(rate, move):
    found = diagnosed(own_step(rate, move)).findings
    assert not any("the trainer sets" in one.words for one in found)
    assert {one.light for one in found if one.sign in ("movement", "step size")} == {"good"}
