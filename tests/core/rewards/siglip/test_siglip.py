"""SigLIP against transformers' own model and tokenizer, from folders and single files, and what wrong files get."""

import json
import logging
import math
import shutil

import pytest
import torch
from reward_files import (
    SIGLIP_WORDS,
    clip,
    siglip,
    siglip_config,
    write,
    write_folder,
    write_pieces,
    write_tokenizer,
)

from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch, about
from mixgrpo_core.rewards.siglip.scores import SigLIPScore
from mixgrpo_core.rewards.siglip.tokenizer import SiglipTokens
from mixgrpo_core.rewards.siglip.towers import SiglipCheckpoint, SiglipImageTower
from mixgrpo_core.rewards.taste.looks import Look, SiglipImages

CPU = Resident("cpu")
NEAR = 1e-5
PROMPTS = ("A red circle, on the table!", "two dogs", "the photo of a blue cat " * 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("siglip") / "hub", siglip(), siglip_config())
    write_pieces(folder)
    return folder


def pictures(height=28, width=28, count=3):
    images = torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(height + width))
    return images.mul(255).round().div(255)


def scores(reward, images, prompts=PROMPTS):
    return reward(RewardBatch(images=images, prompts=prompts))


@pytest.fixture(scope="module")
def expected(folder):
    """Logits of `pictures` and `PROMPTS` by transformers' model, with its tokenizer, which pads to 64."""
    from transformers import SiglipModel, SiglipTokenizer

    model = SiglipModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"))
    ids = tokenizer(list(PROMPTS), padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.no_grad():
        pixels = (pictures().movedim(-1, 1) - 0.5) / 0.5
        return model(input_ids=ids["input_ids"], pixel_values=pixels).logits_per_image.diagonal()


def test_logits_are_those_of_transformers(folder, expected):
    found = scores(SigLIPScore(str(folder), place=CPU), pictures())
    assert (found.values - expected).abs().max() < NEAR * math.exp(2.0)
    assert expected.std() > 0.01


def test_a_taste_sees_the_pictures_as_transformers_does(folder):
    from transformers import SiglipModel

    model = SiglipModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        seen = model.vision_model(pixel_values=(pictures().movedim(-1, 1) - 0.5) / 0.5).pooler_output
    found = Look(SiglipImages(str(folder)), place=CPU).features(pictures())
    assert (found - seen / seen.norm(dim=-1, keepdim=True)).abs().max() < NEAR


def test_a_single_file_scores_as_its_folder(folder, expected, tmp_path):
    file = write(tmp_path / "siglip.safetensors", siglip())
    shutil.copy(folder / "spiece.model", tmp_path)
    assert (scores(SigLIPScore(str(file), place=CPU), pictures()).values - expected).abs().max() < NEAR * math.exp(2.0)
    elsewhere = write(tmp_path / "weights/siglip.bin", siglip())
    found = scores(SigLIPScore(str(elsewhere), tokenizer=str(folder), place=CPU), pictures())
    assert (found.values - expected).abs().max() < NEAR * math.exp(2.0)


def test_the_probability_is_the_sigmoid(folder, expected):
    found = scores(SigLIPScore(str(folder), probability=True, place=CPU), pictures())
    assert (found.values - 1 / (1 + (-expected).exp())).abs().max() < NEAR
    assert about(SigLIPScore(str(folder), probability=True)).expected == (0.0, 1.0)


def spoilt(how):
    tensors, config = siglip(), siglip_config()
    if how == "epsilon":
        config["text_config"]["layer_norm_eps"] = config["vision_config"]["layer_norm_eps"] = 1e-4
    elif how == "activation":
        config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "quick_gelu"
    elif how == "bias":
        tensors["logit_bias"] = torch.zeros(1)
    elif how == "attention":
        name = "vision_model.head.attention.in_proj_weight"
        tensors[name] = torch.cat(tensors[name].chunk(3)[::-1])
    return tensors, config


@pytest.mark.parametrize("how", ["epsilon", "activation", "bias", "attention"])
def test_another_network_shows(how, folder, expected, tmp_path):
    """And what config.json says counts."""
    other = write_folder(tmp_path / "hub", *spoilt(how))
    found = scores(SigLIPScore(str(other), tokenizer=str(folder), place=CPU), pictures())
    assert (found.values - expected).abs().max() > 20 * NEAR * math.exp(2.0)


def test_pictures_are_stretched(folder):
    wide = pictures(28, 28).repeat_interleave(3, 2)
    squares = torch.nn.functional.interpolate(wide.movedim(-1, 1), (28, 28), mode="bicubic", antialias=True)
    reward = SigLIPScore(str(folder), place=CPU)
    found, same = (
        scores(reward, wide),
        reward.images().embed(wide, lambda images, side: (squares.clamp(0, 1) - 0.5) / 0.5),
    )
    assert (reward.images().embed(wide, reward.preprocessed) - same).abs().max() < NEAR
    assert found.valid.all()


def test_a_batch_is_its_pictures_in_any_order(folder):
    images, order = pictures(40, 37), torch.tensor([2, 0, 1])
    whole = scores(SigLIPScore(str(folder), place=CPU, batch=2), images).values
    turned = scores(SigLIPScore(str(folder), place=CPU), images[order], tuple(PROMPTS[n] for n in order)).values
    assert (whole[order] - turned).abs().max() < NEAR
    assert whole.std() > 1e-3


def test_gradients_are_finite_differences(folder):
    reward = SigLIPScore(str(folder), place=CPU)
    tower = reward.images()
    images = pictures(30, 33, 1).double().requires_grad_()
    towards = torch.randn(tower.width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with tower.at_place() as network:
        network.double()

    def value(images):
        from mixgrpo_core.rewards.siglip.towers import as_siglip

        return (tower.embed(images, lambda some, side: as_siglip(some, side, eight_bits=False)) @ towards).sum()

    (gradient,) = torch.autograd.grad(value(images), images)
    direction = torch.where(images.detach().sub(0.5).abs() < 0.49, 1.0, 0.0)  # away from where black and white clip
    direction = direction * torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        difference = (value(images + 1e-5 * direction) - value(images - 1e-5 * direction)) / 2e-5
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)
    tower.release()


@pytest.mark.parametrize(
    "sizes,side,heads",
    [
        ((768, 16, 14 * 14, 3072), 224, 12),
        ((1024, 16, 24 * 24, 4096), 384, 16),
        ((1152, 14, 27 * 27, 4304), 384, 16),  # 27 patches of 14 are 378: the last 6 pixels are not looked at
        ((1152, 14, 16 * 16, 4304), 224, 16),
    ],
)
def test_published_networks_are_known_by_their_shapes(sizes, side, heads, tmp_path):
    width, patch, positions, inner = sizes
    tensors = {
        "vision_model.head.probe": torch.zeros(1, 1, width),
        "vision_model.embeddings.patch_embedding.weight": torch.zeros(width, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": torch.zeros(positions, width),
        "vision_model.encoder.layers.26.mlp.fc1.bias": torch.zeros(inner),
        "vision_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(inner, width).half(),
    }
    found = SiglipCheckpoint(write(tmp_path / "siglip.safetensors", tensors, dtype=torch.float16)).vision()
    assert (found["image_size"], found["num_attention_heads"], found["num_hidden_layers"]) == (side, heads, 27)
    assert found["layer_norm_eps"] == 1e-6 and found["hidden_act"] == "gelu_pytorch_tanh"


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_pieces_are_those_of_transformers(folder):
    from transformers import SiglipTokenizer

    texts = ["A  red,\tcircle!", "it's 42 (dogs)", "\u65e5\u672c x", "a " * 100, "cat"]
    ids = SiglipTokenizer(str(folder / "spiece.model"))(texts, padding="max_length", max_length=64, truncation=True)
    assert SiglipTokens(folder)(texts, 64).tolist() == ids["input_ids"]


def test_a_tokenizer_file_does_without_sentencepiece(tmp_path):
    write_tokenizer(tmp_path)
    tokens = SiglipTokens(tmp_path)
    assert tokens.count <= SIGLIP_WORDS
    rows = tokens(["A red, CIRCLE!", "a cat whatever"], 8)
    named = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    a, red, circle, cat = (named[word] for word in ("a", "red", "circle", "cat"))
    assert rows.tolist() == [[a, red, circle, 1, 1, 1, 1, 1], [a, cat, 2, 1, 1, 1, 1, 1]]


def test_a_padding_of_its_own(tmp_path):
    """SigLIP 2 pads with another token than its end, and keeps punctuation."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}}))
    assert SiglipTokens(tmp_path)(["CAT!"], 5).tolist()[0][1:] == [2, 1, 0, 0]


def test_a_long_prompt_is_cut_before_its_end(folder, caplog):
    with caplog.at_level(logging.WARNING):
        rows = SiglipTokens(folder)(["cat " * 4000, "cat"], 64)
    assert rows.shape == (2, 64) and rows[0, -1] == 1 and (rows[0, :-1] != 1).all()
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 prompts are longer than 64 tokens and are cut"
    ]


def test_an_empty_prompt_has_no_score(folder):
    found = scores(SigLIPScore(str(folder), place=CPU), pictures(), ("a cat", "", "  "))
    assert found.valid.tolist() == [True, False, False] and found.note == "the prompt is empty"


# -- wrong files -------------------------------------------------------------------------------------------------------


def test_weights_without_a_tokenizer(tmp_path):
    file = write(tmp_path / "siglip.safetensors", siglip())
    with pytest.raises(WeightsError, match=r"expected SigLIP's tokenizer.json or spiece.model in .*, found neither"):
        SigLIPScore(str(file), place=CPU).prepare(["a cat"])


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json"])
def test_a_broken_tokenizer(name, tmp_path):
    folder = write_folder(tmp_path / "hub", siglip(), siglip_config())
    (folder / name).write_bytes(b"\x0a\x00not a tokenizer")
    with pytest.raises(WeightsError, match="the tokenizer in .* cannot be read"):
        SigLIPScore(str(folder), place=CPU).prepare(["a cat"])


WRONG = {
    "vision only": "expected SigLIP's text tower in .*, found its image tower only",
    "clip": "expected a SigLIP network in .*, found tensors such as logit_scale",
    "unknown": "found also lora.weight",
    "missing": "lacks 1 parameters, such as .*head.mlp.fc1.bias",
    "no bias": "expected a tensor logit_bias in",
    "small vocabulary": "its vocabulary has 34 tokens, and the text encoder's 20",
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_file_is_said_before_work_starts(how, folder, tmp_path):
    tensors = siglip()
    if how == "vision only":
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("vision_model.")}
    elif how == "clip":
        tensors = {name: tensor for name, tensor in clip().items() if "token_embedding" not in name}
    elif how == "unknown":
        tensors["lora.weight"] = torch.zeros(1)
    elif how == "missing":
        del tensors["vision_model.head.mlp.fc1.bias"]
    elif how == "no bias":
        del tensors["logit_bias"]
    else:
        name = "text_model.embeddings.token_embedding.weight"
        tensors[name] = tensors[name][:20]
    file = write(tmp_path / "siglip.safetensors", tensors)
    with pytest.raises(WeightsError, match=WRONG[how]):
        SigLIPScore(str(file), tokenizer=str(folder), place=CPU).prepare(["a cat"])


def test_an_image_tower_alone_embeds(folder, tmp_path):
    """ComfyUI's clip_vision files of SigLIP hold no more."""
    tensors = {name: tensor for name, tensor in siglip().items() if name.startswith("vision_model.")}
    alone = SiglipImageTower(write(tmp_path / "sigclip_vision.safetensors", tensors), place=CPU)
    whole = SiglipImageTower(folder, place=CPU)
    fit = SigLIPScore(str(folder)).preprocessed
    assert torch.equal(alone.embed(pictures(), fit), whole.embed(pictures(), fit))


def test_a_missing_file_is_named_with_its_source():
    with pytest.raises(WeightsError, match="found nothing.*google/siglip-so400m-patch14-384.*3.51 GB.*Apache-2.0"):
        SigLIPScore("/nowhere/at-all").prepare([])
