"""Preferences between rewards that are drawn anew for parts of a group, after ParetoSlider."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..rewards.stats import is_flat
from ..support.facts import RunFacts
from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .group import normalised_parts
from .port import Advantages, Credit, Looked, ScoredGroup

FLOOR = 1e-4
"""Added to every standard deviation, as published."""
_ONE_REWARD, _TWO_REWARDS = 0.5, 0.85
"""Below the first a preference of three or more rewards is for one, below the second for two."""


def drawn_preference(rewards: int, seed: int) -> Tensor:
    """Shares ``[K]`` of ``rewards`` rewards, float64: Dirichlet(1, ..) for two.

    For three and more: in half of the draws one reward alone, in 35 % two of them, in 15 % all.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(rewards, generator=generator)
    kind = float(torch.rand((), generator=generator))
    if rewards > 2:
        chosen = chosen[: 1 if kind < _ONE_REWARD else 2 if kind < _TWO_REWARDS else rewards]
    drawn = torch.empty(len(chosen), dtype=torch.float64).exponential_(generator=generator)
    shares = torch.zeros(rewards, dtype=torch.float64)
    shares[chosen] = drawn / drawn.sum()
    return shares


def slot_advantages(rewards: Tensor, valid: Tensor, preferences: Tensor, adv_clip: float = 5.0) -> Tensor:
    """``sum_k w_sk clip(A_k, +-adv_clip)`` with each reward normalised among the members of one slot ``s``.

    Member i is of slot ``i mod S``. ``A_k = (r - mean) / (std + 1e-4)`` with the biased standard deviation.

    Args:
        rewards: ``[G, K]``; what is not valid is never read.
        valid: bool ``[G, K]``.
        preferences: ``[S, K]``, the shares of each slot.
        adv_clip: above 0.

    Returns:
        ``[G]``, float64; a slot without two valid members of a reward, or without spread, has 0 from it.
    """
    slots = torch.arange(len(rewards)) % len(preferences)
    found = torch.zeros(len(rewards), dtype=torch.float64)
    for slot, shares in enumerate(preferences.double()):
        for reward, share in enumerate(shares):
            members = ((slots == slot) & valid[:, reward]).nonzero()[:, 0]
            values = rewards[members, reward].double()
            if len(values) > 1 and not is_flat(values):
                normalised = (values - values.mean()) / (values.std(correction=0) + FLOOR)
                found[members] += share * normalised.clamp(-adv_clip, adv_clip)
    return found


@dataclass(frozen=True)
class PreferenceSlots(Credit):
    """The images of a group in slots, each with a preference between the rewards that is drawn anew.

    ``A_i = sum_k w_k clip(A_ik)`` with ``A_k`` normalised within (prompt, slot) and ``w`` the slot's preference, from
    a Dirichlet distribution; images go round the slots. After ParetoSlider, as read in github.com/Shelley-Golan/
    ParetoSlider (its advantages). Its loss for each reward, mixed by the preference, is one loss of this advantage
    where the loss is linear in it (DiffusionNFT), so no second loss is needed.

    Difference: the model is not told the preference, which takes a small network that no LoRA file carries. So there is
    no slider: this randomises weights within a group, and the LoRA learns a compromise. The rewards' weights do not
    bear on it (a weight of 0 still takes a reward out).

    Traps: slots are small groups: 12 images in 3 slots compare 4 with each other. The standard deviation is the biased
    one plus 1e-4, in the reward's units: rewards that differ by less are made small.

    Attributes:
        slots: preferences per prompt, 3 as published; they divide the images of a prompt.
        adv_clip: what each reward's advantage is clamped to before mixing, 5 as published.
        seed: of the preferences, which are a function of it, the iteration and the group's place.
    """

    label: ClassVar[str] = "preference slots (after ParetoSlider)"
    makes: ClassVar[bool] = True

    slots: int = 3
    adv_clip: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.slots < 1 or not (math.isfinite(self.adv_clip) and self.adv_clip > 0):
            raise ValueError(f"slots must be 1 or more and adv_clip above 0, found {self.slots} and {self.adv_clip}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for one reward, and where the slots do not divide the images or hold one each."""
        facts.require_rewards(2, "PreferenceSlots", "WeightedAdvantages()")
        each, left = divmod(facts.images, self.slots)
        if left or each < 2:
            raise ValueError(
                f"PreferenceSlots compares the images of one slot with each other, and {facts.images} images per "
                f"prompt do not make {self.slots} equal slots of 2 or more: set images_per_prompt to a multiple of "
                f"{self.slots} that is at least {2 * self.slots}, or slots lower"
            )

    def preferences(self, rewards: int, iteration: int, place: int) -> Tensor:
        """The shares ``[S, K]`` of one group's slots."""
        keys: Sequence[int | str] = ("preferences", self.seed, iteration, place)
        return torch.stack([drawn_preference(rewards, derive_seed(*keys, slot)) for slot in range(self.slots)])

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """The advantages within the slots."""
        names = [name for name in group.scores if group.weights[name] > 0]
        rewards = torch.stack([group.scores[name].values for name in names], 1)
        valid = torch.stack([group.scores[name].valid for name in names], 1)
        shares = self.preferences(len(names), group.iteration, group.place)
        dtype = torch.promote_types(rewards.dtype, torch.float32)
        values = slot_advantages(rewards, valid, shares, self.adv_clip).to(dtype)
        means = {f"preference_{name}": mean for name, mean in zip(names, shares.mean(0), strict=True)}
        return Advantages(values, valid.any(1), normalised_parts(group.scores, group.floors)).changed(values, **means)
