"""A taste on a VAE's latents: those that diffusers makes, from a folder or one file, and a head that goes with them."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import save_file

from mixgrpo_core.cli import main
from mixgrpo_core.models.families.demo import DEMO
from mixgrpo_core.rewards import RewardBatch, ShapeReward, TasteReward
from mixgrpo_core.rewards.taste import ColoursAndEdges, Latents
from mixgrpo_core.rewards.taste.agreement import agreement
from mixgrpo_core.rewards.taste.latents import beside_colours, statistics
from mixgrpo_core.rewards.taste.looks import Look
from mixgrpo_core.rewards.taste.opinions import Opinions
from mixgrpo_core.rewards.taste.taste import Taste, TasteFileError
from mixgrpo_core.shapes.captions import all_captions
from mixgrpo_core.shapes.drawing import draw

TINY = Latents(str(DEMO / "vae"))
LDM = (
    ("down_blocks.0.resnets.", "down.0.block."),
    ("down_blocks.1.resnets.", "down.1.block."),
    ("down_blocks.0.downsamplers.0.", "down.0.downsample."),
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
    ("mid_block.attentions.0.to_", "mid.attn_1."),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
)


def voted(look, groups=12, of=4):
    """Drawings of several captions for one prompt, with the thumbs of who looks at the honest reward."""
    generator, captions, parts = np.random.default_rng(0), all_captions(), []
    prompt = str(captions[0])
    for _ in range(groups):
        chosen = [captions[0]] * (of // 2) + [captions[n] for n in generator.integers(1, len(captions), of // 2)]
        images = torch.stack([torch.from_numpy(draw(caption, generator)) / 255 for caption in chosen])
        scores = ShapeReward()(RewardBatch(images=images, prompts=(prompt,) * of)).values
        values = torch.where(scores > 0.5, 1.0, -1.0)
        parts.append(Opinions.of_group(look.features(images), values, prompt, ranked=False))
    return Opinions.joined(parts)


@pytest.fixture(scope="module")
def kl(tmp_path_factory):
    """An AutoencoderKL as a folder, and its tensors."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=2,
    ).eval()  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "vae"
    vae.save_pretrained(folder)
    return vae, folder


def test_a_batch_is_seen_as_each_picture_alone_and_different_pictures_differ():
    look, images = Look(TINY, batch=2), torch.rand(3, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    together = look.features(images)
    torch.testing.assert_close(together, torch.cat([look.features(image[None]) for image in images]))
    assert together.shape == (3, 320 + 16 + 136)
    assert torch.cosine_similarity(together[0], 1 - together[1], dim=0) < 0.999
    assert look.features(torch.rand(1, 700, 300, 3)).shape == (1, 472)  # whatever the size


def test_means_and_products_are_known():
    """Stripes of 1 and 3 in one channel, a constant -2 in the other: the means of the products are 5, -4 and 4."""
    stripes = torch.tensor([1.0, 3.0]).repeat(8, 4)
    found = statistics(torch.stack([stripes, torch.full((8, 8), -2.0)])[None])[0]
    torch.testing.assert_close(found, torch.tensor([2.0**0.5, -(2.0**0.5), 5.0**0.5, -2.0, 2.0]))


def test_the_latents_are_those_of_diffusers(kl):
    vae, folder = kl
    tiny = AutoencoderTiny.from_pretrained(DEMO / "vae", torch_dtype=torch.float32).eval()
    images = (torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1)) * 255).round() / 255
    with torch.no_grad():
        pixels = images.movedim(-1, 1) * 2 - 1
        expected = {TINY: tiny.encode(pixels).latents, Latents(str(folder.parent)): vae.encode(pixels).latent_dist.mean}
    for encoder, latents in expected.items():
        torch.testing.assert_close(Look(encoder).features(images), beside_colours(images, latents))


