"""ViPO's maps: what stands out among an image's patches, and that the rest learns nothing."""

from dataclasses import dataclass

import pytest
import torch
from groups import credit_of, path, plain_scores, scored_group
from reward_files_more import dinov2
from safetensors.torch import save_file

from mixgrpo_core.advantages import DinoPatches, PixelPatches, StructureCredit, WeightedAdvantages, structure_map
from mixgrpo_core.advantages.patches import PatchFeatures
from mixgrpo_core.models.pictures import maps_over_latents
from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.facts import RunFacts

FACTS = RunFacts(
    latent_shape=(1, 6, 6),
    trained_steps=(2,),
    rewards=("r",),
    masks={},
    images=3,
    leaves=(1,),
    shared_noise=True,
)


def features(seed=0, height=6, width=7, count=5):
    return torch.randn(height, width, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blob(size=6):
    """Patches that are alike but for a square in the middle."""
    found = torch.zeros(size, size, 4, dtype=torch.float64)
    found[2:4, 2:4] = torch.tensor([3.0, -1, 2, 0], dtype=torch.float64)
    return found


def test_a_map_by_hand_of_one_component():
    """One direction of variance: the square itself, blurred by a Gaussian of one patch, and scaled."""
    found, square = structure_map(blob()), torch.zeros(14, 14, dtype=torch.float64)
    square[6:8, 6:8] = 1
    distance = torch.arange(14, dtype=torch.float64)
    kernel = (-0.5 * (distance[:, None] - distance) ** 2).exp() * ((distance[:, None] - distance).abs() <= 4)
    blurred = (kernel @ square @ kernel)[4:10, 4:10]
    torch.testing.assert_close(found, (blurred - blurred.min()) / (blurred.max() - blurred.min()))


def test_what_stands_out_is_bright_whatever_the_sign_of_the_features():
    for sign in (1, -1):
        found = structure_map(sign * blob())
        assert found[2:4, 2:4].min() > 0.8
        assert found[0].max() < 0.3


def test_scale_shift_and_rotation_of_the_features_do_not_matter():
    found, (rotation, _) = structure_map(features()), torch.linalg.qr(features(1, 5, 5, 1)[..., 0])
    torch.testing.assert_close(structure_map(7 * features() @ rotation + 3), found, atol=1e-9, rtol=0)
    assert (found.min(), found.max()) == (0, 1)


def test_patches_that_are_all_alike_give_one():
    assert torch.equal(structure_map(torch.full((3, 4, 8), 0.1)), torch.ones(3, 4, dtype=torch.float64))
    assert structure_map(features(height=1, width=1)).tolist() == [[1]]
    assert structure_map(features(height=2, width=2)).isfinite().all(), "all border"


@dataclass(frozen=True)
class Given(PatchFeatures):
    """Patches that a test gives."""

    def patches(self, images):
        return torch.stack([blob(), features(2, 6, 6, 4), torch.zeros(6, 6, 4, dtype=torch.float64)])


def credit(stage, images):
    latents = list(torch.randn(3, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    group = scored_group(
        plain_scores(1, 2, 4),
        trajectory=path(latents, flow_sigmas(2)),
        places=lambda maps: maps_over_latents(maps, (1, 6, 6)),
    )
    (plain,), (found,) = (
        credit_of(WeightedAdvantages(), [group]),
        credit_of((WeightedAdvantages(), stage), [group], images),
    )
    return plain.values, found


def test_each_image_has_its_own_map_at_the_latent_s_places():
    plain, found = credit(StructureCredit(Given(), even=False), torch.zeros(3, 6, 6, 3))
    assert found.values.shape == (3, 2, 1, 6, 6)
    for member, patches in enumerate(Given().patches(None)):
        expected = plain[member] * structure_map(patches).float()
        torch.testing.assert_close(found.values[member, 1, 0], expected, atol=1e-5, rtol=1e-5)
    assert (found.values[0, 0] == 0).any(), "a place without structure gets exactly nothing"


def test_an_even_map_keeps_an_image_s_weight():
    plain, found = credit(StructureCredit(Given()), torch.zeros(3, 6, 6, 3))
    torch.testing.assert_close(found.values.mean((1, 2, 3, 4)), plain)
    assert 0 < found.figures["structure_mean"] < 1


def test_pixels_tell_a_thing_from_its_ground():
    images = torch.full((3, 48, 48, 3), 0.5)
    images[:, 16:32, 16:32] = torch.tensor([1.0, 0, 0])
    found = structure_map(PixelPatches(grid=12).patches(images)[0])
    assert found[4:8, 4:8].mean() > 3 * found[0].mean()
    assert PixelPatches().patches(torch.rand(2, 4, 8, 3)).shape == (2, 4, 8, 8), "no more patches than pixels"
    tall = PixelPatches(grid=4).patches(torch.rand(1, 64, 32, 3, dtype=torch.float64))
    assert tall.shape == (1, 8, 4, 8)


def test_dinov2_gives_the_patches_and_is_looked_for_before_the_run(tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in dinov2().items()}, tmp_path / "a.safetensors")
    stage = StructureCredit(DinoPatches(str(tmp_path / "a.safetensors"), place=Resident("cpu")))
    stage.check(FACTS)
    _, found = credit(stage, torch.rand(3, 48, 48, 3, generator=torch.Generator().manual_seed(0)))
    assert found.values.isfinite().all()
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        StructureCredit(DinoPatches(str(tmp_path / "nothing.safetensors"))).check(FACTS)


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="grid must be 1 or more"):
        PixelPatches(grid=0)
    with pytest.raises(ValueError, match="features must be those of patches"):
        StructureCredit("dino")
