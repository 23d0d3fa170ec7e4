"""Reference pictures on the canvas: paired with prompts, and conditioned on as ComfyUI's own nodes do it."""

import json
from itertools import pairwise

import comfy.samplers
import folder_paths
import pytest
import torch
from canvas import loaded, policy, short_config
from comfy_extras.nodes_edit_model import ReferenceLatent
from mixgrpo_pack.mixgrpo_core import train
from mixgrpo_pack.mixgrpo_core.rewards.edits import PSNR, EditPreservation
from mixgrpo_pack.nodes.host import references as host_references
from mixgrpo_pack.nodes.host.field import HostField
from mixgrpo_pack.nodes.host.references import reads_pictures
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.settings.prompt_set import NO_FILE, PromptSetNode
from PIL import Image
from tiny_models import tiny

WORDS, SIDE = "make it red", 64


@pytest.fixture(scope="module")
def parts():
    return loaded()


class Texts:
    """A text encoder for the tiny FLUX: the same embeddings for any words, and what it was shown."""

    def __init__(self):
        self.patcher, self.shown = None, []

    def tokenize(self, text, images=()):
        self.shown.append(len(images))
        return {"words": text}

    def encode_from_tokens_scheduled(self, tokens):
        draw = torch.Generator().manual_seed(1)
        return [[torch.randn(1, 5, 12, generator=draw), {"pooled_output": torch.randn(1, 10, generator=draw)}]]


def pictures(count, side=SIDE, seed=0):
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255


def node(clip, prompts, **changed):
    values = {"file": NO_FILE, "held_out_prompts": "", "held_out_share": 0.0, "seed": 0, "negative": "", **changed}
    with torch.inference_mode():
        return PromptSetNode.execute(clip, prompts, **values).args[0]


@pytest.fixture(scope="module")
def flux():
    return tiny("FLUX.1 dev", in_channels=16, out_channels=16)


def test_a_model_that_edits_is_conditioned_on_the_picture_as_the_hosts_node_does(parts, flux):
    vae, texts = parts[2], node(Texts(), WORDS, images=pictures(2))
    sigmas = torch.tensor([1.0, 0.6, 0.3, 0.0])
    with HostField(flux.patcher, vae, texts, width=SIDE, height=SIDE) as field, torch.no_grad():
        noise, found = field.noise(3, 1), []
        for prompt in texts.train:

            def body(velocity):
                x = noise
                for sigma, following in pairwise(sigmas):
                    x = x + (following - sigma) * velocity(x, sigma)
                return x

            found.append(field.patcher.model.process_latent_out(field.run([field.encode(prompt)], body)))
        conds, both = [field.encode(prompt) for prompt in texts.train], noise.repeat(2, 1, 1, 1)
        rows = field.run(conds, lambda velocity: velocity(both, sigmas[1], torch.tensor([0, 1])))
        apart = [field.run([cond], lambda velocity: velocity(noise, sigmas[1])) for cond in conds]
    torch.testing.assert_close(rows, torch.cat(apart), atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        plain = Texts().encode_from_tokens_scheduled({})
        for mine, picture in zip(found, pictures(2), strict=True):
            conds = ReferenceLatent.execute(plain, {"samples": vae.encode(picture[None])}).args[0]
            guider = comfy.samplers.CFGGuider(flux.patcher)
            guider.set_conds(conds, conds)
            guider.set_cfg(1.0)
            euler = comfy.samplers.sampler_object("euler")
            theirs = guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True)
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_which_models_read_pictures(parts, flux):
    def about(name, file):
        found = tiny(name).patcher.clone()
        found.cached_patcher_init = (None, (f"/models/{file}", {}))
        with HostField(found, parts[2], node(Texts(), "a"), width=SIDE, height=SIDE) as field:
            return reads_pictures(field.family)

    assert about("FLUX.1 dev", "flux1-dev-kontext_fp8_scaled.safetensors")
    assert not about("FLUX.1 dev", "flux1-dev.safetensors")
    assert about("FLUX.2", "flux2_dev.safetensors") and about("Qwen-Image", "qwen_image_edit_fp8.safetensors")
    assert not about("Chroma", "Chroma1-HD.safetensors")


def test_qwen_shows_the_picture_to_its_text_encoder_too(parts, monkeypatch):
    monkeypatch.setattr(host_references, "_SIDE", SIDE)  # a megapixel costs the VAE seconds
    clip = Texts()
    texts = node(clip, WORDS, images=pictures(1))
    with HostField(tiny("Qwen-Image").patcher, parts[2], texts, width=SIDE, height=SIDE) as field:
        positive, _ = field.encode(texts.train[0])
    assert clip.shown == [1]
    assert "reference_latents" in positive[0][1]


def test_an_edit_reward_is_trained_and_looks_at_each_prompts_picture(parts):
    model, clip, vae = parts
    prompts = node(clip, "a red circle\na blue square", images=pictures(2), masks=torch.zeros(1, SIDE, SIDE))
    with torch.inference_mode(), policy(model, clip, vae) as home:
        home.texts = prompts
        reports = list(
            train(home, prompts.train, {"kept": EditPreservation(PSNR())}, short_config(), contexts=prompts.contexts)
        )
    assert all(report.rewards["kept"].mean > 0 for report in reports)


def test_pictures_are_paired_with_prompts_in_their_order(parts):
    clip, images = parts[1], pictures(3)
    many = node(clip, "a red circle", images=images)
    assert [str(prompt) for prompt in many.train] == ["a red circle"] * 3
    assert all(torch.equal(many.contexts[p].reference, image) for p, image in zip(many.train, images, strict=True))
    both = node(clip, "a red circle\na blue circle", held_out_prompts="a green circle", images=images)
    assert torch.equal(both.contexts[both.held_out[0]].reference, images[2])
    one = node(clip, "a red circle\na blue circle", images=images[:1], masks=torch.ones(1, SIDE, SIDE))
    assert all(torch.equal(one.contexts[prompt].mask, torch.ones(SIDE, SIDE)) for prompt in one.train)
    assert many.digest != node(clip, "a red circle", images=pictures(3, seed=1)).digest, "another run"


def test_what_cannot_be_paired_is_told(parts, tmp_path, monkeypatch):
    clip = parts[1]
    with pytest.raises(ValueError, match="expected a picture for each of the 2 typed prompts, or one for all, found 3"):
        node(clip, "a\nb", images=pictures(3))
    with pytest.raises(ValueError, match=r"expected a mask per picture \(3\) or one for all, found 2"):
        node(clip, "a", images=pictures(3), masks=torch.ones(2, SIDE, SIDE))
    with pytest.raises(ValueError, match="expected images with the masks, found none"):
        node(clip, "a", masks=torch.ones(2, SIDE, SIDE))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "edits.jsonl").write_text(json.dumps({"prompt": "a red circle", "image": "a.png"}))
    with pytest.raises(ValueError, match="expected the picture of 'a red circle' at .*a.png, found nothing"):
        node(clip, "", file="edits.jsonl")
    with pytest.raises(ValueError, match="images are of typed prompts, and a file names its own"):
        node(clip, "a", file="edits.jsonl", images=pictures(1))
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / "a.png")
    found = node(clip, "", file="edits.jsonl")
    assert torch.equal(found.contexts[found.train[0]].reference[0, 0], torch.tensor([1.0, 0.0, 0.0]))
    assert isinstance(found, PromptSet)
