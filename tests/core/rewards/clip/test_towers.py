"""CLIP's towers from every layout and format of file, against a forward pass written from the paper."""

import gc
import logging
import shutil
from functools import partial

import pytest
import torch
from reference_clip import gelu, image_embeddings, quick_gelu, text_embeddings
from reward_files import (
    LAYERS,
    PATCH,
    WIDTH,
    clip,
    clip_config,
    open_clip_layout,
    vision_only,
    write,
    write_folder,
    write_open_clip,
)

from mixgrpo_core.rewards.clip import architectures, tokenizer
from mixgrpo_core.rewards.clip.fitting import cropped, stretched
from mixgrpo_core.rewards.clip.tokenizer import cleaned, tokens
from mixgrpo_core.rewards.clip.towers import ImageTower, TextTower
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError

PROMPTS = ("a red circle", "Two dogs, running; it's 42 degrees", "word " * 200)
CPU = Resident("cpu")
NEAR = 1e-5


@pytest.fixture(scope="module")
def tensors():
    return clip()


@pytest.fixture(scope="module")
def files(tensors, tmp_path_factory):
    """The same numbers in every layout and format that people have."""
    folder = tmp_path_factory.mktemp("clip")
    config = clip_config()
    return {
        "open_clip, training's file": write_open_clip(folder / "hps.pt", tensors),
        "open_clip, wrapped": write_open_clip(folder / "imscore.safetensors", tensors, prefix="model."),
        "open_clip, flat": write_open_clip(folder / "open_clip_pytorch_model.bin", tensors),
        "single file": write(folder / "pick.safetensors", tensors),
        "folder": write_folder(folder / "hub", tensors, config),
        "old folder": write_folder(folder / "old", tensors, config, name="pytorch_model.bin"),
    }


def pixels(count=3, side=28):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def embedded(tower, of):
    """Embeddings of pixels that need no preprocessing."""
    return tower.embed(of.movedim(1, -1), lambda images, side: images.movedim(-1, 1))


LAYOUTS = ("open_clip, training's file", "open_clip, wrapped", "open_clip, flat", "single file", "folder", "old folder")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_embeddings_are_those_of_the_paper(files, tensors, layout):
    tower, texts = ImageTower(files[layout], place=CPU), TextTower(files[layout], place=CPU)
    tower.check()
    texts.check()
    reference = open_clip_layout(tensors)
    assert (embedded(tower, pixels()) - image_embeddings(reference, pixels())).abs().max() < NEAR
    assert (texts.embed(PROMPTS) - text_embeddings(reference, tokens(PROMPTS))).abs().max() < NEAR


