"""Compare LoRA with rewards of every kind: people, judges that compare, and such that fail."""

import re
from dataclasses import replace

import comfy.sd
import comparing
import pytest
import torch
from canvas import loaded, prompt_set, short_config
from comfy.utils import load_torch_file
from mixgrpo_pack.mixgrpo_core.cli.reward_calls import made as rewards_of
from mixgrpo_pack.mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.models.lora_file import save_lora
from mixgrpo_pack.mixgrpo_core.rewards import FunctionReward
from mixgrpo_pack.mixgrpo_core.rewards.people.votes import HumanVote
from mixgrpo_pack.mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward
from mixgrpo_pack.mixgrpo_core.rewards.port import Context, RewardInfo, Scores, StatelessReward
from mixgrpo_pack.mixgrpo_core.rewards.wrappers.gates import Gated
from mixgrpo_pack.nodes.host.field import HostField
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.loras.compare import HELD_OUT, CompareLora
from mixgrpo_pack.nodes.rewards.combine import combined
from mixgrpo_pack.nodes.rewards.score import ScoreImages
from mixgrpo_pack.nodes.rewards.votes import HumanVoteNode
from mixgrpo_pack.nodes.sockets import Rewards, TrainerSettings

BRIGHT = PixelReward(Brightness(), More())


class WinRate(StatelessReward):
    """How many others of the group an image is brighter than."""

    about = RewardInfo(groupwise=True)

    def __call__(self, batch):
        light = batch.images.mean((1, 2, 3))
        return Scores.of((light[:, None] > light).float().mean(1))


@pytest.fixture(scope="module")
def compared():
    """A function: the table of the demo model and a darker one, scored by rewards."""
    model, clip, vae = loaded()
    dark = model.clone()
    dark.add_patches({"diffusion_model.final_layer.linear.bias": (torch.full((64,), 0.7),)})
    settings = TrainerSettings(train=short_config(), width=64, height=64, rank=2, alpha=4)

    def table(given):
        rewards = Rewards(rewards=given, weights=dict.fromkeys(given, 1.0))
        with torch.inference_mode():
            made = CompareLora.execute(model, dark, vae, prompt_set(clip), settings, HELD_OUT, 2, 2, 0.0, 0, rewards)
        return made.args[1].splitlines()

    return table


def test_the_figures_are_those_of_the_command_line(tmp_path):
    """tests/core/cli/test_cli.py asks ``mixgrpo evaluate`` for them, of the same files."""
    model, clip, vae = loaded()
    files = comparing.two_loras(tmp_path, load_demo, save_lora)
    a, b = (comfy.sd.load_lora_for_models(model, None, load_torch_file(str(file)), 1.0, 0.0)[0] for file in files)
    prompts = PromptSet(train=train_prompts()[:1], held_out=held_out_prompts()[:3], negative="", clip=clip)
    settings = TrainerSettings(train=short_config(steps=comparing.STEPS), width=64, height=64)
    given = rewards_of(comparing.REWARDS)
    rewards = Rewards(rewards=given, weights=dict.fromkeys(given, 1.0))
    count, seed = comparing.IMAGES, comparing.SEED
    with torch.inference_mode():
        made = CompareLora.execute(a, b, vae, prompts, settings, HELD_OUT, 3, count, 0.0, seed, rewards)
    lines = made.args[1].splitlines()
    for place, (name, figures) in enumerate(comparing.FIGURES.items()):
        heading, *both = lines[3 * place : 3 * place + 3]
        numbers = [[float(word) for word in re.findall(r"-?\d+\.?\d*", line)] for line in both]
        assert heading == name
        assert numbers[0] == pytest.approx([figures["mean_a"], figures["spread_a"]], abs=comparing.NEAR)
        assert numbers[1][:2] == pytest.approx([figures["mean_b"], figures["spread_b"]], abs=comparing.NEAR)
        assert numbers[1][2] / 100 == pytest.approx(1 - figures["win_rate_a"], abs=comparing.NEAR)


