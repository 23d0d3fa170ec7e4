"""ImageReward against a second forward pass, written from the papers and the names in the file."""

import math

import pytest
import torch
from reward_files_more import TOKENS, WORDS, image_reward, write_vocabulary
from safetensors.torch import save_file
from torch.nn.functional import gelu, layer_norm

from mixgrpo_core.rewards.image_reward import ImageReward
from mixgrpo_core.rewards.networks.places import Offloaded, Released, Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.scoring import score

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)
SENTENCE, IDS = "A red Circles, on blue", ("[CLS]", "a", "red", "circle", "##s", ",", "on", "blue", "[SEP]")


def attended(query, key, value):
    """Attention of ``[L, D]`` with 64 numbers a head."""
    heads = []
    for start in range(0, query.shape[1], 64):
        q, k, v = (x[:, start : start + 64] for x in (query, key, value))
        heads.append(torch.softmax(q @ k.T / 8, dim=1) @ v)
    return torch.cat(heads, dim=1)


class Reference:
    """One image, one prompt without padding, in float64."""

    def __init__(self, tensors):
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def linear(self, x, name):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, x, name, epsilon):
        return layer_norm(x, x.shape[-1:], self.tensors[name + ".weight"], self.tensors[name + ".bias"], epsilon)

    def image_tokens(self, image):
        """``[3, side, side]`` to ``[1 + patches, width]``."""
        name = "blip.visual_encoder."
        kernel = self.tensors[name + "patch_embed.proj.weight"]
        patch, side = kernel.shape[-1], image.shape[-1]
        rows = [
            image[:, top : top + patch, left : left + patch].flatten() @ kernel.flatten(1).T
            for top in range(0, side, patch)
            for left in range(0, side, patch)
        ]
        patches = torch.stack(rows) + self.tensors[name + "patch_embed.proj.bias"]
        x = torch.cat((self.tensors[name + "cls_token"][0], patches)) + self.tensors[name + "pos_embed"][0]
        for layer in range(2):
            block = f"{name}blocks.{layer}."
            mixed = self.linear(self.norm(x, block + "norm1", 1e-6), block + "attn.qkv")
            x = x + self.linear(attended(*mixed.chunk(3, dim=1)), block + "attn.proj")
            hidden = gelu(self.linear(self.norm(x, block + "norm2", 1e-6), block + "mlp.fc1"))
            x = x + self.linear(hidden, block + "mlp.fc2")
        return self.norm(x, name + "norm", 1e-6)

    def reads(self, x, seen, name):
        """Attention of BERT from ``x`` to ``seen``."""
        mixed = attended(
            *(self.linear(s, f"{name}.self.{w}") for s, w in ((x, "query"), (seen, "key"), (seen, "value")))
        )
        return self.norm(x + self.linear(mixed, name + ".output.dense"), name + ".output.LayerNorm", 1e-12)

    def __call__(self, image, ids):
        seen = self.image_tokens((image.double().movedim(-1, 0) - MEAN[:, None, None]) / STD[:, None, None])
        name = "blip.text_encoder."
        words = self.tensors[name + "embeddings.word_embeddings.weight"][list(ids)]
        places = self.tensors[name + "embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(words + places, name + "embeddings.LayerNorm", 1e-12)
        for layer in range(2):
            block = f"{name}encoder.layer.{layer}."
            x = self.reads(x, x, block + "attention")
            x = self.reads(x, seen, block + "crossattention")
            hidden = self.linear(gelu(self.linear(x, block + "intermediate.dense")), block + "output.dense")
            x = self.norm(x + hidden, block + "output.LayerNorm", 1e-12)
        x = x[0]
        for number in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{number}")
        return (x.item() - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture
def tensors():
    return image_reward()


@pytest.fixture
def folder(tmp_path, tensors):
    """With ImageReward.pt and vocab.txt."""
    torch.save(tensors, tmp_path / "ImageReward.pt")
    write_vocabulary(tmp_path)
    return tmp_path


@pytest.fixture
def reward(folder):
    return ImageReward(file=str(folder / "ImageReward.pt"), place=Resident("cpu"))


def images(count=3, height=32, width=32, seed=1):
    """Of 256 steps, as picture files have them."""
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed)) / 255


def batch(pictures, *prompts):
    return RewardBatch(images=pictures, prompts=prompts if len(prompts) > 1 else prompts * len(pictures))


