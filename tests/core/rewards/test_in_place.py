"""Rewards, stages and guards that work in place spoil nothing for others: each is handed tensors of its own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyModel

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.advantages import WeightedAdvantages
from mixgrpo_core.evaluation.guards import PixelDrift
from mixgrpo_core.evaluation.guards.watch import Watch
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.rewards.port import Context, Origin, RewardBatch, Scores, StatelessReward
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.rewards.wrappers import Gated
from mixgrpo_core.runs.reports import GroupScored


def through_torch(batch: RewardBatch) -> None:
    for tensor in (batch.images, batch.latents, batch.context.reference, batch.context.mask, batch.origin.sigmas):
        tensor.mul_(0).add_(7)


def through_numpy(batch: RewardBatch) -> None:
    """No counter of torch sees this."""
    for tensor in (batch.images, batch.latents, batch.context.reference, batch.context.mask, batch.origin.sigmas):
        np.copyto(tensor.numpy(), 7)


class Spoils(StatelessReward):
    def __init__(self, spoil: Callable[[RewardBatch], None]) -> None:
        self.spoil = spoil

    def __call__(self, batch: RewardBatch) -> Scores:
        values = batch.images[:, 0, 0, 0]  # a view: what is written below shows in it
        self.spoil(batch)
        return Scores.of(values)


class KeepsItsAnswer(StatelessReward):
    """Gives one array, and writes into it again."""

    values = torch.zeros(2)

    def __call__(self, batch: RewardBatch) -> Scores:
        self.values += 1
        return Scores(self.values, torch.ones(2, dtype=torch.bool))


class Sees(StatelessReward):
    def __call__(self, batch: RewardBatch) -> Scores:
        total = batch.images.sum((1, 2, 3)) + batch.latents.flatten(1).sum(1) + batch.origin.sigmas.sum()
        return Scores.of(total + batch.context.reference.sum() + batch.context.mask.sum())


def batch(seed: int = 0) -> RewardBatch:
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw)

    return RewardBatch(
        images=numbers(2, 4, 4, 3),
        prompts=("a", "a"),
        context=Context(reference=numbers(4, 4, 3), mask=numbers(4, 4)),
        latents=numbers(2, 3, 2),
        origin=Origin(seed=1, sigmas=torch.tensor([1.0, 0.5, 0.0])),
    )


@pytest.mark.parametrize("spoil", [through_torch, through_numpy])
def test_no_reward_sees_what_another_has_written(spoil: Callable[[RewardBatch], None]) -> None:
    given, same = batch(), batch()
    expected = score({"sees": Sees()}, same)[0]["sees"]
    found, failures = score({"spoils": Spoils(spoil), "sees": Sees(), "again": Sees()}, given)
    assert not failures
    assert torch.equal(found["sees"].values, expected.values) and torch.equal(found["again"].values, expected.values)
    for name in ("images", "latents"):
        assert torch.equal(getattr(given, name), getattr(same, name))
    assert torch.equal(given.context.reference, same.context.reference)
    assert torch.equal(given.context.mask, same.context.mask) and torch.equal(given.origin.sigmas, same.origin.sigmas)


@pytest.mark.parametrize("spoil", [through_torch, through_numpy])
def test_a_gate_spoils_nothing_for_the_reward_behind_it_nor_the_other_way_round(
    spoil: Callable[[RewardBatch], None],
) -> None:
    expected = score({"sees": Sees()}, batch())[0]["sees"].values
    for reward, by in ((Sees(), Spoils(spoil)), (Spoils(spoil), Sees())):
        found = score({"gated": Gated(reward, by, least=-1e9)}, batch())[0]["gated"]
        assert bool(found.valid.all())
        if isinstance(reward, Sees):
            assert torch.equal(found.values, expected)
        else:
            assert found.values.tolist() == [7.0, 7.0]


def test_scores_are_the_cores_own() -> None:
    reward = KeepsItsAnswer()
    first = score({"keeps": reward}, batch())[0]["keeps"]
    score({"keeps": reward}, batch())
    assert first.values.tolist() == [1.0, 1.0]


class Careless(WeightedAdvantages):
    def look(self, group, images):
        images.fill_(0.5)
        return super().look(group, images)


def test_a_run_is_the_same_beside_a_reward_and_a_stage_that_work_in_place() -> None:
    def told(rewards: dict, credit: tuple = (WeightedAdvantages(),)) -> tuple[list[Tensor], list[float]]:
        images: list[Tensor] = []
        weights = dict.fromkeys(rewards, 1e-9) | {"red": 1.0}
        config = TrainConfig(
            iterations=2, steps=6, images_per_prompt=4, prompts_per_iteration=1, reward_weights=weights, credit=credit
        )
        heard = [
            report.rewards["red"].mean
            for report in train(
                ToyModel(),
                ["a"],
                rewards,
                config,
                observer=lambda event: images.append(event.images) if isinstance(event, GroupScored) else None,
            )
        ]
        return images, heard

    red = FunctionReward(lambda images, prompts: images[..., 0].mean((1, 2)))
    white = FunctionReward(lambda images, prompts: images.fill_(1.0)[:, 0, 0, 0])
    plain, means = told({"red": red})
    beside, same = told({"white": white, "red": red}, (Careless(),))
    assert torch.equal(plain[0], beside[0])
    assert means[0] == same[0]


def test_a_guard_spoils_nothing_for_the_next() -> None:
    class Whitens(PixelDrift):
        def measure(self, images: Tensor) -> dict[str, list[float]]:
            images.fill_(1.0)
            return {}

    images = torch.rand(2, 8, 8, 3)
    same = images.clone()
    Watch((Whitens(), PixelDrift()), {}).see(images)
    assert torch.equal(images, same)
