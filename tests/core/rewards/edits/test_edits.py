"""What an edit leaves alone, against NumPy and SciPy; what it does, against transformers' own CLIP."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from reward_files import clip, clip_config, vision_only, write, write_folder
from scipy.ndimage import gaussian_filter
from toy import ToyModel

from mixgrpo_core import TrainConfig
from mixgrpo_core.rewards.clip.tokenizer import tokens
from mixgrpo_core.rewards.edits.direction import DirectionalCLIP
from mixgrpo_core.rewards.edits.preservation import PSNR, SSIM, EditPreservation
from mixgrpo_core.rewards.embedders.dino import DinoV2
from mixgrpo_core.rewards.embedders.similarity import ImageSimilarity
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.networks.reference_picture import Picture, Pixels
from mixgrpo_core.rewards.networks.weight_files import WeightsError
from mixgrpo_core.rewards.pixels.measures import Brightness, PixelReward
from mixgrpo_core.rewards.port import Context, RewardBatch
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.rewards.wrappers.gates import Gated
from mixgrpo_core.rewards.wrappers.transforms import Rank, Transformed
from mixgrpo_core.support.spelling import parse, spell
from mixgrpo_core.training.preflight import check

MEASURES = (PSNR(), SSIM())


def images(count=3, height=20, width=24, seed=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(pictures, prompt="", **context):
    return RewardBatch(images=pictures, prompts=(prompt,) * len(pictures), context=Context(**context))


def near(source, count=3, strength=0.05):
    """Pictures a little off from ``source``."""
    noise = torch.Generator().manual_seed(7)
    steps = strength * torch.arange(1, count + 1, dtype=source.dtype).view(-1, 1, 1, 1)
    return (source + steps * torch.randn(count, *source.shape, generator=noise, dtype=source.dtype)).clamp(0, 1)


def ssim_of_scipy(one, other):
    """``[H, W]`` of one channel: the index at every pixel that has a whole window."""
    blurred = lambda x: gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]  # noqa: E731
    x, y = one.numpy(), other.numpy()
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred((x) ** 2) - mean_x**2, blurred(y**2) - mean_y**2
    cov = blurred(x * y) - mean_x * mean_y
    c1, c2 = 1e-4, 9e-4
    return (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def test_ssim_equals_scipys_windows():
    source, pictures = images(1)[0], near(images(1)[0])
    found = EditPreservation(SSIM(), Pixels(source))
    source = Pixels(source).image.double()
    expected = [np.mean([ssim_of_scipy(p[..., c], source[..., c]) for c in range(3)]) for p in pictures]
    assert found(batch(pictures)).values.tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[0] > expected[1] > expected[2]


def test_windows_that_touch_the_mask_do_not_count():
    """A hole of 3 x 4 pixels takes 13 x 14 windows with it; what is in it makes no difference."""
    source = images(1)[0]
    mask = torch.zeros(20, 24)
    mask[2:5, 18:22] = 1
    pictures = near(source)
    maps = [[ssim_of_scipy(p[..., c], source[..., c]) for c in range(3)] for p in pictures]
    clear = np.ones((10, 14), bool)
    clear[:5, 8:] = False  # windows of rows 0 to 4 and columns 8 to 13 reach into the hole
    expected = [np.mean([channel[clear] for channel in one]) for one in maps]
    found = EditPreservation(SSIM())(batch(pictures, reference=source, mask=mask)).values
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    pictures[:, 2:5, 18:22] = 0.123
    again = EditPreservation(SSIM())(batch(pictures, reference=source, mask=mask)).values
    assert again.tolist() == pytest.approx(expected, abs=1e-5)


def test_psnr_is_decibels_of_the_difference_outside_the_mask():
    source = torch.full((8, 10, 3), 0.5)
    picture = source.clone()
    picture[..., 0] += 0.1  # one channel of three everywhere: a mean square of .01 / 3
    mask = torch.zeros(8, 10)
    mask[:, 5:] = 1
    picture[:, 5:] = 0.0
    found = EditPreservation(PSNR())(batch(picture[None], reference=source, mask=mask)).values.item()
    assert found == pytest.approx(10 * math.log10(300), abs=1e-4)
    half = torch.full((8, 10), 0.5)  # a grey mask weighs all alike
    whole = EditPreservation(PSNR())(batch(picture[None], reference=source, mask=half)).values.item()
    assert whole == pytest.approx(-10 * math.log10((0.01 / 3 + (0.25)) / 2), abs=1e-4)


@pytest.mark.parametrize("measure, most", [(PSNR(), 60.0), (SSIM(), 1.0), (PSNR(most=45.0), 45.0)])
def test_a_copy_is_the_best(measure, most):
    source = images(1)[0]
    found = EditPreservation(measure)(batch(torch.stack((source, near(source)[0])), reference=source)).values
    assert found[0].item() == pytest.approx(most) and found[1] < found[0]


@pytest.mark.parametrize("measure", MEASURES)
def test_gradients_against_finite_differences(measure):
    source = images(1, 13, 14)[0]
    mask = torch.zeros(13, 14, dtype=torch.float64)
    mask[:2, :2] = 1
    pictures = near(source, 2).clamp(0.01, 0.99).requires_grad_(True)
    reward = EditPreservation(measure)
    function = lambda x: reward.values(batch(x, reference=source, mask=mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (pictures,))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_batch_is_a_loop_and_order_does_not_matter(measure):
    source, pictures = images(1)[0], near(images(1)[0], 4)
    reward = EditPreservation(measure)
    whole = reward(batch(pictures, reference=source)).values
    one_by_one = torch.cat([reward(batch(picture[None], reference=source)).values for picture in pictures])
    torch.testing.assert_close(whole, one_by_one, atol=1e-6, rtol=0)
    torch.testing.assert_close(reward(batch(pictures.flip(0), reference=source)).values.flip(0), whole)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_source_of_another_size_is_fitted(measure):
    """An image made at half the size compares with the source as if that had been shrunk."""
    small = torch.linspace(0, 1, 16).view(16, 1, 1).expand(16, 16, 3).contiguous()
    large = torch.linspace(-1 / 60, 1 + 1 / 60, 32).clamp(0, 1).view(32, 1, 1).expand(32, 32, 3).contiguous()
    found = EditPreservation(measure)(batch(small[None], reference=large)).values.item()
    assert found > (35 if isinstance(measure, PSNR) else 0.99)


def test_files_of_the_source_and_the_mask(tmp_path):
    source = (255 * images(1)[0]).round() / 255
    mask = torch.zeros(20, 24, 3)
    mask[:, :12] = 1
    for name, pixels in (("source.png", source), ("mask.png", mask)):
        Image.fromarray((255 * pixels).round().to(torch.uint8).numpy()).save(tmp_path / name)
    picture = source.clone()
    picture[:, :12] = 0
    source_file, mask_file = Picture(str(tmp_path / "source.png")), Picture(str(tmp_path / "mask.png"))
    given = EditPreservation(PSNR(), source_file, mask_file)
    given.prepare([])
    assert given(batch(picture[None])).values.item() == pytest.approx(60)
    assert EditPreservation(PSNR(), source_file)(batch(picture[None])).values.item() < 12
    classes = {cls.__name__: cls for cls in (EditPreservation, PSNR, SSIM, Picture)}
    assert parse(spell(given), classes) == given
    with pytest.raises(ValueError, match="found nothing"):
        EditPreservation(SSIM(), Picture(str(tmp_path / "none.png"))).prepare([])


@pytest.mark.parametrize(
    "measure, pictures, context, words",
    [
        (SSIM(), images(2), {}, "expected a reference picture"),
        (SSIM(), images(2), {"reference": images(1)[0], "mask": torch.ones(20, 24)}, "covers the whole picture"),
        (PSNR(), images(2), {"reference": images(1)[0], "mask": torch.ones(20, 24)}, "covers the whole picture"),
        (SSIM(), images(2, 1, 1), {"reference": images(1)[0]}, "at least 11 x 11 pixels"),
    ],
)
def test_what_cannot_be_compared_is_masked_and_said(measure, pictures, context, words):
    scores, failures = score({"it": EditPreservation(measure)}, batch(pictures, **context))
    assert not scores["it"].valid.any() and words in failures[0].reason


def test_psnr_of_one_pixel():
    source = torch.full((1, 1, 3), 0.5)
    assert EditPreservation(PSNR())(batch(source[None] + 0.1, reference=source)).values.item() == pytest.approx(20)


SOURCE_PROMPT, PROMPT = "a photo of a cat", "a photo of a dog, on the moon"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("clip") / "it", clip(), clip_config())


def eight_bits(pictures):
    return (255 * pictures).round().float() / 255


def directional(folder, reference=None, **settings):
    return DirectionalCLIP(str(folder), SOURCE_PROMPT, reference, place=Resident("cpu"), **settings)


def test_the_direction_equals_that_of_transformers_own_clip(folder):
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    pictures = eight_bits(images(3, 28, 28))
    source = eight_bits(images(1, 28, 28, seed=2))
    text = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True)
    vision = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True)
    unit = lambda x: (x / x.norm(dim=1, keepdim=True)).double()  # noqa: E731
    with torch.no_grad():
        before, after = unit(text(input_ids=tokens([SOURCE_PROMPT, PROMPT], 77)).text_embeds)
        pixels = (torch.cat((source, pictures)).movedim(-1, 1) - MEAN) / STD
        first, *others = unit(vision(pixel_values=pixels).image_embeds)
    said = after - before
    expected = [((i - first) @ said / (i - first).norm() / said.norm()).item() for i in others]
    assert directional(folder, Pixels(source))(batch(pictures, PROMPT)).values.tolist() == pytest.approx(
        expected, abs=1e-5
    )
    found = directional(folder)(batch(pictures, PROMPT, reference=source[0])).values
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_source_that_did_not_change_has_0_and_a_gradient(folder):
    source = eight_bits(images(1, 28, 28))
    pictures = source.clone().requires_grad_(True)
    value = directional(folder, Pixels(source)).values(batch(pictures, PROMPT))
    value.sum().backward()
    assert value.item() == pytest.approx(0, abs=1e-3) and pictures.grad.isfinite().all()


def test_a_prompt_that_says_nothing_new_is_masked(folder):
    pictures = images(3, 28, 28)
    prompts = (PROMPT, f" {SOURCE_PROMPT} ", " ")
    found = directional(folder, Pixels(images(1, 8, 8)))(RewardBatch(images=pictures, prompts=prompts))
    assert found.valid.tolist() == [True, False, False] and "source" in found.note
    long = directional(folder, Pixels(images(1, 8, 8)))(batch(pictures, "word " * 4000))
    assert long.valid.all()
    with pytest.raises(ValueError, match="found an empty one"):
        DirectionalCLIP("a", " ")


def test_directions_of_a_batch_are_those_of_a_loop(folder):
    pictures, source = images(4, 40, 30), Pixels(images(1, 30, 40, seed=3))
    whole = directional(folder, source, batch=4)(batch(pictures, PROMPT)).values
    looped = directional(folder, source, batch=1)(batch(pictures.flip(0), PROMPT)).values.flip(0)
    torch.testing.assert_close(whole, looped, atol=1e-5, rtol=0)


def test_the_gradient_points_where_the_prompt_says(folder):
    reward = directional(folder, Pixels(images(1, 28, 28, seed=3)))
    pictures = images(2, 28, 28).float().requires_grad_(True)
    before = reward.values(batch(pictures, PROMPT))
    before.sum().backward()
    better = (pictures + 0.05 * pictures.grad / pictures.grad.abs().amax()).clamp(0, 1).detach()
    assert (reward.values(batch(better, PROMPT)) > before).all()


def test_files_that_will_not_do_are_refused_before_work_starts(folder, tmp_path):
    with pytest.raises(WeightsError, match="openai/clip-vit-large-patch14"):
        directional(tmp_path / "none").prepare([PROMPT])
    half = write(tmp_path / "vision.safetensors", vision_only(clip()))
    with pytest.raises(WeightsError, match="text tower"):
        directional(half).prepare([PROMPT])
    with pytest.raises(ValueError, match="found nothing"):
        directional(folder, Picture(str(tmp_path / "none.png"))).prepare([PROMPT])
    assert directional(tmp_path / "none").about.memory == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda picture: EditPreservation(PSNR(), picture),
        lambda picture: ImageSimilarity(DinoV2("dinov2-base"), picture),
        lambda picture: DirectionalCLIP("clip.safetensors", "a cat", picture),
        lambda picture: Gated(PixelReward(Brightness()), by=EditPreservation(SSIM(), picture), least=0.5),
        lambda picture: Transformed(EditPreservation(PSNR(), picture), Rank()),
    ],
)
def test_a_training_without_a_picture_to_compare_with_is_refused_before_it_starts(make):
    check(ToyModel(), ["dark"], {"edit": make(Picture("source.png"))}, TrainConfig(), ["light"])
    with pytest.raises(ValueError, match="'edit' compares images with a reference picture"):
        check(ToyModel(), ["dark"], {"edit": make(None)}, TrainConfig(), ["light"])
