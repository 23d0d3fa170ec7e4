"""``mixgrpo taste``, as one types it: train, inspect, score."""

import json

import pytest
import torch
from PIL import Image

from mixgrpo_core.cli import main
from mixgrpo_core.rewards.people.ballot import State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.votes import shown_pictures
from mixgrpo_core.rewards.people.voting import Ranking


@pytest.fixture
def folders(tmp_path):
    """Red pictures that are liked, blue ones that are not, and a run's ballots with rankings of the same taste."""
    for name, colour in (("liked", (200, 30, 30)), ("disliked", (30, 30, 200))):
        (tmp_path / name).mkdir()
        for number in range(8):
            shade = tuple(value + 3 * number for value in colour)
            Image.new("RGB", (16, 16), shade).save(tmp_path / name / f"{number}.png")
    box = BallotBox(tmp_path / "run/votes")
    for number in range(4):
        images = torch.stack([torch.full((16, 16, 3), 0.1 * number) + 0.2 for _ in range(3)])
        images[0, ..., 0] += 0.4
        images[2, ..., 2] += 0.4
        ballot = box.opened(shown_pictures(images), "a colour", Ranking(), iteration=number, group=0, seconds=1)
        box.vote(ballot.id, {0: 1, 1: 2, 2: 3}, State.DONE)
    return tmp_path


def test_a_taste_is_trained_looked_at_and_ranks_pictures(folders, capsys):
    file, out = folders / "taste.safetensors", folders / "scores.json"
    sources = [str(folders / name) for name in ("run", "liked", "disliked")]
    assert (
        main(["taste", "train", str(file), "--votes", sources[0], "--liked", sources[1], "--disliked", sources[2]]) == 0
    )
    told = capsys.readouterr().out.replace("\n", " ")
    assert "learnt from 28 images" in told
    assert "of 16 thumbs that it had not seen it says 100% right, more than the 50% of always" in told
    assert "of 12 pairs within a group it orders 100% right" in told
    assert main(["taste", "inspect", str(file)]) == 0
    told = capsys.readouterr().out
    assert "8 up, 8 down, 12 ranked; 12 votes of" in told.replace("\n", " ")
    assert main(["taste", "score", str(file), *sources[1:], "--json", str(out)]) == 0
    ranked = [entry["picture"].split("/")[-2] for entry in json.loads(out.read_text())]
    assert ranked == ["liked"] * 8 + ["disliked"] * 8


def test_what_cannot_be_learnt_from_is_one_sentence(folders, capsys):
    def said(*words):
        assert main(["taste", "train", str(folders / "other.safetensors"), *words]) == 2
        assert not (folders / "other.safetensors").exists()
        return capsys.readouterr().err.strip().replace("\n", " ")

    assert "all 8 thumbs are up: vote on others" in said("--liked", str(folders / "liked"))
    assert "expected ballots in" in said("--votes", str(folders / "liked"))
    assert "expected votes to learn from" in said()
    assert "expected an encoder of images" in said("--liked", str(folders / "liked"), "--encoder", "ShapeReward()")
    (folders / "liked/9.png").write_bytes(b"no picture")
    for picture in (folders / "disliked").iterdir():
        picture.write_bytes(picture.read_bytes()[:40])
    assert "found none that can be read" in said("--disliked", str(folders / "disliked"))
    for picture in (folders / "run/votes").rglob("*.png"):
        picture.unlink()
    assert "at least 8 images to learn a taste from, found 0" in said("--votes", str(folders / "run"))
    assert main(["taste", "learn"]) == 2
