"""Rollouts are decoded in bfloat16 where the rewards cannot tell it, and the run says what it chose."""

from dataclasses import dataclass, replace

import pytest
import torch
from ranks import together
from safetensors.torch import save_file
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.rewards.pixels import Brightness, Contrast, Less, PixelReward
from mixgrpo_core.rewards.port import RewardBatch, RewardInfo, Scores
from mixgrpo_core.rewards.told_apart import recognised
from mixgrpo_core.rewards.wrappers import Clip, RunningZ, Transformed
from mixgrpo_core.runs.checkpoint import DecodeNotes
from mixgrpo_core.support.ranks import ALONE
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


def bright(**changes):
    return PixelReward(**{"measure": Brightness(), **changes})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bright(), bright(measure=Contrast())),
        (bright(), bright(goal=Less())),
        (Transformed(bright(), Clip(0.0, 1.0)), Transformed(bright(), Clip(0.0, 0.95))),
    ],
)
def test_a_reward_of_the_same_name_and_class_with_other_settings_chooses_anew(tmp_path, one, other):
    def run(reward, iterations):
        config = replace(CONFIG, iterations=iterations, eval_every=0)
        made, model = RunFolder.open_or_create(tmp_path / "run", config), Rounds(1e-4)
        reports(model, reward, config, made, ())
        return model.calls

    run(one, 1)
    assert run(one, 2)[:2] == ["bfloat16"] * 2, "the choice was remembered"
    assert run(other, 3)[:3] == ["float32", "bfloat16", "bfloat16"], "the first group is decoded in both"


@dataclass(frozen=True)
class FromFile(Red):
    file: str


def test_another_weights_file_of_the_same_name_chooses_anew_and_the_same_one_elsewhere_does_not(tmp_path, monkeypatch):
    def kept(folder, seed):
        (tmp_path / folder).mkdir(exist_ok=True)
        numbers = torch.randn(64, generator=torch.Generator().manual_seed(seed))
        save_file({"weight": numbers}, tmp_path / folder / "weights.safetensors")
        return Decoding(CONFIG, Rounds(0.1), {"red": FromFile(str(tmp_path / folder / "weights.safetensors"))})

    first = kept("here", 0)
    notes = {"decode": DecodeNotes(dtype="bfloat16", moved=0.0, circumstances=first.circumstances)}
    assert first.known(notes) and kept("there", 0).known(notes) and not kept("here", 1).known(notes)
    monkeypatch.chdir(tmp_path / "there")  # as run files name them
    assert Decoding(CONFIG, Rounds(0.1), {"red": FromFile("weights.safetensors")}).known(notes)


def test_what_a_reward_remembers_does_not_make_it_another():
    reward = Transformed(bright(), RunningZ())
    before = recognised(reward)
    reward(RewardBatch(images=torch.rand(4, 8, 8, 3), prompts=("a",) * 4))
    assert reward.state_dict()["transform"] and recognised(reward) == before


def on_ranks(ranks, config):
    """The report and the calls of the model of a run on several ranks."""
    model = Rounds(1e-4)
    found = list(train(model, ["a", "bbbb"], {"red": Red()}, config, ranks=ranks))
    return [report.decoded for report in found], model.calls


def test_the_first_of_several_ranks_chooses_for_all_from_the_next_iteration_on(tmp_path):
    config = replace(CONFIG, eval_every=0, updates=1)
    on_ranks(ALONE, config)  # imports what the others are forked with
    first, other = together(2, tmp_path, on_ranks, config)
    assert first[0] == other[0] and {one["dtype"] for one in first[0]} == {"bfloat16"} and first[0][0]["moved"] > 0
    assert first[1] == ["float32", *["bfloat16"] * 3], "its group of the first iteration in both"
    assert other[1] == ["float32", *["bfloat16"] * 2]


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
