"""The shipped demo model: small, loadable, clean, and only about half obedient (the room for learning)."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from mixgrpo_core.models.families.caption_encoder import TOKENS, CaptionEncoder
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from mixgrpo_core.shapes.captions import all_captions, split_captions
from mixgrpo_core.shapes.drawing import draw

ASSETS = Path(__file__).resolve().parents[4] / "mixgrpo_core" / "assets" / "demo"
MEGABYTES = 16

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny.from_pretrained(ASSETS / "vae", torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def encoder() -> CaptionEncoder:
    return CaptionEncoder.load(ASSETS / "caption_encoder.safetensors")


def decoded(autoencoder: AutoencoderTiny, latents: Tensor) -> Tensor:
    parts = [autoencoder.decode(part).sample for part in latents.split(64)]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
@torch.no_grad()
def samples(autoencoder: AutoencoderTiny, encoder: CaptionEncoder) -> RewardBatch:
    """Eight plain Euler samples of each of 16 held-out captions: 25 steps, shift 3, fixed noise."""
    transformer = SD3Transformer2DModel.from_pretrained(ASSETS / "transformer", torch_dtype=torch.float32).eval()
    prompts = tuple(str(caption) for caption in split_captions()[1][::2] * 8)
    tokens, pooled = encoder(prompts)
    latents = torch.randn(len(prompts), 16, 8, 8, generator=torch.Generator().manual_seed(0))
    u = torch.linspace(1, 0, 26)
    sigmas = 3 * u / (1 + 2 * u)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        timestep = (1000 * sigma).expand(len(prompts))
        velocity = transformer(latents, tokens, pooled, timestep, return_dict=False)[0]
        latents = latents + (sigma_next - sigma) * velocity
    return RewardBatch(images=decoded(autoencoder, latents), prompts=prompts)


def test_the_files_are_small_half_precision_and_none_is_missing() -> None:
    files = {path.relative_to(ASSETS).as_posix(): path for path in ASSETS.rglob("*") if path.is_file()}
    assert set(files) == {
        "caption_encoder.safetensors",
        "scheduler/scheduler_config.json",
        "training.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert sum(path.stat().st_size for path in files.values()) <= MEGABYTES * 2**20
    for path in files.values():
        if path.suffix == ".safetensors":
            assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}, path
    assert FlowMatchEulerDiscreteScheduler.from_pretrained(ASSETS / "scheduler").config.shift == 3.0


def test_drawings_survive_the_autoencoder(autoencoder: AutoencoderTiny) -> None:
    captions = all_captions()[::3]  # each word in its turn: 3 divides none of their numbers
    generator = np.random.default_rng(123)
    drawings = torch.from_numpy(np.stack([draw(caption, generator) for caption in captions])).float() / 255
    with torch.no_grad():
        latents = autoencoder.encode(drawings.permute(0, 3, 1, 2) * 2 - 1).latents
        images = decoded(autoencoder, latents)
    batch = RewardBatch(images=images, prompts=tuple(map(str, captions)))
    assert ShapeCleanliness()(batch).values.mean() >= 0.97
    assert ShapeAdherence()(batch).values.mean() >= 0.97
    assert latents.std().item() == pytest.approx(1, abs=0.05)
    assert (images - drawings).square().mean() < 1e-3  # 30 dB


def test_samples_are_clean_and_half_of_them_are_as_asked(samples: RewardBatch) -> None:
    assert ShapeCleanliness()(samples).values.mean() >= 0.90
    assert 0.40 <= ShapeAdherence()(samples).values.mean() <= 0.70


def test_the_reward_differs_within_most_groups(samples: RewardBatch) -> None:
    """Without a spread between the samples of one prompt there is nothing to learn from."""
    groups = ShapeReward()(samples).values.view(8, 16)
    assert (groups.std(0) > 0.05).float().mean() > 0.9


def test_an_unknown_word_is_refused_with_the_known_ones(encoder: CaptionEncoder) -> None:
    with pytest.raises(ValueError, match="found 'pink'") as error:
        encoder(["a small pink circle on the left"])
    assert "yellow" in str(error.value)
    with pytest.raises(ValueError, match="at most 8 words, found 9"):
        encoder(["a a a a a a a a a"])


def test_caption_vectors(encoder: CaptionEncoder) -> None:
    tokens, pooled = encoder(["a small red circle on the left", "A  small red circle on the right", ""])
    assert tokens.shape == (3, TOKENS, encoder.width)
    assert pooled.shape == (3, encoder.width)
    assert torch.equal(tokens[0, :6], tokens[1, :6])
    assert not torch.equal(tokens[0, 6], tokens[1, 6])
    assert torch.equal(tokens[2], tokens[0, 7:].expand(TOKENS, -1))
    assert pooled[2].abs().max() == 0
    assert (pooled[0] - pooled[1]).norm() > 1


def test_the_encoder_comes_back_from_its_file(tmp_path: Path) -> None:
    fresh = CaptionEncoder.create(("red", "circle"), width=8, seed=5)
    fresh.save(tmp_path / "encoder.safetensors")
    again = CaptionEncoder.load(tmp_path / "encoder.safetensors")
    assert again.vocabulary == ("red", "circle")
    assert torch.equal(again.table, fresh.table)
    gram = fresh.table @ fresh.table.T
    torch.testing.assert_close(gram, 8 * torch.eye(3), atol=1e-4, rtol=0)


def test_a_file_without_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="metadata entry 'vocabulary'"):
        CaptionEncoder.load(ASSETS / "transformer" / "diffusion_pytorch_model.safetensors")


def test_a_vocabulary_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer words than the width 2"):
        CaptionEncoder.create(("red", "circle"), width=2)
    with pytest.raises(ValueError, match="3 in all, found 2 rows"):
        CaptionEncoder(("red", "circle"), torch.eye(2))
