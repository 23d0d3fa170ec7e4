"""HPSv2, PickScore and CLIPScore: their geometry, their formula, their prompts, and what wrong files get."""

import logging
import math

import pytest
import torch
from reference_clip import image_embeddings, quick_gelu, text_embeddings
from reward_files import clip, clip_config, open_clip_layout, vision_only, write, write_folder, write_open_clip
from torch.nn import functional

from mixgrpo_core.rewards.clip import CLIPScore, HPSv2, PickScore
from mixgrpo_core.rewards.clip.tokenizer import cleaned, tokens
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch, about
from mixgrpo_core.rewards.scoring import score

CPU = Resident("cpu")
NEAR = 1e-5
PROMPTS = ("a red circle", "two dogs", "a red circle")


@pytest.fixture(scope="module")
def tensors():
    return clip(logit_scale=3.0)


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    return str(write_open_clip(tmp_path_factory.mktemp("clip") / "clip.safetensors", tensors))


def pictures(height, width, count=3):
    """With the 256 steps of files: nothing is left to be rounded."""
    images = torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(height + width))
    return images.mul(255).round().div(255)


def as_seen(squares):
    """``[B, 28, 28, 3]`` as CLIP's networks take pictures (mean and deviation from OpenAI's repository)."""
    mean, std = torch.tensor((0.48145466, 0.4578275, 0.40821073)), torch.tensor((0.26862954, 0.26130258, 0.27577711))
    return ((squares - mean) / std).movedim(-1, 1)


def cosines(tensors, squares, prompts, **network):
    reference = open_clip_layout(tensors)
    images = image_embeddings(reference, as_seen(squares), **network)
    return (images * text_embeddings(reference, tokens(prompts), **network)).sum(-1)


def scores(reward, images, prompts=PROMPTS):
    return reward(RewardBatch(images=images, prompts=prompts))


def difference(found, expected):
    assert found.valid.all() and not found.note
    return (found.values - expected).abs().max()


# Pictures whose right edge is 28 pixels already: nothing is resized, only the place differs.


def test_hps_puts_black_around_the_whole_picture(file, tensors):
    reward = HPSv2(file, place=CPU)
    tall, wide = pictures(28, 17), pictures(19, 28)
    boxed = functional.pad(tall, (0, 0, 5, 6))  # 11 columns are missing, the odd one is on the right
    assert difference(scores(reward, tall), cosines(tensors, boxed, PROMPTS)) < NEAR
    boxed = functional.pad(wide, (0, 0, 0, 0, 4, 5))
    assert difference(scores(reward, wide), cosines(tensors, boxed, PROMPTS)) < NEAR
    other = functional.pad(wide, (0, 0, 0, 0, 5, 4))
    assert difference(scores(reward, wide), cosines(tensors, other, PROMPTS)) > 20 * NEAR


def test_pickscore_takes_the_middle_rounded_down_and_the_scale_of_the_file(file, tensors):
    wide, tall = pictures(28, 31), pictures(35, 28)  # margins of 1.5 and 3.5
    expected = math.exp(3.0) * cosines(tensors, wide[:, :, 1:29], PROMPTS)
    assert difference(scores(PickScore(file, place=CPU), wide), expected) < NEAR * math.exp(3.0)
    expected = math.exp(3.0) * cosines(tensors, tall[:, 3:31], PROMPTS)
    assert difference(scores(PickScore(file, place=CPU), tall), expected) < NEAR * math.exp(3.0)


def test_clipscore_takes_the_middle_rounded_half_to_even(file, tensors):
    wide, tall = pictures(28, 31), pictures(33, 28)  # margins of 1.5 and 2.5
    assert difference(scores(CLIPScore(file, place=CPU), wide), cosines(tensors, wide[:, :, 2:30], PROMPTS)) < NEAR
    assert difference(scores(CLIPScore(file, place=CPU), tall), cosines(tensors, tall[:, 2:30], PROMPTS)) < NEAR
    scaled = scores(CLIPScore(file, scale=2.5, place=CPU), wide)
    assert difference(scaled, 2.5 * cosines(tensors, wide[:, :, 2:30], PROMPTS)) < NEAR


def test_clipscore_can_stretch_and_can_have_another_activation(file, tensors):
    doubled = pictures(28, 28).repeat_interleave(2, 2)
    quick = CLIPScore(file, activation="quick_gelu", fit="stretch", place=CPU)
    squares = functional.interpolate(doubled.movedim(-1, 1), (28, 28), mode="bicubic", antialias=True).clamp(0, 1)
    expected = cosines(tensors, squares.movedim(1, -1), PROMPTS, activation=quick_gelu)
    assert difference(scores(quick, doubled), expected) < NEAR
    assert difference(scores(CLIPScore(file, place=CPU), doubled), expected) > 20 * NEAR


