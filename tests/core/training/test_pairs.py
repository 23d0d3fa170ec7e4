"""Pairs out of folders of pictures: what a model makes latents of, what is read, and a LoRA from them."""

import pytest
import torch
from PIL import Image
from tiny_pipelines import make_folder, opened

from mixgrpo_core.cli import main
from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.sampling.ode import decode, sample
from mixgrpo_core.support.pixels import to_image
from mixgrpo_core.training.align.pairs import pairs_in
from mixgrpo_core.training.align.voted import Found, require_trainable


@pytest.fixture(scope="module")
def model():
    return load_demo()


@pytest.fixture(scope="module")
def drawn(model):
    """Five captions, and two images of each, the brighter first."""
    prompts, found = train_prompts()[:50:10], []
    for number, prompt in enumerate(prompts):
        latents = sample(model, model.encode(prompt), model.noise(number, 2), model.grid(6))
        images = decode(model, latents, 2)
        found.append((prompt, images[images.flatten(1).mean(1).argsort(descending=True)]))
    return found


@pytest.fixture
def folder(tmp_path, drawn):
    for side in ("better", "worse"):
        (tmp_path / side).mkdir()
    for number, (prompt, images) in enumerate(drawn):
        to_image(images[0]).save(tmp_path / f"better/p{number}.png")
        to_image(images[1]).resize((96, 64)).save(tmp_path / f"worse/p{number}.jpg")
        place = tmp_path if number % 2 else tmp_path / "better"
        (place / f"p{number}.txt").write_text(f"{prompt}\n")
    return tmp_path


def test_latents_of_pictures_decode_to_them(model, drawn):
    images = torch.cat([images for _, images in drawn])
    again = model.decode(model.encode_image(images))
    assert (again - images).abs().mean() < 0.03
    assert (again - images.roll(2, 0)).abs().mean() > 0.06


@pytest.mark.parametrize("family", ["flux-schnell", "auraflow"])
def test_packed_and_plain_latents_are_those_that_the_pipeline_decodes(tmp_path, family):
    """The proof is made at the first picture: the pipeline decodes what the VAE alone does."""
    tiny = opened(make_folder(family, tmp_path / "m"))
    images = torch.rand(2, *tiny.resolution, 3, generator=torch.Generator().manual_seed(0))
    assert tuple(tiny.encode_image(images).shape[1:]) == tiny.latent_shape


def test_a_family_whose_way_is_not_known_says_so(tmp_path):
    tiny = opened(make_folder("flux2-klein", tmp_path / "m"))
    with pytest.raises(ValueError, match="no way from pictures to latents that is known"):
        tiny.encode_image(torch.rand(1, *tiny.resolution, 3))


def test_what_is_not_a_pair_is_told_and_the_others_are_trained_on(folder, model, drawn):
    Image.new("RGB", (8, 8)).save(folder / "better/alone.png")
    (folder / "worse/p4.jpg").write_bytes(b"no picture")
    (folder / "p3.txt").unlink()
    found = pairs_in(folder, model)
    assert [(group.name, group.prompt) for group in found.groups] == [(f"p{i}", drawn[i][0]) for i in range(3)]
    told = "\n".join(found.faults)
    assert "alone.png has no partner" in told and "p4.jpg cannot be read" in told and "expected a caption" in told
    assert all(group.shares.tolist() == [1.0, 0.0] for group in found.groups)
    with pytest.raises(ValueError, match="expected a folder of pictures"):
        pairs_in(folder / "lost", model)
    with pytest.raises(ValueError, match=r"at least 8 votes to train on, found 6"):
        require_trainable(found, model.digest, model.latent_shape)
    enough = Found(groups=[*found.groups, *found.groups], without=0, faults=())
    with pytest.raises(ValueError, match="pictures of a folder"):
        require_trainable(enough, model.digest, model.latent_shape, start=True)


def test_the_command_trains_on_pairs(folder, tmp_path, capsys):
    out = tmp_path / "out"
    train = ("--train.updates", "4", "--train.groups", "2", "--train.levels", "1", "--train.held-out", "0")
    asked = ("--pairs", str(folder), "--out", str(out), "--model.folder", "demo", "--form", "dpo", *train)
    assert main(["align", *asked]) == 0
    assert "10 votes on 5 groups" in capsys.readouterr().out
    assert any(tensor.any() for name, tensor in load_lora(out / "lora.safetensors").state.items() if "lora_B" in name)
    assert main(["align", "--out", str(tmp_path / "none")]) == 2
    assert "expected votes or pairs to train on" in capsys.readouterr().err
