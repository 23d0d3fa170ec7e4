"""The demo model on the canvas against the same model in diffusers."""

import pytest
import torch
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.nodes.demo import load_clip, load_model, load_vae

CAPTION = "a small red circle on the left"


@pytest.fixture(scope="module")
def here():
    return load_demo(rank=2)


def test_captions_give_the_conditioning_of_the_headless_model(here):
    with torch.inference_mode():
        clip = load_clip()
        [[tokens, extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(CAPTION))
    cond = here.encode(CAPTION)
    assert torch.equal(tokens, cond.positive["prompt_embeds"])
    assert torch.equal(extra["pooled_output"], cond.positive["pooled_prompt_embeds"])


def test_an_unknown_word_is_named():
    clip = load_clip()
    with pytest.raises(ValueError, match="'unicorn'"):
        clip.encode_from_tokens(clip.tokenize("a red unicorn"))


def test_images_are_those_of_the_headless_autoencoder(here):
    latents = here.noise(3, 2)
    with torch.inference_mode():
        model, vae = load_model(), load_vae()
        found = vae.decode(model.model.process_latent_out(latents))
    torch.testing.assert_close(found, here.decode(latents), atol=1e-5, rtol=0)


def test_encoding_and_decoding_an_image_gives_it_back(here):
    with torch.inference_mode():
        vae = load_vae()
        image = here.decode(here.noise(5, 1)).clamp(0, 1)
        again = vae.decode(vae.encode(image))
    assert (again - image).abs().mean() < 0.1