def test_clipscore_stretches_for_dfn5b(tmp_path):
    big = clip(1, side=378)
    file = str(write_open_clip(tmp_path / "dfn.bin", big))
    image = pictures(60, 90, 1)
    auto, stretch, crop = (
        scores(CLIPScore(file, fit=fit, place=CPU), image, ("a cat",)).values for fit in ("auto", "stretch", "crop")
    )
    assert auto == stretch and auto != crop


@pytest.mark.parametrize("kind", [HPSv2, PickScore, CLIPScore])
def test_both_layouts_of_the_same_network_score_alike(kind, file, tensors, tmp_path):
    folder = write_folder(tmp_path / "hub", tensors, clip_config())
    images = pictures(40, 37)
    found, other = scores(kind(file, place=CPU), images), scores(kind(str(folder), place=CPU), images)
    assert (found.values - other.values).abs().max() < NEAR


@pytest.mark.parametrize("kind", [HPSv2, PickScore, CLIPScore])
def test_a_batch_is_its_pictures_in_any_order(kind, file):
    images, order = pictures(40, 37), torch.tensor([2, 0, 1])
    whole = scores(kind(file, place=CPU, batch=2), images).values
    alone = [scores(kind(file, place=CPU), images[n : n + 1], PROMPTS[n : n + 1]).values for n in range(3)]
    assert (whole - torch.cat(alone)).abs().max() < NEAR
    turned = scores(kind(file, place=CPU), images[order], tuple(PROMPTS[n] for n in order)).values
    assert (whole[order] - turned).abs().max() < NEAR
    assert whole.std() > 1e-3


def test_gradients_reach_the_picture_of_each_score_and_stay_finite_beside_an_empty_prompt(file):
    images = pictures(30, 40).requires_grad_()
    values = HPSv2(file, place=CPU).values(RewardBatch(images=images, prompts=("a cat", " ", "a dog")))
    assert values.isnan().tolist() == [False, True, False]
    values[[0, 2]].sum().backward()
    sizes = images.grad.flatten(1).norm(dim=1)
    assert sizes[0] > 0 and sizes[1] == 0 and sizes[2] > 0
    torch.manual_seed(0)
    ahead = (images + 0.2 * images.grad / images.grad.abs().max()).detach().clamp(0, 1)
    better = HPSv2(file, place=CPU).values(RewardBatch(images=ahead, prompts=("a cat", " ", "a dog")))
    assert better[0] > values[0] and better[2] > values[2]


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_prompts_that_were_prepared_in_inference_mode_give_gradients_later(file):
    reward = PickScore(file)
    with torch.inference_mode():  # as a node of ComfyUI runs
        reward.prepare(PROMPTS)
    images = pictures(30, 30).requires_grad_()
    reward.values(RewardBatch(images=images, prompts=PROMPTS)).sum().backward()
    assert bool(images.grad.any())


def test_the_text_network_is_gone_once_prompts_are_embedded(file):
    reward = HPSv2(file, place=CPU)
    texts = reward.texts()  # shares the network
    images = reward.images()
    reward.prepare(PROMPTS)
    assert not texts.network.loaded and not images.network.loaded
    first = scores(reward, pictures(28, 28))
    assert not texts.network.loaded and images.network.loaded
    texts.network._load = None  # reading it again would fail now
    assert torch.equal(scores(reward, pictures(28, 28)).values, first.values)
    with pytest.raises(TypeError):
        scores(reward, pictures(28, 28), ("a prompt that nobody prepared",) * 3)


def test_a_prompt_that_was_not_prepared_is_read_then(file, tensors):
    reward = CLIPScore(file, place=CPU)
    reward.prepare(["another prompt"])
    assert difference(scores(reward, pictures(28, 28)), cosines(tensors, pictures(28, 28), PROMPTS)) < NEAR
    assert not reward.texts().network.loaded


def test_what_a_network_needs_of_memory_is_said(file):
    reward = PickScore(file, place=CPU)
    with reward.images().at_place() as network:
        assert about(reward).memory == sum(p.numel() * p.element_size() for p in network.parameters())
    assert about(PickScore(file, precision="float16", place=CPU)).memory * 2 == about(reward).memory
    assert about(PickScore("nowhere.safetensors")).memory == 0


def test_an_empty_prompt_has_no_score_and_says_so(file):
    found, failures = score(
        {"hps": HPSv2(file, place=CPU)}, RewardBatch(images=pictures(28, 28), prompts=("a cat", "", " \n"))
    )
    assert found["hps"].valid.tolist() == [True, False, False]
    assert "the prompt is empty" in str(failures[0])


