"""Aesthetic predictors: heads of three layouts on transformers' own image towers."""

import pytest
import torch
from reward_files import siglip, siglip_config, write_folder
from reward_files_more import aesthetic_head, clip_vision
from safetensors.torch import save_file
from torch.nn.functional import normalize

from mixgrpo_core.rewards.embedders.aesthetic import AestheticScore
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import RewardBatch

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def images(count=3, height=28, width=28, seed=1):
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed)) / 255


def batch(pictures):
    return RewardBatch(images=pictures, prompts=("",) * len(pictures))


def applied(head, x, *, relu):
    """The layers of a head to embeddings ``[B, D]``, each of length 1 first."""
    x = x.double() / x.double().square().sum(1, keepdim=True).sqrt()
    numbers = sorted({int(name.split(".")[1]) for name in head})
    prefix = next(iter(head)).split(".")[0]
    for number in numbers:
        x = x @ head[f"{prefix}.{number}.weight"].double().T + head[f"{prefix}.{number}.bias"].double()
        x = x.clamp(min=0) if relu and number != numbers[-1] else x
    return x[:, 0].float()


def clip_embeddings(tensors, pictures):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 64, "intermediate_size": 256, "projection_dim": 32, "num_hidden_layers": 2}
    config = CLIPVisionConfig(**sizes, num_attention_heads=1, image_size=28, patch_size=14, hidden_act="gelu")
    network = CLIPVisionModelWithProjection(config)
    network.load_state_dict(tensors)
    with torch.no_grad():
        return network(pixel_values=(pictures.movedim(-1, 1) - MEAN) / STD).image_embeds


def predictor(folder, layout, tensors=None):
    """A reward with its files in ``folder``."""
    if layout == "2.5":
        network = write_folder(folder / "siglip", siglip(), siglip_config())
        head, name = aesthetic_head(layout, 64), "aesthetic_predictor_v2_5.pth"
    else:
        network = folder / "clip.safetensors"
        save_file(tensors or clip_vision(), network)
        head, name = aesthetic_head(layout, 32), f"sac+logos+ava1-l14-{layout}MSE.pth"
    torch.save(head, folder / name)
    return AestheticScore(head=str(folder / name), file=str(network), place=Resident("cpu"))


@pytest.mark.parametrize("layout", ["linear", "relu"])
def test_laions_head_on_clip(tmp_path, layout):
    """The middle of 28 x 31 begins at column 2, as torchvision rounds."""
    pictures = images(4, 28, 31)
    embeddings = clip_embeddings(clip_vision(), pictures[:, :, 2:30])
    expected = applied(aesthetic_head(layout, 32), embeddings, relu=layout == "relu")
    other = applied(aesthetic_head(layout, 32), embeddings, relu=layout != "relu")
    found = predictor(tmp_path, layout)(batch(pictures)).values
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (other - expected).abs().min() > 1e-3 and expected.std() > 1e-3


def test_version_2_5_on_siglip(tmp_path):
    """In bfloat16 in the file; the whole picture as a square, which 28 x 28 is already."""
    from transformers import SiglipModel

    reward, pictures = predictor(tmp_path, "2.5"), images(4)
    with torch.no_grad():
        network = SiglipModel.from_pretrained(tmp_path / "siglip", local_files_only=True)
        embeddings = network.vision_model(pixel_values=2 * pictures.movedim(-1, 1) - 1).pooler_output
    head = aesthetic_head("2.5", 64)
    assert head["scoring_head.8.weight"].dtype is torch.bfloat16
    torch.testing.assert_close(reward(batch(pictures)).values, applied(head, embeddings, relu=False), atol=1e-5, rtol=0)
    assert "AGPL" in reward.about.licence


@pytest.fixture(params=["linear", "relu", "2.5"])
def reward(request, tmp_path):
    return predictor(tmp_path, request.param)


def test_a_batch_is_a_loop_and_order_does_not_matter(reward):
    pictures = images(5, 40, 33)
    score = lambda size, some: AestheticScore(reward.head, reward.file, place=reward.place, batch=size)(batch(some))  # noqa: E731
    whole = score(5, pictures).values
    torch.testing.assert_close(score(1, pictures).values, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(score(2, pictures.flip(0)).values.flip(0), whole, atol=1e-5, rtol=0)


def test_half_precision_is_near_and_the_head_is_not_in_it(reward):
    exact = reward(batch(images())).values
    half = AestheticScore(reward.head, reward.file, precision="bfloat16", place=reward.place)
    found = half(batch(images())).values
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.1


def test_gradients_against_finite_differences(reward):
    reward.prepare([])
    head = reward._head.double()
    with reward._tower.at_place() as network:
        network.double()

        def value(pixels):
            out = network(pixel_values=pixels)
            return head(normalize(out.pooler_output if reward._layout.siglip else out.image_embeds, dim=-1)).sum()

        x = torch.randn(1, 3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x.requires_grad_(True)
        value(x).backward()
        slope = ((value(x + 1e-4 * direction) - value(x - 1e-4 * direction)) / 2e-4).item()
    assert slope == pytest.approx((x.grad * direction).sum().item(), rel=1e-4)


def test_the_gradient_reaches_the_image(reward):
    pictures = images(2, 40, 40).requires_grad_(True)
    reward.values(batch(pictures)).sum().backward()
    assert pictures.grad.isfinite().all() and (pictures.grad.abs().sum((1, 2, 3)) > 0).all()


def test_a_picture_of_one_pixel_and_no_prompt(reward):
    assert reward(batch(torch.full((1, 1, 1, 3), 0.5))).valid.all()


def spoiled(head, how):
    if how == "one layer less":
        return {name: tensor for name, tensor in head.items() if ".6." not in name}
    if how == "one layer more":
        return head | {"layers.9.weight": torch.zeros(1, 1)}
    if how == "layers that do not follow":
        return head | {"layers.4.weight": torch.zeros(8, 5)}
    if how == "two results":
        return head | {"layers.7.weight": torch.zeros(2, 4), "layers.7.bias": torch.zeros(2)}
    return {"visual.conv1.weight": torch.zeros(4, 3, 2, 2)}


@pytest.mark.parametrize(
    "how", ["one layer less", "one layer more", "layers that do not follow", "two results", "another network"]
)
def test_another_head_is_refused_before_work_starts(tmp_path, how):
    reward = predictor(tmp_path, "linear")
    torch.save(spoiled(aesthetic_head("linear", 32), how), reward.head)
    with pytest.raises(WeightsError, match="linearMSE"):
        reward.prepare([])


def test_a_head_on_the_wrong_network_is_refused_with_the_right_one(tmp_path):
    predictor(tmp_path, "linear")
    torch.save(aesthetic_head("linear", 24), tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="embeddings of 24 numbers.*have 32.*openai/clip-vit-large-patch14"):
        AestheticScore(str(tmp_path / "b.pth"), str(tmp_path / "clip.safetensors")).prepare([])
    torch.save(aesthetic_head("2.5", 64), tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="SigLIP"):
        AestheticScore(str(tmp_path / "c.pth"), str(tmp_path / "clip.safetensors")).prepare([])


def test_what_is_missing_is_named_with_where_it_comes_from(tmp_path):
    with pytest.raises(WeightsError, match=r"improved-aesthetic-predictor, 3\.7 MB, licence Apache.*AGPL"):
        AestheticScore("none", "none").prepare([])
    torch.save(aesthetic_head("linear", 768), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="openai/clip-vit-large-patch14"):
        AestheticScore(str(tmp_path / "a.pth"), "none").prepare([])
    assert AestheticScore("none", "none").about.memory == 0
