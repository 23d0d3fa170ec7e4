"""Rollouts are decoded in bfloat16 where the rewards cannot tell it, and the run says what it chose."""

from dataclasses import dataclass, replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.rewards.port import RewardInfo, Scores
from mixgrpo_core.training.decoding import Decoding

CONFIG = TrainConfig(
    iterations=3,
    steps=6,
    images_per_prompt=6,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    eval_every=3,
    guards=(),
    checkpoint_every=1,
    decode_dtype="auto",
)


class Rounds(ToyModel):
    """Its lower precision moves every picture by ``error``."""

    decode_dtype = torch.float32

    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, []

    def decode(self, x, *, grad=False):
        self.calls.append("float32")
        return super().decode(x, grad=grad)

    def decode_low(self, x):
        self.calls.append("bfloat16")
        images = ToyModel.decode(self, x)
        return images + self.error * torch.sign(images - images.mean())


def reports(model, reward, config=CONFIG, run=None, held_out=("zzz",)):
    torch.manual_seed(0)
    return list(train(model, ["a", "bbbb"], {"red": reward}, config, held_out=held_out, run=run))


def test_a_precision_that_no_score_tells_is_taken_from_the_second_group_on_but_never_for_held_out_images():
    model = Rounds(1e-4)
    found = reports(model, Red())
    assert found[0].decoded["dtype"] == "bfloat16" and 0 < found[0].decoded["moved"] < 0.1
    # a group in both, another, one held-out prompt, four groups, the held-out prompt again
    assert model.calls == ["float32", *["bfloat16"] * 2, "float32", *["bfloat16"] * 4, "float32"]


def test_a_precision_that_scores_tell_is_not_taken_and_not_tried_again():
    model = Rounds(0.05)
    found = reports(model, Red())
    assert {report.decoded["dtype"] for report in found} == {"float32"} and found[0].decoded["moved"] > 0.1
    assert model.calls.count("bfloat16") == 1
    plain = reports(ToyModel(), Red(), replace(CONFIG, decode_dtype="float32"))
    assert [one.update.figures for one in found] == [one.update.figures for one in plain]
    assert plain[0].decoded == {}


@dataclass
class Asked(Red):
    """A person, who is asked once about a picture."""

    about = RewardInfo(held_out=False)
    times: int = 0

    def __call__(self, batch):
        self.times += 1
        return super().__call__(batch)


class Counts(Red):
    """Its score depends on how often it was asked."""

    def __init__(self):
        self.times = 0

    def __call__(self, batch):
        self.times += 1
        found = super().__call__(batch)
        return Scores(found.values + self.times, found.valid)

    def state_dict(self):
        return {"times": self.times}

    def load_state_dict(self, state):
        self.times = state["times"]


def test_people_are_asked_once_and_a_reward_that_counts_does_not_count_the_second_look():
    people, model = Asked(), Rounds(1e-4)
    assert reports(model, people)[-1].decoded == {"dtype": "float32"}
    assert people.times == 6 and "bfloat16" not in model.calls
    counts = Counts()
    reports(Rounds(1e-4), counts, held_out=())
    assert counts.times == 6


def test_a_resumed_run_decodes_as_it_did_and_other_rewards_choose_anew(tmp_path):
    def run(name, iterations):
        made = RunFolder.open_or_create(tmp_path / name, replace(CONFIG, iterations=iterations, eval_every=0))
        model = Rounds(1e-4)
        reports(model, Red(), replace(CONFIG, iterations=iterations, eval_every=0), made, ())
        return load_lora(made.lora("last")).state, model.calls, [one["decoded"] for one in made.metrics()]

    whole, _, told = run("whole", 3)
    run("parts", 1)
    again, calls, told_again = run("parts", 3)
    assert told == told_again and calls[:4] == ["bfloat16"] * 4, "then come the gallery's pictures"
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    notes = RunFolder.open(tmp_path / "parts").latest().values["notes"]
    same, other = (Decoding(CONFIG, Rounds(0.1), {name: Red()}) for name in ("red", "blue"))
    assert same.known(notes) == notes["decode"] and other.known(notes) is None


def test_a_model_without_a_lower_precision_says_so_before_work():
    with pytest.raises(ValueError, match="ToyModel decodes in the one that its host chooses: leave decode_dtype at"):
        reports(ToyModel(), Red())


def test_the_demo_model_is_decoded_in_bfloat16():
    config = replace(
        demo_config(),
        iterations=1,
        steps=6,
        images_per_prompt=8,
        prompts_per_iteration=2,
        eval_every=0,
        decode_dtype="auto",
        reward_weights={},
    )
    model = load_demo()
    latents = model.noise(0, 4)
    plain, low = model.decode(latents), model.decode_low(latents)
    assert low.dtype == torch.float32 and 0 < (plain - low).abs().max() < 0.1
    (report,) = train(model, train_prompts(), {"shape": ShapeReward()}, config, held_out=held_out_prompts()[:1])
    assert report.decoded["dtype"] == "bfloat16" and report.decoded["moved"] <= 0.1
