"""Rewards look at a tiny autoencoder's images in training, and the run says how they rank them; nothing else does."""

from dataclasses import dataclass, replace

import pytest
import torch
from ranks import together
from toy import Dark, Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.diagnosis import diagnose
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.rewards.port import RewardInfo, Scores
from mixgrpo_core.rewards.stats import rank_correlation
from mixgrpo_core.runs.reports import GroupScored
from mixgrpo_core.runs.summary import decoding_words
from mixgrpo_core.support.ranks import ALONE
from mixgrpo_core.training.timed_step import rates_of_a_step

CONFIG = TrainConfig(
    iterations=2,
    steps=6,
    images_per_prompt=8,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    eval_every=2,
    guards=(),
    learning_rate=1e-2,
)


class WithTiny(ToyModel):
    """Its tiny autoencoder's images are ``seen`` of its own."""

    decode_dtype = torch.float32

    def __init__(self, seen=lambda images: 0.5 * images + 0.1, tiny="abc"):
        super().__init__()
        self.seen, self.tiny, self.calls = seen, tiny, []

    def decode(self, x, *, grad=False):
        self.calls.append("own")
        return super().decode(x, grad=grad)

    def decode_low(self, x):
        self.calls.append("low")
        return ToyModel.decode(self, x)

    def decode_tiny(self, x, *, low=False):
        self.calls.append("tiny low" if low else "tiny")
        return self.seen(ToyModel.decode(self, x))


def trained(model, config=CONFIG, rewards=None, run=None, held_out=("zzz", "zzzz"), observer=lambda event: None):
    torch.manual_seed(0)
    rewards = {"red": Red()} if rewards is None else rewards
    return list(train(model, ["a", "bbbb", "cc"], rewards, config, held_out=held_out, run=run, observer=observer))


def test_rollouts_are_decoded_by_it_and_nothing_that_is_shown(tmp_path):
    model, plain, seen = WithTiny(), ToyModel(), []
    run = RunFolder.create(tmp_path / "run", CONFIG)
    reports = trained(model, run=run, observer=lambda e: seen.append(e) if isinstance(e, GroupScored) else None)
    # three groups, of which the first two are decoded by its own, too; two held-out prompts before and after
    assert model.calls.count("tiny") == 6
    tail = ["own"] * 2 + ["tiny"] * 3 + ["own"] * 2
    first = model.calls.index("tiny")
    assert model.calls[first : first + 12] == ["tiny", "own", "tiny", "own", "tiny", *tail]
    assert set(model.calls[:first]) == {"own"}, "the gallery's first pictures"
    assert {report.decoded["tiny"] for report in reports} == {"abc"}
    assert reports[0].decoded["agreement"] == {"red": pytest.approx(1.0)} and not reports[0].warnings
    assert (seen[0].images >= 0.1).all() and (seen[0].images <= 0.6).all()
    plain.load_lora_state(load_lora(run.lora("last")).state)
    held_out = HeldOut(
        prompts=[Prompted(prompt=word, cond=plain.encode(word)) for word in ("zzz", "zzzz")],
        sigmas=CONFIG.eval_sigmas(plain),
        images_per_prompt=CONFIG.eval_images,
        batch=CONFIG.rollout_batch,
        decode_batch=CONFIG.decode_batch,
    )
    assert evaluate(plain, held_out, {"red": Red()}).rewards == reports[-1].evaluations[-1].rewards
    assert trained(ToyModel())[0].evaluations[0].rewards == reports[0].evaluations[0].rewards


def scores(*values):
    return Scores.of(torch.tensor(values))


def test_the_rank_correlation_is_spearmans():
    assert rank_correlation(scores(1, 2, 3, 4, 5, 6), scores(10, 20, 30, 40, 60, 50)) == pytest.approx(1 - 12 / 210)
    assert rank_correlation(scores(1.0, 2.0, 9.0), scores(5.0, 4.0, -7.0)) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5 of variances 4.5 and 5
    assert rank_correlation(scores(1.0, 2.0, 2.0, 4.0), scores(1.0, 2.0, 3.0, 4.0)) == pytest.approx(0.9**0.5)
    flat, nan = scores(2.0, 2.0, 2.0), float("nan")
    assert rank_correlation(flat, scores(1.0, 2.0, 3.0)) == 0 and rank_correlation(flat, flat) is None
    assert rank_correlation(scores(1.0, nan, 3.0, 4.0), scores(1.0, 2.0, nan, 4.0)) == pytest.approx(1)
    assert rank_correlation(scores(1.0, nan), scores(1.0, 2.0)) is None