def test_scores_equal_the_second_forward_pass(reward, tensors):
    pictures = images()
    expected = torch.tensor([Reference(tensors)(image, [TOKENS[word] for word in IDS]) for image in pictures])
    found = reward(batch(pictures, SENTENCE))
    assert found.valid.all() and found.note == ""
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=0)
    assert expected.std() > 1e-3  # the images make a difference, without which much would be proven about nothing


def test_the_middle_begins_where_torchvision_rounds_to(reward, tensors):
    """A margin of 1.5 columns: half to even makes 2, where others cut 1."""
    wide, tall = images(1, 32, 35), images(1, 35, 32)
    ids = [TOKENS[word] for word in IDS]
    expected = [Reference(tensors)(wide[0, :, 2:34], ids), Reference(tensors)(tall[0, 2:34], ids)]
    found = [reward(batch(picture, SENTENCE)).values.item() for picture in (wide, tall)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_every_format_gives_the_same_scores(reward, tensors, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "b.pth")
    expected = reward(batch(images(), SENTENCE)).values
    for name in ("a.safetensors", "b.pth"):
        other = ImageReward(file=str(tmp_path / name), place=Resident("cpu"))
        assert torch.equal(other(batch(images(), SENTENCE)).values, expected)


@pytest.mark.parametrize("part", ["cls_token", "attn.proj.bias", "crossattention.self.key", "position_emb", "layers.6"])
def test_every_part_of_the_file_matters(reward, tensors, folder, part):
    expected = reward(batch(images(1), SENTENCE)).values
    noise = torch.Generator().manual_seed(3)
    changed = {
        name: tensor + 0.3 * tensor.std() * torch.randn(tensor.shape, generator=noise) if part in name else tensor
        for name, tensor in tensors.items()
    }
    changed["blip.vision_proj.weight"] = torch.zeros(8, 192)  # but for those that only BLIP's other uses need
    torch.save(changed, folder / "changed.pt")
    other = ImageReward(file=str(folder / "changed.pt"), place=Resident("cpu"))
    assert (other(batch(images(1), SENTENCE)).values - expected).abs() > 1e-4


def test_a_batch_is_a_loop_and_order_does_not_matter(folder):
    prompts = ("a red circle", "blue", "a, a, a, red on red on blue", "circles", "cafe")
    pictures = images(5, 40, 33)
    scores = {
        size: ImageReward(file=str(folder / "ImageReward.pt"), place=Resident("cpu"), batch=size)(
            batch(pictures, *prompts)
        ).values
        for size in (1, 2, 5)
    }
    torch.testing.assert_close(scores[5], scores[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[5], scores[2], atol=1e-5, rtol=0)
    reward = ImageReward(file=str(folder / "ImageReward.pt"), place=Resident("cpu"))
    torch.testing.assert_close(
        reward(batch(pictures.flip(0), *prompts[::-1])).values.flip(0), scores[5], atol=1e-5, rtol=0
    )


def test_prompts_of_any_length(reward):
    """What comes after 35 tokens is not read; an empty prompt is masked, alone."""
    pictures = images(1).repeat(4, 1, 1, 1)
    long = " ".join(["red"] * 33)
    found = reward(batch(pictures, long, long + " blue" * 4000, " ", "red"))
    assert found.values[0].item() == pytest.approx(found.values[1].item(), abs=1e-5)
    assert (found.values[0] - found.values[3]).abs() > 1e-3
    assert found.valid.tolist() == [True, True, False, True] and "empty" in found.note


def test_words_are_read_as_bert_reads_them(reward):
    """Case and accents are dropped; unknown words are one token, whatever they are."""
    pictures = images(1).repeat(2, 1, 1, 1)
    for one, other in (("CAFÉ red", "cafe red"), ("a xyz", "a unheard"), ("a\tred\n circle", "a red circle")):
        assert reward(batch(pictures, one, other)).values.diff().abs() < 1e-5
    assert reward(batch(pictures, "a red", "red a")).values.diff().abs() > 1e-3


@pytest.mark.parametrize("place", [Resident("cpu"), Offloaded("cpu"), Released("cpu")])
def test_half_precision_is_for_the_image_encoder_alone(reward, place):
    exact = reward(batch(images(), SENTENCE)).values
    half = ImageReward(file=reward.file, precision="bfloat16", place=place)
    found = half(batch(images(), SENTENCE)).values
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.1
    assert half.about.memory < reward.about.memory
    with half._tower.at_place() as network:
        dtypes = [next(part.parameters()).dtype for part in (network.vision, network.text, network.head)]
        used = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32]
    assert used <= half.about.memory < used * 1.2, "the file holds two projections that nothing uses"


def test_gradients_against_finite_differences(reward):
    """In float64, on the network itself: the way to its pixels is tested elsewhere."""
    reward.prepare([])
    with reward._tower.at_place() as network:
        network = network.double()
        pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        tokens, mask = reward._tokenizer(["a red circle", "blue"])
        direction = torch.randn(pixels.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        pixels.requires_grad_(True)
        network(pixels, tokens, mask).sum().backward()
        step = 1e-4
        ahead, behind = (network(pixels + sign * step * direction, tokens, mask).sum() for sign in (1, -1))
        slope = ((ahead - behind) / (2 * step)).item()
    assert slope == pytest.approx((pixels.grad * direction).sum().item(), rel=1e-6)


def test_the_gradient_reaches_the_image(reward):
    pictures = images(2, 48, 40).requires_grad_(True)
    reward.values(batch(pictures, "a red circle")).sum().backward()
    assert pictures.grad.isfinite().all() and (pictures.grad.abs().sum((1, 2, 3)) > 0).all()


def test_a_picture_of_one_pixel(reward):
    found = reward(batch(torch.full((1, 1, 1, 3), 0.5), "red"))
    flat = reward(batch(torch.full((1, 32, 32, 3), 128 / 255), "red"))
    assert found.values.item() == pytest.approx(flat.values.item(), abs=1e-4)


def test_pixels_that_are_no_numbers_mask_their_sample_only(reward):
    pictures = images(2)
    pictures[0, 3, 3, 1] = math.nan
    scores, _ = score({"it": reward}, batch(pictures, "red"))
    assert scores["it"].valid.tolist() == [False, True]


def broken(tensors, how):
    tensors = dict(tensors)
    if how == "a tensor is missing":
        del tensors["blip.visual_encoder.blocks.1.attn.proj.bias"]
    elif how == "one is too many":
        tensors["blip.text_encoder.pooler.dense.weight"] = torch.zeros(2, 2)
    elif how == "unknown name":
        tensors["other.weight"] = torch.zeros(2)
    elif how == "no head":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("mlp.")}
    elif how == "a layer of the head has another size":
        tensors["mlp.layers.4.weight"] = torch.zeros(8, 5)
    elif how == "another shape":
        tensors["blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"] = torch.zeros(128, 64)
    elif how == "a layer is missing":
        tensors = {name: tensor for name, tensor in tensors.items() if "encoder.layer.0.output" not in name}
    else:
        tensors = {"visual.conv1.weight": torch.zeros(4, 3, 2, 2)}
    return tensors


@pytest.mark.parametrize(
    "how",
    [
        *("a tensor is missing", "one is too many", "unknown name", "no head", "a layer of the head has another size"),
        *("another shape", "a layer is missing", "another network"),
    ],
)
def test_a_file_of_something_else_is_refused_before_work_starts(tensors, folder, how):
    torch.save(broken(tensors, how), folder / "wrong.pt")
    with pytest.raises(WeightsError, match=r"wrong\.pt"):
        ImageReward(file=str(folder / "wrong.pt"), place=Resident("cpu")).prepare(["a"])


def test_what_is_missing_is_named_with_where_it_comes_from(folder, tensors, tmp_path):
    reward = ImageReward(file=str(tmp_path / "none.pt"))
    with pytest.raises(WeightsError, match=r"ImageReward\.pt from THUDM/ImageReward, 1\.79 GB"):
        reward.prepare([])
    (folder / "vocab.txt").unlink()
    with pytest.raises(WeightsError, match=r"vocab\.txt from google-bert"):
        ImageReward(file=str(folder / "ImageReward.pt"), place=Resident("cpu")).prepare([])


def test_the_vocabulary_may_lie_elsewhere_and_must_fit(folder, tmp_path, reward):
    other = tmp_path / "other"
    other.mkdir()
    moved = (folder / "vocab.txt").rename(other / "words.txt")
    there = ImageReward(file=reward.file, vocabulary=str(moved), place=Resident("cpu"))
    assert there(batch(images(1), "red")).valid.all()
    moved.write_text("\n".join(WORDS[:-1]))
    with pytest.raises(WeightsError, match=f"{len(WORDS)} words .* found {len(WORDS) - 1}"):
        ImageReward(file=reward.file, vocabulary=str(moved), place=Resident("cpu")).prepare([])


def test_what_does_not_change_scores_does_not_name_the_reward(reward):
    assert repr(reward) == repr(ImageReward(file=reward.file, batch=3))
    assert reward.about.differentiable and "Apache" in reward.about.licence
