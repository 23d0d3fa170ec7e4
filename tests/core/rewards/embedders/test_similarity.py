"""Similarity to a picture: DINOv2 against a second forward pass, CLIP-I against transformers' own image tower."""

import numpy as np
import pytest
import torch
from PIL import Image
from reward_files_more import clip_vision, dinov2
from safetensors.torch import save_file
from torch.nn.functional import gelu, interpolate, layer_norm, silu

from mixgrpo_core.rewards.embedders.dino import DinoV2
from mixgrpo_core.rewards.embedders.similarity import ClipImages, ImageSimilarity
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.reference_picture import Picture, Pixels
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.port import Context, RewardBatch
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.support.spelling import parse, spell

IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[..., None, None]
CLIP = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])[..., None, None]


def dino_reference(tensors, image):
    """The tokens of one image ``[3, 224, 224]``, normalised already, in float64: its class, then its patches."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    linear = lambda x, name: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]  # noqa: E731
    norm = lambda x, name: layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)  # noqa: E731
    kernel = t["embeddings.patch_embeddings.projection.weight"]
    patch = kernel.shape[-1]
    steps = range(0, image.shape[-1], patch)
    patches = torch.stack([image[:, y : y + patch, x : x + patch].flatten() for y in steps for x in steps])
    patches = patches @ kernel.flatten(1).T + t["embeddings.patch_embeddings.projection.bias"]
    places = t["embeddings.position_embeddings"][0]
    side = round((len(places) - 1) ** 0.5)
    grid = places[1:].T.reshape(1, -1, side, side)
    grid = interpolate(grid, (len(steps), len(steps)), mode="bicubic", align_corners=False)[0].flatten(1).T
    x = torch.cat((t["embeddings.cls_token"][0] + places[:1], patches + grid))
    layers = 1 + max(int(name.split(".")[2]) for name in t if name.startswith("encoder"))
    for layer in range(layers):
        block = f"encoder.layer.{layer}"
        seen = norm(x, f"{block}.norm1")
        q, k, v = (linear(seen, f"{block}.attention.attention.{part}") for part in ("query", "key", "value"))
        mixed = [
            torch.softmax(q[:, s : s + 64] @ k[:, s : s + 64].T / 8, 1) @ v[:, s : s + 64]
            for s in range(0, x.shape[1], 64)
        ]
        out = linear(torch.cat(mixed, 1), f"{block}.attention.output.dense")
        x = x + out * t[f"{block}.layer_scale1.lambda1"]
        seen = norm(x, f"{block}.norm2")
        if f"{block}.mlp.weights_in.weight" in t:
            gate, up = linear(seen, f"{block}.mlp.weights_in").chunk(2, 1)
            out = linear(silu(gate) * up, f"{block}.mlp.weights_out")
        else:
            out = linear(gelu(linear(seen, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        x = x + out * t[f"{block}.layer_scale2.lambda1"]
    return norm(x, "layernorm")


def cosine(one, other):
    return (one @ other / one.norm() / other.norm()).item()


def images(count=3, height=256, width=256, seed=1):
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed)) / 255


def batch(pictures, reference=None):
    return RewardBatch(
        images=pictures,
        prompts=("",) * len(pictures),
        context=Context(reference=None if reference is None else reference),
    )


def similarity(encoder, reference=None, size=16):
    return ImageSimilarity(encoder, reference, place=Resident("cpu"), batch=size)


def saved(tensors, path):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("mask_token", [False, True])
def test_dinov2_equals_the_second_forward_pass(tmp_path, swiglu, mask_token):
    tensors = dinov2(swiglu=swiglu, mask_token=mask_token)
    path = saved(tensors, tmp_path / "a.safetensors")
    pictures, reference = images(2), images(1, seed=2)[0]
    wanted, *found = (
        dino_reference(tensors, (p.double().movedim(-1, 0)[:, 16:240, 16:240] - IMAGENET[0]) / IMAGENET[1])[0]
        for p in (reference, *pictures)
    )
    scores = similarity(DinoV2(path))(batch(pictures, reference)).values
    assert scores.tolist() == pytest.approx([cosine(one, wanted) for one in found], abs=1e-5)
    assert (1 - scores).min() > 1e-3


def test_dinov2_at_its_own_size_needs_no_new_positions(tmp_path):
    tensors = dinov2(side=224)
    path = saved(tensors, tmp_path / "a.safetensors")
    scale = lambda p: (p.double().movedim(-1, 0)[:, 16:240, 16:240] - IMAGENET[0]) / IMAGENET[1]  # noqa: E731
    one, other = images(2)
    expected = cosine(dino_reference(tensors, scale(one))[0], dino_reference(tensors, scale(other))[0])
    assert similarity(DinoV2(path), Pixels(one))(batch(other[None])).values.item() == pytest.approx(expected, abs=1e-5)


def test_patches_of_dinov2_are_the_tokens_after_the_class(tmp_path):
    tensors = dinov2()
    tower = DinoV2(saved(tensors, tmp_path / "a.safetensors")).opened(precision="auto", place=Resident("cpu"), batch=1)
    pictures = images(2, 224, 224)
    expected = [
        dino_reference(tensors, (p.double().movedim(-1, 0) - IMAGENET[0]) / IMAGENET[1])[1:].view(16, 16, -1)
        for p in pictures
    ]
    torch.testing.assert_close(tower.patches(pictures).double(), torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert tower.patches(images(1, 448, 224)).shape[1:3] == (32, 16), "the whole picture, its sides as they are"


def test_clip_equals_the_cosine_of_transformers_own_tower(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tensors = clip_vision()
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, projection_dim=32, num_hidden_layers=2, num_attention_heads=1,
        image_size=28, patch_size=14, hidden_act="quick_gelu",
    )  # fmt: skip
    network = CLIPVisionModelWithProjection(config)
    network.load_state_dict(tensors)
    pictures, reference = images(3, 28, 31), images(1, 28, 31, seed=2)  # a margin of 3 columns: 2 left, 1 right
    with torch.no_grad():
        pixels = (torch.cat((reference, pictures)).movedim(-1, 1)[..., 2:30] - CLIP[0]) / CLIP[1]
        wanted, *found = network(pixel_values=pixels).image_embeds
    path = saved(tensors, tmp_path / "a.safetensors")
    reward = ImageSimilarity(ClipImages(path, activation="quick_gelu"), Pixels(reference), place=Resident("cpu"))
    assert reward(batch(pictures)).values.tolist() == pytest.approx([cosine(f, wanted) for f in found], abs=1e-5)


@pytest.fixture(params=["DINOv2", "CLIP"])
def encoder(request, tmp_path):
    if request.param == "DINOv2":
        return DinoV2(saved(dinov2(width=64, layers=1), tmp_path / "dino.safetensors"))
    return ClipImages(saved(clip_vision(), tmp_path / "clip.safetensors"))


def test_a_copy_is_1_and_others_are_less(encoder):
    pictures = images(3, 60, 44)
    scores = similarity(encoder, Pixels(pictures[1]))(batch(pictures)).values
    assert scores[1].item() == pytest.approx(1, abs=1e-6) and scores.argmax() == 1 and scores[0] < 0.9999


def test_a_batch_is_a_loop_and_order_does_not_matter(encoder):
    pictures, reference = images(5, 60, 44), Pixels(images(1, 33, 70, seed=4))
    scores = {size: similarity(encoder, reference, size)(batch(pictures)).values for size in (1, 2, 5)}
    torch.testing.assert_close(scores[5], scores[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(scores[5], scores[2], atol=1e-6, rtol=0)
    flipped = similarity(encoder, reference)(batch(pictures.flip(0))).values.flip(0)
    torch.testing.assert_close(flipped, scores[5], atol=1e-6, rtol=0)


def test_the_given_picture_comes_before_the_one_of_the_context(encoder):
    given, other, picture = images(3, 40, 40)
    both = similarity(encoder, Pixels(given))(batch(picture[None], other)).values
    assert torch.equal(both, similarity(encoder, Pixels(given))(batch(picture[None])).values)
    torch.testing.assert_close(both, similarity(encoder)(batch(picture[None], given)).values)
    assert not torch.equal(both, similarity(encoder)(batch(picture[None], other)).values)


def test_without_any_picture_the_samples_are_masked_and_it_is_said(encoder):
    scores, failures = score({"it": similarity(encoder)}, batch(images(2, 30, 30)))
    assert not scores["it"].valid.any() and "expected a reference picture" in failures[0].reason


def test_half_precision_is_near_and_ends_in_float32(encoder):
    pictures, reference = images(3, 40, 40), Pixels(images(1, 40, 40, seed=5))
    exact = similarity(encoder, reference)(batch(pictures)).values
    half = ImageSimilarity(encoder, reference, precision="bfloat16", place=Resident("cpu"))
    found = half(batch(pictures)).values
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.02
    assert half.about.memory == similarity(encoder).about.memory / 2


def test_gradients_against_finite_differences(encoder):
    """In float64 from pixels on: steps of 8 bits have no slope."""
    reward = similarity(encoder, Pixels(images(1, 30, 30, seed=5)))
    reward.prepare([])
    opened = reward._encoder
    network = opened.network if isinstance(encoder, DinoV2) else opened.tower.network
    with network.at(Resident("cpu")) as module:
        module.double()
        side = 28
        x = torch.randn(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        weigh = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

        def value(pixels):
            out = module(pixel_values=pixels)
            out = out.image_embeds if hasattr(out, "image_embeds") else out.last_hidden_state[:, 0]
            return (torch.nn.functional.normalize(out, dim=-1) @ weigh[: out.shape[1]]).sum()

        x.requires_grad_(True)
        value(x).backward()
        step = 1e-4
        slope = ((value(x + step * direction) - value(x - step * direction)) / (2 * step)).item()
    assert slope == pytest.approx((x.grad * direction).sum().item(), rel=1e-5)


def test_the_gradient_reaches_the_image_and_points_to_the_picture(encoder):
    reference = Pixels(images(1, 40, 40, seed=5))
    pictures = images(2, 40, 40).requires_grad_(True)
    reward = similarity(encoder, reference)
    before = reward.values(batch(pictures))
    before.sum().backward()
    assert pictures.grad.isfinite().all()
    better = (pictures + 0.05 * pictures.grad / pictures.grad.abs().amax()).clamp(0, 1).detach()
    assert (reward.values(batch(better)) > before).all()


def test_a_picture_of_one_pixel(encoder):
    reward = similarity(encoder, Pixels(images(1, 40, 40)))
    assert reward(batch(torch.full((1, 1, 1, 3), 0.5))).valid.all()


def broken(how, tmp_path):
    tensors = dinov2(width=64)
    path = tmp_path / "wrong.safetensors"
    if how == "missing":
        del tensors["encoder.layer.1.norm2.bias"]
    elif how == "too many":
        tensors["head.weight"] = torch.zeros(2, 2)
    elif how == "shape":
        tensors["layernorm.weight"] = torch.zeros(63)
    elif how == "another":
        tensors = {"visual.conv1.weight": torch.zeros(4, 3, 2, 2)}
    saved(tensors, path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    return str(path)


def test_a_missing_file_is_said_with_where_it_comes_from_and_does_not_keep_the_reward_from_being_described():
    for encoder, words in (
        (DinoV2("none"), "facebook/dinov2-base, 346.3 MB, licence Apache-2.0"),
        (
            ClipImages("none"),
            r"from openai/clip-vit-large-patch14, 1\.71 GB, licence MIT",
        ),
    ):
        with pytest.raises(WeightsError, match=words):
            similarity(encoder).prepare([])
        assert similarity(encoder).about.memory == 0


@pytest.mark.parametrize("how", ["missing", "too many", "shape", "another", "truncated"])
def test_another_file_is_refused_before_work_starts(tmp_path, how):
    with pytest.raises(WeightsError, match=r"wrong\.safetensors"):
        similarity(DinoV2(broken(how, tmp_path))).prepare([])


def test_a_folder_tells_its_sizes_and_another_kind_is_refused(tmp_path):
    tensors = dinov2(width=64)
    saved(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "dinov2", "num_attention_heads": 4}')
    reference, pictures = Pixels(images(1)), images(1, seed=3)
    four = similarity(DinoV2(str(tmp_path)), reference)(batch(pictures)).values
    one = similarity(DinoV2(str(tmp_path / "model.safetensors")), reference)(batch(pictures)).values
    assert four.isfinite().all() and (four - one).abs() > 1e-7
    (tmp_path / "config.json").write_text('{"model_type": "dinov3_vit"}')
    with pytest.raises(WeightsError, match="dinov3_vit"):
        similarity(DinoV2(str(tmp_path))).prepare([])


def test_a_picture_file_is_what_its_pixels_are(tmp_path):
    pixels = (images(1, 5, 7)[0] * 255).round().to(torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    assert torch.equal(Picture(str(tmp_path / "a.png")).image, pixels.float() / 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    Image.fromarray(pixels.numpy()).save(tmp_path / "b.png", exif=turned)
    assert torch.equal(Picture(str(tmp_path / "b.png")).image, pixels.float().rot90(-1) / 255)
    Image.fromarray(np.dstack((pixels.numpy(), np.full((5, 7), 90, np.uint8)))).save(tmp_path / "c.png")
    assert torch.equal(Picture(str(tmp_path / "c.png")).image, pixels.float() / 255)


def test_a_picture_that_is_none_is_said_before_work_starts(encoder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    for name, words in (("a.png", "cannot be read as a picture"), ("none.png", "found nothing")):
        with pytest.raises(ValueError, match=words):
            similarity(encoder, Picture(str(tmp_path / name))).prepare([])


def test_pixels_are_named_by_what_they_show():
    one, other = images(2, 8, 8)
    assert repr(Pixels(one)) == repr(Pixels(one[None].clone())) and Pixels(one) == Pixels(one)
    assert repr(Pixels(one)) != repr(Pixels(other)) and Pixels(one) != Pixels(other)
    assert repr(Pixels(one)) != repr(Pixels(one.reshape(4, 16, 3)))
    for wrong in (one[..., :2], images(2, 8, 8), torch.full((2, 2, 3), torch.nan)):
        with pytest.raises(ValueError, match="expected .* picture"):
            Pixels(wrong)


def test_it_is_written_into_a_config_file_and_read_again():
    reward = ImageSimilarity(DinoV2("models/dinov2-base"), Picture("cat.png"))
    classes = {cls.__name__: cls for cls in (ImageSimilarity, DinoV2, Picture, Resident)}
    assert parse(spell(reward), classes) == reward
    with pytest.raises(ValueError, match="cannot be written"):
        spell(ImageSimilarity(DinoV2("a"), Pixels(images(1, 8, 8))))