def turned(images):
    """Red is how little red there is; the other channels are as they are."""
    return torch.cat([1 - images[..., :1], images[..., 1:]], -1)


def test_a_reward_that_ranks_otherwise_is_warned_about_once_and_told_in_the_report(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    reports = trained(WithTiny(turned), rewards={"red": Red(), "dark": Dark()}, run=run)
    assert reports[0].decoded["agreement"] == {"red": pytest.approx(-1.0), "dark": pytest.approx(1.0)}
    (alarm,) = reports[0].warnings
    assert "correlation red -1.00; 0.8 is little enough" in alarm.sentence and not reports[1].warnings
    assert run.metrics()[1]["decoded"] == reports[1].decoded
    assert any("red -1.00" in words for words in decoding_words(reports[1].decoded))
    (found,) = (finding for finding in diagnose(run).findings if finding.sign == "tiny autoencoder")
    assert found.light == "bad" and "red ranks the images" in found.found and "-1.00" in found.found


def test_a_resumed_run_measures_anew_only_where_the_autoencoder_or_the_rewards_are_others(tmp_path):
    def go_on(name, model, iterations):
        config = replace(CONFIG, iterations=iterations, eval_every=0, checkpoint_every=1)
        run = RunFolder.open_or_create(tmp_path / name, config)
        reports = trained(model, config, run=run, held_out=())
        return load_lora(run.lora("last")).state, reports, run

    whole, told, _ = go_on("whole", WithTiny(), 3)
    go_on("parts", WithTiny(), 1)
    again = WithTiny()
    parts, told_again, _ = go_on("parts", again, 3)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [report.decoded for report in told[1:]] == [report.decoded for report in told_again]
    assert again.calls[:6] == ["tiny"] * 6, "measured before"
    other = WithTiny(turned, tiny="def")
    _, reports, run = go_on("parts", other, 4)
    assert reports[0].decoded == {"tiny": "def", "agreement": {"red": pytest.approx(-1.0)}} and reports[0].warnings
    assert run.latest().values["notes"]["tiny"]["images"] == 16


@dataclass
class Asked(Red):
    """A person, who is asked once about a picture."""

    about = RewardInfo(held_out=False)


def test_people_are_not_asked_twice_and_the_lower_precision_comes_after_it():
    people = WithTiny()
    (*_, last) = trained(people, rewards={"red": Asked()}, held_out=())
    assert last.decoded == {"tiny": "abc", "agreement": {}} and set(people.calls) == {"tiny"}
    model = WithTiny()
    reports = trained(model, replace(CONFIG, decode_dtype="auto"), held_out=())
    assert model.calls == ["tiny", "own", "tiny low", "tiny low", "own", *["tiny low"] * 4]
    assert reports[0].decoded == {"dtype": "bfloat16", "moved": 0.0, "tiny": "abc", "agreement": {"red": 1.0}}


def on_ranks(ranks, config):
    """What a run on several ranks tells of the tiny autoencoder."""
    found = list(train(WithTiny(turned), ["a", "bbbb", "cc"], {"red": Red()}, config, ranks=ranks))
    return [(report.decoded, [alarm.sentence for alarm in report.warnings]) for report in found]


def test_the_first_of_several_ranks_compares_and_all_remember_it(tmp_path):
    config = replace(CONFIG, iterations=3, eval_every=0, updates=1)
    on_ranks(ALONE, config)  # imports what the others are forked with
    first, other = together(2, tmp_path, on_ranks, config)
    assert first == other, "one of them would end the run where they remembered otherwise"
    assert first[-1][0]["agreement"] == {"red": pytest.approx(-1.0)} and "red -1.00" in first[0][1][0]
    assert not first[2][1], "16 images are two groups, which the first one has in one iteration"


def test_a_timed_step_times_both():
    model = WithTiny()
    rates = rates_of_a_step(model, "a prompt", CONFIG)
    assert {"tiny", "own"} <= set(model.calls) and rates.looked_at == rates.shown is not None
    rates = rates_of_a_step(WithTiny(tiny=""), "a prompt", CONFIG)
    assert rates.shown is None and rates.looked_at == rates.decoded
