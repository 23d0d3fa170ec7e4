"""Align on Votes on the canvas: the LoRA of the headless command, what is kept, and what cannot be trained on."""

import shutil
from pathlib import Path

import comfy.model_management
import comfy.utils
import pytest
import torch
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.models.lora_file import load_lora
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_pack.mixgrpo_core.rewards.people.votes import HumanVote
from mixgrpo_pack.mixgrpo_core.support.tensor_files import read_tensors
from mixgrpo_pack.mixgrpo_core.training.align.forms import NFT
from mixgrpo_pack.mixgrpo_core.training.align.loop import AlignConfig, align
from mixgrpo_pack.mixgrpo_core.training.align.voted import voted_in
from mixgrpo_pack.nodes.loras.align import AlignOnVotes
from mixgrpo_pack.nodes.loras.voted_runs import NO_RUN, voted_runs
from test_live import ears, output
from test_merge import apart
from test_taste import Thumbs
from test_votes import parts, queue

__all__ = ["ears", "output", "parts"]

FORM = {"form": "NFT", "beta": 1.0}
SHORT = {"updates": 6, "rank": 4, "learning_rate": 3e-3, "groups": 2, "levels": 2, "held_out": 0.5, "seed": 0}


class Queued(AlignOnVotes):
    """The node as the host calls it."""

    class hidden:
        unique_id = "7"
        extra_pnginfo = None


@pytest.fixture(scope="module")
def voted(parts, tmp_path_factory):
    """The folder of a run whose four groups were voted on."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("voted")
        patch.setattr("folder_paths.output_directory", str(folder))
        patch.setattr("folder_paths.temp_directory", str(folder / "temp"))
        with Thumbs(folder / "mixgrpo/voted/votes"):
            queue(parts, HumanVote(seconds=60), iterations=2, prompts_per_iteration=2, eval_steps=4)
    return folder / "mixgrpo/voted"


@pytest.fixture
def run(voted, output, monkeypatch):
    monkeypatch.setattr("mixgrpo_pack.mixgrpo_core.views.before_after.IMAGES", 1)
    shutil.copytree(voted, output / "mixgrpo/portraits/voted")
    return output / "mixgrpo/portraits/voted"


def aligned(parts, run="portraits/voted", name="from votes", form=FORM, **changes):
    with torch.inference_mode():
        return Queued.execute(*parts, run=run, form=dict(form), name=name, **{**SHORT, **changes}).result


def test_the_lora_is_that_of_the_headless_command(parts, run, output):
    assert voted_runs() == ["portraits/voted"]
    before = AlignOnVotes.fingerprint_inputs(run="portraits/voted")
    with_lora, lora, grid, report = aligned(parts)
    file = output / "loras/mixgrpo/from votes.safetensors"
    here = load_lora(file)
    home = load_demo(rank=4, alpha=8, seed=0)
    config = AlignConfig(updates=6, learning_rate=3e-3, groups=2, levels=2, held_out=0.5, look_every=20)
    *_, last = align(home, voted_in([run]).groups, NFT(), config)
    there = {name: t * home.lora_about.scale if "lora_B" in name else t for name, t in home.lora_state().items()}
    assert apart(here.state, there) < 0.02
    assert f"{last.look.accuracy:.0%} are told apart, the better image's own error changed by" in report
    assert report.splitlines()[0] == "16 votes on 4 groups" and report.splitlines()[-1] == f"LoRA: {file}"
    assert grid.ndim == 4 and len(with_lora.patches) and set(lora) == {f"transformer.{name}" for name in here.state}
    aligned(parts, updates=1, form={"form": "ups only"})
    assert (file.parent / "from votes-2.safetensors").exists(), "a file that is there stays"
    box = BallotBox(run / "votes")
    box.vote(box.ids()[0], {0: 1})
    assert AlignOnVotes.fingerprint_inputs(run="portraits/voted") != before


def test_an_interrupt_keeps_what_is_there(parts, run, output, monkeypatch):
    class Bar(comfy.utils.ProgressBar):
        def update_absolute(self, value, total=None, preview=None):
            if value == 3:
                comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "ProgressBar", Bar)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        aligned(parts, name="broken off")
    _, words = read_tensors(output / "loras/mixgrpo/broken off.safetensors")
    assert words["ss_steps"] == "3"


def test_what_cannot_be_trained_on_is_one_sentence_before_any_work(parts, run, output, monkeypatch):
    monkeypatch.setattr("mixgrpo_pack.nodes.loras.align.align", lambda *_: pytest.fail("it went to work"))

    def refused(match, **changes):
        with pytest.raises(ValueError, match=match):
            aligned(**{"parts": parts, **changes})

    refused("expected a run with votes, and 'lost' is none", run="lost")
    model, clip, vae = parts
    other = model.clone()
    key = next(iter(model.model_state_dict()))
    other.add_patches({key: ("diff", (torch.ones(1),))}, 1.0)
    refused("made by another model", parts=(other, clip, vae))
    refused("updates lies in", updates=0)
    box = BallotBox(run / "votes")
    for id in box.ids():
        box.vote(id, dict.fromkeys(range(4), 1))
    refused("all 16 votes are up")
    for id in box.ids():
        (run / f"votes/{id}.latents.safetensors").unlink()
    refused("at least 8 votes to train on, found 0; 4 ballots have votes but no latents")
    assert not list(Path(output / "loras").rglob("*.safetensors"))


def test_a_choice_that_cannot_be_is_said_at_once(output):
    good = {"form": FORM, "name": "x", **SHORT}
    assert "train with Human Vote" in AlignOnVotes.validate_inputs(run=NO_RUN, **good)
    assert "form: expected one of NFT" in AlignOnVotes.validate_inputs(**{**good, "form": {"form": "KTO"}})
    assert "beta lies in" in AlignOnVotes.validate_inputs(**{**good, "form": {"form": "DPO", "beta": 0.0}})
    assert AlignOnVotes.validate_inputs(**good) is True  # the run comes by wire
