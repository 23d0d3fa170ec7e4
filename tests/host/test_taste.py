"""Taste Reward on the canvas: the reward that the node makes, what it begins with, and what cannot be."""

import threading

import folder_paths
import pytest
import torch
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot import State
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_pack.mixgrpo_core.rewards.taste.latents import beside_colours
from mixgrpo_pack.mixgrpo_core.rewards.taste.looks import Look
from mixgrpo_pack.mixgrpo_core.rewards.taste.taste import Taste
from mixgrpo_pack.mixgrpo_core.support.spelling import spell
from mixgrpo_pack.nodes.demo import load_vae
from mixgrpo_pack.nodes.rewards.taste import BEGIN, NO_FILE, PLAIN, TasteNode, tastes
from safetensors.torch import save_file
from test_live import ears, output
from test_votes import metrics, parts, queue

__all__ = ["ears", "output", "parts"]

VALUES = {
    "taste": BEGIN,
    "sees": PLAIN,
    "file": NO_FILE,
    "way": "thumbs",
    "images_asked": 3,
    "confidence": 0.4,
    "groups_asked": 5,
    "time_limit": 60,
    "weight": 0.5,
}


def made(**changes):
    return TasteNode.execute(**{**VALUES, **changes}).args[0]


def test_the_node_makes_the_reward_that_it_shows(output):
    rewards = made()
    taste = rewards.rewards["taste"]
    assert (taste.asked, taste.confidence, taste.most, taste.ask.seconds, taste.file) == (3, 0.4, 5, 60.0, "")
    assert rewards.weights == {"taste": 0.5}
    assert rewards.unattended == {}  # it knows nothing yet, and pictures of no training are shown to nobody


def test_inputs_that_cannot_be_are_sentences(output):
    assert "no run with a taste" in TasteNode.validate_inputs(taste="run lost")
    assert "DINOv2 needs its weights" in TasteNode.validate_inputs(taste=BEGIN, sees="DINOv2", file=NO_FILE)
    assert "there is no lost.pt" in TasteNode.validate_inputs(taste=BEGIN, sees="DINOv2", file="lost.pt")
    assert "expected one of" in TasteNode.validate_inputs(taste=BEGIN, sees="Eyes", file=NO_FILE)
    assert "VAE latents needs its weights" in TasteNode.validate_inputs(taste=BEGIN, sees="VAE latents", file=NO_FILE)
    for file in (NO_FILE, "no file found"):
        assert TasteNode.validate_inputs(taste=BEGIN, sees=PLAIN, file=file) is True
    unused = TasteNode.validate_inputs(taste=BEGIN, sees=PLAIN, file="dinov2-base")  # DINOv2 was meant, perhaps
    assert unused.startswith("file: colours and edges reads no file, found dinov2-base")
    with pytest.raises(ValueError, match="images_asked"):
        made(images_asked=1)


def test_vae_latents_are_those_of_the_host(output, tmp_path, monkeypatch):
    """A file of models/vae, in the names by which ComfyUI knows the demo's autoencoder."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae", ([str(tmp_path)], set()))
    vae, sees = load_vae(), "VAE latents"
    save_file({name: tensor.clone() for name, tensor in vae.get_sd().items()}, tmp_path / "tiny.safetensors")
    save_file({"nothing": torch.ones(1)}, tmp_path / "other.safetensors")
    assert TasteNode.validate_inputs(taste=BEGIN, sees=sees, file="vae/tiny.safetensors") is True
    assert "file: there is no vae/lost.pt" in TasteNode.validate_inputs(taste=BEGIN, sees=sees, file="vae/lost.pt")
    taste = made(sees=sees, file="vae/tiny.safetensors").rewards["taste"]
    Look(taste.encoder).check()
    assert spell(taste.encoder) == f"Latents(file={str(tmp_path / 'tiny.safetensors')!r})"
    images = (torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    torch.testing.assert_close(Look(taste.encoder).features(images), beside_colours(images, vae.encode(images)))
    with pytest.raises(ValueError, match="ComfyUI reads no VAE from .*other.safetensors: choose one that"):
        made(sees=sees, file="vae/other.safetensors").rewards["taste"].prepare(())


class Thumbs:
    """Somebody who votes on what is shown, up and down by turns, until the run is over."""

    def __init__(self, folder):
        self.box, self.over, self.groups = BallotBox(folder), threading.Event(), 0
        self.work = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.05):
            for id in self.box.ids():
                ballot = self.box.read(id)
                if ballot.open:
                    votes = {image: 1 if image % 2 else -1 for image in range(ballot.images)}
                    self.box.vote(id, votes, State.DONE)
                    self.groups += 1

    def __enter__(self):
        self.work.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.work.join()


def test_a_run_leaves_a_taste_that_another_begins_with(parts, output, ears):
    taste = made(images_asked=4, groups_asked=3, confidence=0.0).rewards["taste"]
    with Thumbs(output / "mixgrpo/first/votes") as voter:
        queue(parts, taste, "first", iterations=4, images_per_prompt=4)
    assert voter.groups == 3  # then it went on alone
    figures = metrics(output, "first")[-1]["update"]
    assert figures["votes_groups_asked"] == 3 and figures["votes_images"] == 12
    file = output / "mixgrpo/first/taste/taste.safetensors"
    assert len(Taste.load(file).opinions) == 12
    assert tastes()[:2] == [BEGIN, "run first"]
    again = made(taste="run first").rewards
    assert again["taste"].file == str(file)
    assert TasteNode.fingerprint_inputs(taste="run first") != TasteNode.fingerprint_inputs(taste=BEGIN)
    assert list(made(taste="run first").unattended) == ["taste"]