def test_one_file_is_its_folder_by_either_names(kl, tmp_path):
    vae, folder = kl
    tensors = vae.state_dict()
    ldm = {}
    for name, tensor in tensors.items():
        if name.startswith(("encoder.", "quant_conv.")):
            for ours, theirs in LDM:
                name = name.replace(ours, theirs)
            ldm[name] = tensor[..., None, None] if "attn" in name and tensor.ndim == 2 else tensor
    back = convert_ldm_vae_checkpoint(dict(ldm), {"down_block_types": (0, 0), "up_block_types": ()})
    assert all(torch.equal(tensors[name], tensor) for name, tensor in back.items()) and len(back) == len(ldm)
    save_file(tensors, tmp_path / "diffusers.safetensors")
    save_file(ldm, tmp_path / "ldm.safetensors")
    save_file(
        {f"first_stage_model.{n}": t for n, t in ldm.items()} | {"x": torch.ones(1)}, tmp_path / "all.safetensors"
    )
    images = torch.rand(1, 40, 40, 3)
    expected = Look(Latents(str(folder))).features(images)
    for name in ("diffusers", "ldm", "all"):
        look = Look(Latents(str(tmp_path / f"{name}.safetensors")))
        look.check()
        assert torch.equal(look.features(images), expected)


def test_a_taste_on_the_demos_vae_knows_more_than_a_coin_and_goes_with_that_vae_only(kl, tmp_path):
    look, file = Look(TINY), str(tmp_path / "taste.safetensors")
    opinions = voted(look)
    told = agreement(opinions, conditioned=False)
    assert told.right > 0.75 > 0.65 > told.majority and told.ordered > 0.75
    taste = Taste.learnt(opinions, look, conditioned=False, sources=("a test",))
    taste.save(tmp_path / "taste.safetensors")
    again = Taste.load(tmp_path / "taste.safetensors")
    assert again.encoder == f"Latents(file={str(DEMO / 'vae')!r})"
    features = opinions.features[:4]
    assert torch.equal(again.logits(features, ("",) * 4), taste.logits(features, ("",) * 4))
    TasteReward(file=file, encoder=TINY).prepare(())
    torch.manual_seed(1)
    AutoencoderTiny(latent_channels=16).save_pretrained(tmp_path / "other")
    for other in (ColoursAndEdges(), Latents(str(kl[1])), Latents(str(tmp_path / "other"))):
        with pytest.raises(TasteFileError, match=r"learnt on Latents\(.* sees other things: give it that encoder"):
            TasteReward(file=file, encoder=other).prepare(())


def test_what_is_no_autoencoder_is_one_sentence(kl, tmp_path):
    save_file({"blocks.0.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    save_file(dict(list(kl[0].encoder.state_dict(prefix="encoder.").items())[:-2]), tmp_path / "part.safetensors")
    for file, words in (
        (DEMO / "transformer", "expected an AutoencoderKL or an AutoencoderTiny, found SD3Transformer2DModel in"),
        (tmp_path / "other.safetensors", r"expected an AutoencoderKL \(names like .*take the VAE of an image model"),
        (tmp_path / "part.safetensors", "expected an AutoencoderKL"),
        (tmp_path / "none", "found nothing"),
    ):
        with pytest.raises(ValueError, match=words):
            Look(Latents(str(file))).check()


def test_it_is_trained_from_the_command_line_and_ranks_by_its_own_vae(tmp_path, capsys):
    from PIL import Image

    for name, colour in (("liked", (200, 30, 30)), ("disliked", (30, 30, 200))):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("RGB", (64, 64), tuple(v + 4 * number for v in colour)).save(tmp_path / name / f"{number}.png")
    file, folders = str(tmp_path / "taste.safetensors"), [str(tmp_path / name) for name in ("liked", "disliked")]
    words = ["--liked", folders[0], "--disliked", folders[1], "--encoder", f"Latents({str(DEMO)!r})"]
    assert main(["taste", "train", file, *words]) == 0
    assert "learnt from 12 images" in capsys.readouterr().out
    assert main(["taste", "inspect", file]) == 0
    assert "put on Latents(file=" in capsys.readouterr().out.replace("\n", " ")
    assert main(["taste", "score", file, *folders]) == 0
    assert main(["taste", "score", file, *folders, "--encoder", "ColoursAndEdges()"]) == 2