def test_a_prompt_of_4000_words_is_cut(file, tensors, caplog):
    prompts = ("cat " * 4000, "cat " * 75, "dog")
    reward = PickScore(file, place=CPU)
    with caplog.at_level(logging.WARNING):
        reward.prepare(prompts)
        values = scores(reward, pictures(28, 28, 1).expand(3, -1, -1, -1), prompts).values
    assert values[0] == values[1] != values[2]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 prompts are longer than 77 tokens and are cut"
    ]


def test_rewards_of_open_clip_read_prompts_as_it_does(file):
    curly, straight = "the dog\u2019s hat &amp; coat", "the dog's hat & coat"
    assert cleaned(curly) == straight
    for kind, same in ((HPSv2, True), (CLIPScore, True), (PickScore, False)):
        image = pictures(28, 28, 1).expand(2, -1, -1, -1)
        values = scores(kind(file, place=CPU), image, (curly, straight)).values
        assert (values[0] == values[1]) == same, kind


def test_prompts_of_no_run_are_no_error(file):
    reward = HPSv2(file, place=CPU)
    reward.prepare([])
    image = pictures(28, 28, 1)
    assert torch.equal(
        scores(reward, image, ("a cat",)).values, scores(HPSv2(file, place=CPU), image, ("a cat",)).values
    )


# -- wrong files -------------------------------------------------------------------------------------------------------

LORA = {f"lora_unet_blocks_{n}.lora_down.weight": torch.zeros(2, 2) for n in range(9)}


def spoilt(tensors, how):
    tensors = dict(tensors)
    if how == "unknown":
        tensors["visual.extra.weight"] = torch.zeros(2)
    elif how == "missing":
        del tensors["ln_final.bias"], tensors["transformer.resblocks.1.mlp.c_fc.bias"]
    elif how == "missing in the image tower":
        del tensors["visual.ln_post.bias"]
    elif how == "shape":
        tensors["visual.ln_pre.weight"] = torch.zeros(7)
    elif how == "one layer":
        tensors = {name: t for name, t in tensors.items() if "visual.transformer.resblocks.0" not in name}
    elif how == "vocabulary":
        tensors["token_embedding.weight"] = tensors["token_embedding.weight"][:1000]
    elif how == "lora":
        tensors = LORA
    return tensors


WRONG = {
    "unknown": "found also 1 tensors such as visual.extra.weight",
    "missing": "lacks 2 parameters, such as text_model.encoder.layers.1.mlp.fc1.bias, text_model.final_layer_norm.bias",
    "missing in the image tower": "lacks 1 parameters, such as vision_model.post_layernorm.bias",
    "shape": r"expected vision_model.pre_layrnorm.weight of shape \[160\] in .*, found \[7\]",
    "one layer": "vision_model.encoder.layers.0.mlp.fc1.weight, found none",
    "vocabulary": "expected CLIP's vocabulary of 49408 tokens in .*, found 1000",
    "lora": "expected a CLIP network in .*, found tensors such as lora_unet_blocks_0.lora_down.weight",
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_file_is_said_before_work_starts(how, tensors, tmp_path):
    path = write(tmp_path / "clip.safetensors", spoilt(open_clip_layout(tensors), how))
    with pytest.raises(WeightsError, match=WRONG[how]):
        HPSv2(str(path), place=CPU).prepare(["a cat"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_a_truncated_file(suffix, tensors, tmp_path):
    path = write_open_clip(tmp_path / f"clip{suffix}", tensors)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="is not a whole .* file.*get it again"):
        HPSv2(str(path), place=CPU).prepare(["a cat"])


def test_an_image_tower_alone_is_not_enough(tensors, tmp_path):
    path = write(tmp_path / "clip_vision.safetensors", vision_only(tensors))
    with pytest.raises(WeightsError, match="expected a text tower in .*, found tensors such as vision_model"):
        CLIPScore(str(path), place=CPU).prepare(["a cat"])


def test_a_network_without_its_scale(tensors, tmp_path):
    path = write(tmp_path / "clip.safetensors", {n: t for n, t in tensors.items() if n != "logit_scale"})
    with pytest.raises(WeightsError, match="expected a tensor logit_scale"):
        PickScore(str(path), place=CPU).prepare(["a cat"])
    CLIPScore(str(path), place=CPU).prepare(["a cat"])


@pytest.mark.parametrize(
    "kind,words", [(HPSv2, "HPS_v2.1_compressed.pt"), (PickScore, "PickScore_v1"), (CLIPScore, "DFN5B")]
)
def test_a_missing_file_is_named_with_its_source(kind, words):
    with pytest.raises(WeightsError, match=f"found nothing.*{words}.*GB, licence .* put it into models/reward_models"):
        kind("/nowhere/at-all.safetensors").prepare(["a cat"])


@pytest.mark.parametrize("name", ["activation", "fit"])
def test_a_choice_that_is_none(name):
    with pytest.raises(ValueError, match=f"expected {name} to be one of auto, .*, found 'relu'"):
        CLIPScore("a.safetensors", **{name: "relu"})