def test_where_memory_runs_out_the_batch_at_fault_is_halved(compared, monkeypatch):
    whole, tried, decode = compared({"bright": BRIGHT}), [], HostField.decode

    def small(self, x, **more):
        tried.append(len(x))
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(self, x, **more)

    monkeypatch.setattr(HostField, "decode", small)
    assert compared({"bright": BRIGHT}) == whole
    assert tried[0] == 2 and tried[-1] == 1


def test_what_travels_with_a_prompt_reaches_its_rewards():
    class Watching(StatelessReward):
        def __call__(self, batch):
            seen.append(batch.context.reference)
            return Scores.of(batch.images.mean((1, 2, 3)))

    seen, (model, clip, vae) = [], loaded()
    plain, picture = prompt_set(clip), torch.rand(64, 64, 3)
    contexts = {plain.held_out[0]: Context(reference=picture)}
    prompts = PromptSet(train=plain.train, held_out=plain.held_out, negative="", clip=clip, contexts=contexts)
    settings = TrainerSettings(train=short_config(), width=64, height=64)
    rewards = Rewards(rewards={"watching": Watching()}, weights={"watching": 1.0})
    with torch.inference_mode():
        CompareLora.execute(model, model, vae, prompts, settings, HELD_OUT, 2, 1, 0.0, 0, rewards)
    assert torch.equal(seen[0], picture) and seen[1] is None


def test_nobody_is_asked_for_votes(compared):
    given = {"votes": HumanVote(), "bright": BRIGHT, "gated": Gated(BRIGHT, by=HumanVote(), least=0.5)}
    lines = compared(given)
    assert [line for line in lines if not line.startswith(" ")] == ["bright"]
    assert "nothing was scored" in compared({"votes": HumanVote()})[0]


def test_a_judge_that_compares_images_compares_the_models(compared):
    plain = compared({"bright": BRIGHT})[2]
    wins = compared({"wins": WinRate()})
    share = plain.rpartition("in ")[2]
    assert share in ("0.0%", "100.0%"), "the patched model is darker or brighter in all images"
    assert wins[2].endswith(f"in {share}")
    means = [float(line.split()[1 if "without:" in line else 3]) for line in wins[1:]]
    assert abs(means[0] - means[1]) > 0.2, "else they were compared within their column only"


def test_what_could_not_be_scored_is_said(compared):
    def away(images, prompts):
        raise ConnectionError("the judge is away")

    class Half(StatelessReward):
        def __call__(self, batch):
            found = Scores.of(batch.images.mean((1, 2, 3)))
            return replace(found, valid=torch.arange(len(found.values)) % 2 == 0, note="no answer within 1 s")

    lines = compared({"away": FunctionReward(away), "half": Half()})
    assert "nan" not in " ".join(lines)
    assert "no score" in lines[1] and "the judge is away" in lines[1]
    assert "2 of 4 images: no answer within 1 s" in lines[4]


def test_images_are_scored_without_asking_anybody():
    votes = HumanVoteNode.execute("thumbs", 60, 0, 1.0).args[0]
    bright = Rewards(rewards={"bright": BRIGHT}, weights={"bright": 1.0})
    greys = torch.tensor([0.2, 0.9])[:, None, None, None].expand(2, 8, 8, 3)
    with torch.inference_mode():
        both = ScoreImages.execute(greys, combined({"reward0": votes, "reward1": bright}), "", 0).args
        assert both[3] == pytest.approx([0.9, 0.2]) and "votes" not in both[2]
        with pytest.raises(ValueError, match="during a training only"):
            ScoreImages.execute(greys, votes, "", 0)
        watched = Rewards(rewards={"bright": BRIGHT}, weights={"bright": 0.0})
        with pytest.raises(ValueError, match="give at least one"):
            ScoreImages.execute(greys, watched, "", 0)