WRONG = {
    "activation": ({"activation": quick_gelu}, ()),
    "epsilon": ({"epsilon": 1e-6}, ()),
    "heads": ({"heads": 4}, ()),
    "a transpose forgotten": ({}, ("text_projection",)),
    "in_proj in another order": ({}, ("in_proj",)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_another_network_shows(tensors, wrong):
    """What the test above would not see it could not guard."""
    arguments, spoilt = WRONG[wrong]
    reference = open_clip_layout(tensors)
    other = dict(reference)
    if "text_projection" in spoilt:
        other["text_projection"] = reference["text_projection"].T
    if "in_proj" in spoilt:
        other |= {name: torch.cat(t.chunk(3)[::-1]) for name, t in reference.items() if "in_proj" in name}
    ids = tokens(PROMPTS)
    assert (text_embeddings(other, ids, **arguments) - text_embeddings(reference, ids)).abs().max() > 20 * NEAR
    if wrong != "a transpose forgotten":
        difference = image_embeddings(other, pixels(), **arguments) - image_embeddings(reference, pixels())
        assert difference.abs().max() > 20 * NEAR


def test_the_class_of_transformers_agrees(files):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(files["folder"], local_files_only=True).eval()
    with torch.no_grad():
        images = model.get_image_features(pixel_values=pixels())
        texts = model.get_text_features(input_ids=tokens(PROMPTS))  # pools as for an end of text of 2
    images, texts = (getattr(found, "pooler_output", found) for found in (images, texts))
    images, texts = (found / found.norm(dim=-1, keepdim=True) for found in (images, texts))
    assert (embedded(ImageTower(files["folder"], place=CPU), pixels()) - images).abs().max() < NEAR
    assert (TextTower(files["folder"], place=CPU).embed(PROMPTS) - texts).abs().max() < NEAR


@pytest.mark.parametrize("quick", [False, True])
def test_open_clip_itself_agrees(tensors, quick):
    """The reference of these tests, against the library where it can be imported."""
    try:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    except Exception as error:
        pytest.skip(f"open_clip cannot be imported: {error}")
    vision = CLIPVisionCfg(layers=LAYERS, width=WIDTH, head_width=80, patch_size=PATCH, image_size=28)
    network = CLIP(64, vision, CLIPTextCfg(width=64, heads=1, layers=LAYERS), quick_gelu=quick).eval()
    reference = open_clip_layout(tensors)
    network.load_state_dict(reference)
    activation = quick_gelu if quick else gelu
    with torch.no_grad():
        images = network.encode_image(pixels(), normalize=True)
        texts = network.encode_text(tokens(PROMPTS), normalize=True)
    assert (image_embeddings(reference, pixels(), activation=activation) - images).abs().max() < NEAR
    assert (text_embeddings(reference, tokens(PROMPTS), activation=activation) - texts).abs().max() < NEAR


def test_half_of_the_digits_in_the_file(tensors, tmp_path):
    file = write_open_clip(tmp_path / "hps.pt", tensors, dtype=torch.float16)
    stored = {name: tensor.half().float() for name, tensor in open_clip_layout(tensors).items()}
    tower = ImageTower(file, precision="float32", place=CPU)
    assert (embedded(tower, pixels()) - image_embeddings(stored, pixels())).abs().max() < NEAR
    half = ImageTower(file, precision="bfloat16", place=CPU)
    assert half.memory * 2 == tower.memory
    assert embedded(half, pixels()).dtype == torch.float32
    assert (embedded(half, pixels()) - image_embeddings(stored, pixels())).abs().max() < 0.05


def test_what_a_folder_says_counts(tensors, tmp_path):
    folder = write_folder(tmp_path / "hub", tensors, clip_config(activation="quick_gelu", epsilon=1e-3))
    said = {"activation": quick_gelu, "epsilon": 1e-3}
    reference = open_clip_layout(tensors)
    assert (
        embedded(ImageTower(folder, place=CPU), pixels()) - image_embeddings(reference, pixels(), **said)
    ).abs().max() < NEAR
    texts = TextTower(folder, place=CPU).embed(PROMPTS)
    assert (texts - text_embeddings(reference, tokens(PROMPTS), **said)).abs().max() < NEAR


def test_a_network_of_378_pixels_is_dfn5b(tmp_path):
    """Of the shapes of H/14, and of 730 positions; both its towers have the other activation."""
    big = clip(1, side=378)
    file = write_open_clip(tmp_path / "open_clip_pytorch_model.bin", big)
    reference = open_clip_layout(big)
    found = embedded(ImageTower(file, place=CPU), pixels(1, 378))
    assert (found - image_embeddings(reference, pixels(1, 378), activation=quick_gelu)).abs().max() < NEAR
    texts = TextTower(file, place=CPU).embed(PROMPTS)
    assert (texts - text_embeddings(reference, tokens(PROMPTS), activation=quick_gelu)).abs().max() < NEAR
    plain = ImageTower(file, place=CPU, activation="gelu")
    assert (embedded(plain, pixels(1, 378)) - image_embeddings(reference, pixels(1, 378))).abs().max() < NEAR


PUBLISHED = {  # width, layers, inner, projected, patch, side; text width -> heads and activation
    "OpenAI B/32": ((768, 12, 3072, 512, 32, 224, 512), (12, 8, "quick_gelu")),
    "OpenAI L/14": ((1024, 24, 4096, 768, 14, 224, 768), (16, 12, "quick_gelu")),
    "OpenAI L/14 at 336": ((1024, 24, 4096, 768, 14, 336, 768), (16, 12, "quick_gelu")),
    "laion H/14": ((1280, 32, 5120, 1024, 14, 224, 1024), (16, 16, "gelu")),
    "DFN5B H/14": ((1280, 32, 5120, 1024, 14, 378, 1024), (16, 16, "quick_gelu")),
    "laion g/14": ((1408, 40, 6144, 1024, 14, 224, 1024), (16, 16, "gelu")),
    "laion bigG/14": ((1664, 48, 8192, 1280, 14, 224, 1280), (16, 20, "gelu")),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_known_by_their_shapes(name):
    (width, layers, inner, projected, patch, side, text), (heads, text_heads, activation) = PUBLISHED[name]
    shapes = {
        "vision_model.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": ((side // patch) ** 2 + 1, width),
        "visual_projection.weight": (projected, width),
        "text_model.embeddings.token_embedding.weight": (49408, text),
        "text_model.embeddings.position_embedding.weight": (77, text),
        "text_projection.weight": (projected, text),
    }
    for layer in range(layers):
        shapes[f"vision_model.encoder.layers.{layer}.mlp.fc1.weight"] = (inner, width)
        shapes[f"text_model.encoder.layers.{layer}.mlp.fc1.weight"] = (4 * text, text)
    vision, words = architectures.vision(shapes, {}), architectures.text(shapes, {})
    assert (vision.heads, vision.activation, vision.side, vision.layers) == (heads, activation, side, layers)
    assert (words.heads, words.activation) == (text_heads, activation)
    alone = {name: shape for name, shape in shapes.items() if name.startswith("text")}
    if name != "DFN5B H/14":  # without its image tower, it looks like laion's
        assert architectures.text(alone, {}).activation == activation


def test_a_file_of_the_image_tower_alone_will_do(files, tensors, tmp_path):
    file = write(tmp_path / "clip_vision.safetensors", vision_only(tensors))
    tower = ImageTower(file, place=CPU)
    tower.check()
    assert torch.equal(embedded(tower, pixels()), embedded(ImageTower(files["single file"], place=CPU), pixels()))


def test_a_batch_is_its_images_one_by_one(files):
    tower, alone = ImageTower(files["folder"], place=CPU, batch=4), ImageTower(files["folder"], place=CPU, batch=1)
    images = torch.rand(5, 30, 47, 3, generator=torch.Generator().manual_seed(0))
    whole = tower.embed(images, cropped)
    assert (whole - alone.embed(images, cropped)).abs().max() < 1e-6
    order = torch.tensor([3, 0, 4, 1, 2])
    assert (whole[order] - tower.embed(images[order], cropped)).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (29, 27), (3, 500)])
def test_pictures_of_any_size(files, size):
    tower = ImageTower(files["folder"], place=CPU)
    images = torch.rand(2, *size, 3, generator=torch.Generator().manual_seed(0))
    for fit in (cropped, stretched):
        embeddings = tower.embed(images, fit)
        assert (embeddings.norm(dim=-1) - 1).abs().max() < 1e-5
        assert not torch.equal(embeddings[0], embeddings[1])


def test_gradients_through_preprocessing_are_finite_differences(files):
    tower = ImageTower(files["single file"], place=CPU, batch=1)
    generator = torch.Generator().manual_seed(3)
    images = 0.2 + 0.6 * torch.rand(2, 33, 40, 3, generator=generator, dtype=torch.float64)
    towards = torch.randn(tower.width, generator=generator, dtype=torch.float64)
    with tower.at_place() as network:
        network.double()  # of this test only: the file's network is read again by the next

    def score(of):
        return tower.embed(of, partial(cropped, eight_bits=False)) @ towards

    images.requires_grad_()
    (gradient,) = torch.autograd.grad(score(images).sum(), images)
    for _ in range(3):
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        step = 1e-5 * direction
        with torch.no_grad():
            difference = (score(images + step) - score(images - step)).sum() / 2e-5
        assert difference == pytest.approx(float((gradient * direction).sum()), rel=1e-5)
    tower.release()


def test_the_gradient_passes_the_eight_bits_of_a_picture(files):
    tower = ImageTower(files["single file"], place=CPU)
    images = torch.rand(1, 28, 28, 3, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    gradients = []
    for eight_bits in (True, False):  # such pictures are not changed by rounding
        of = images.clone().requires_grad_()
        tower.embed(of, partial(cropped, eight_bits=eight_bits))[0, 0].backward()
        gradients.append(of.grad)
    assert gradients[0].abs().max() > 0
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5 * gradients[0].abs().max()


def test_one_network_for_all_that_use_the_file(files):
    one, other = ImageTower(files["folder"], place=CPU), ImageTower(files["folder"], place=CPU, batch=2)
    assert one.network is other.network
    assert one.network is not ImageTower(files["folder"], place=CPU, activation="quick_gelu").network
    embedded(one, pixels())
    assert other.network.loaded
    other.release()
    assert not one.network.loaded


def test_nothing_is_kept_when_nobody_holds_a_tower(files):
    tower = ImageTower(files["old folder"], place=CPU)
    gc.collect()
    gc.disable()  # at once, not when the collector comes round
    try:
        embedded(tower, pixels())
        network = tower.network
        del tower
        assert ImageTower(files["old folder"], place=CPU).network is network
        del network
        assert not ImageTower(files["old folder"], place=CPU).network.loaded
    finally:
        gc.enable()


# -- tokens ------------------------------------------------------------------------------------------------------------

TOKENS = {  # as OpenAI's tokenizer gives them
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "  A   Photo\nOF a CAT ": [320, 1125, 539, 320, 2368],
    "it's 42": [585, 568, 275, 273],
    "日本": [39121, 19277, 361],
}


@pytest.mark.parametrize("prompt", TOKENS)
def test_tokens_are_those_of_openai(prompt):
    row = tokens([prompt])[0].tolist()
    expected = [49406, *TOKENS[prompt], 49407]
    assert row == expected + [0] * (77 - len(expected))


def test_a_long_prompt_is_cut_before_its_end(caplog):
    with caplog.at_level(logging.WARNING):
        rows = tokens(["cat " * 75, "cat " * 76, "cat " * 4000])
    assert rows.tolist() == [[49406, *[2368] * 75, 49407]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 prompts are longer than 77 tokens and are cut"
    ]


def test_prompts_are_cleaned_as_open_clip_does():
    text = "  the dog\u2019s \u201chat\u201d &amp;amp; \ufb01ne \uff21\uff22 caf\u00e9"
    assert cleaned(text) == 'the dog\'s "hat" & fine AB caf\u00e9'


@pytest.mark.parametrize("lost", ["vocab.json", "merges.txt"])
def test_a_bundled_vocabulary_that_is_not_whole_is_refused(monkeypatch, tmp_path, lost):
    """transformers 5 makes an empty tokenizer of such a folder."""
    kept = {"vocab.json", "merges.txt"} - {lost}
    for name in kept:
        shutil.copy(tokenizer._FOLDER / name, tmp_path)
    monkeypatch.setattr(tokenizer, "_FOLDER", tmp_path)
    tokenizer._tokenizer.cache_clear()
    with pytest.raises(WeightsError, match=f"lacks {lost}"):
        tokens(["a cat"])
    tokenizer._tokenizer.cache_clear()
