"""The uncertainty mask: where images of one latent came out differently."""

import pytest
import torch
from groups import credit_of, path, plain_scores, scored_group

from mixgrpo_core.advantages import UncertaintyCredit, WeightedAdvantages, place_uncertainty, top_share
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.facts import RunFacts

EVEN = UncertaintyCredit(inside=1, outside=1)


def test_the_spread_of_members_averaged_over_channels():
    final = torch.randn(5, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = place_uncertainty(final)
    assert found.shape == (1, 2, 4)
    by_hand = ((final - final.mean(0)) ** 2).mean(0).sqrt().mean(0)
    torch.testing.assert_close(found[0], by_hand)
    assert not place_uncertainty(final[:1]).any(), "one member is sure of all"
    assert not place_uncertainty(final[:1].expand(4, -1, -1, -1)).any()


@pytest.mark.parametrize(("count", "share", "kept"), [(10, 0.3, 3), (11, 0.3, 3), (2, 0.3, 1), (4, 1.0, 4)])
def test_how_many_places_are_uncertain(count, share, kept):
    values = torch.arange(count).float()
    assert top_share(values, share).nonzero()[:, 0].tolist() == list(range(count - kept, count))
    assert int(top_share(torch.ones(count), share).sum()) == kept, "equals do not make it more"


def group_of(final, shared=True):
    start = torch.zeros_like(final) if shared else torch.arange(len(final)).view(-1, 1, 1, 1) + torch.zeros_like(final)
    trajectory = path([start, final], flow_sigmas(1))
    return scored_group(plain_scores(*range(len(final))), trajectory=trajectory)


def credit(stage, group):
    (plain,), (found,) = credit_of(WeightedAdvantages(), [group]), credit_of((WeightedAdvantages(), stage), [group])
    return plain, found


def test_uncertain_places_get_more_and_the_mean_is_the_plain_one():
    final = torch.zeros(4, 2, 1, 10)
    final[:, :, :, 7:] = torch.randn(4, 2, 1, 3, generator=torch.Generator().manual_seed(0))
    plain, found = credit(UncertaintyCredit(), group_of(final))
    mean = 0.3 + 0.7 * 0.5
    factors = found.values[:, 0, 0, 0] / plain.values[:, None]
    torch.testing.assert_close(factors[:, 7:], torch.full((4, 3), 1 / mean))
    torch.testing.assert_close(factors[:, :7], torch.full((4, 7), 0.5 / mean))
    torch.testing.assert_close(found.values.mean((1, 2, 3, 4)), plain.values)
    assert found.figures["uncertainty_contrast"] == pytest.approx(10 / 3)


def test_where_nothing_differs_or_nothing_is_shared_it_is_the_plain_credit():
    for group in (group_of(torch.ones(3, 2, 2, 2)), group_of(torch.randn(3, 2, 2, 2), shared=False)):
        plain, found = credit(UncertaintyCredit(outside=0), group)
        torch.testing.assert_close(found.values, plain.values.view(3, 1, 1, 1, 1).expand(3, 1, 1, 2, 2))
    final = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    plain, found = credit(EVEN, group_of(final))
    torch.testing.assert_close(found.values, plain.values.view(3, 1, 1, 1, 1).expand(3, 1, 1, 2, 2))


def test_the_order_of_members_does_not_matter():
    final = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, two = UncertaintyCredit().weights_of(final), UncertaintyCredit().weights_of(final.flip(0))
    torch.testing.assert_close(one, two)


def test_what_cannot_be_right_is_refused():
    facts = {"trained_steps": (2,), "rewards": ("r",), "masks": {}, "images": 4, "leaves": (1,)}
    with pytest.raises(ValueError, match=r"needs latents \[channels, height, width\], found \[16, 64\]"):
        UncertaintyCredit().check(RunFacts(**facts, latent_shape=(16, 64), shared_noise=True))
    with pytest.raises(ValueError, match="noise of its own and none branches"):
        UncertaintyCredit().check(RunFacts(**facts, latent_shape=(3, 2, 2), shared_noise=False))
    for wrong in ({"share": 0}, {"share": 1.1}, {"inside": 0}, {"outside": -1}):
        with pytest.raises(ValueError, match="must be above 0"):
            UncertaintyCredit(**wrong)
