"""The reward port: images in, one score and one validity flag per image out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Context:
    """What some rewards ask for beyond images and prompts.

    Attributes:
        negative_prompt: what the images should not show.
        reference: ``[H, W, 3]`` in 0..1: an image to resemble, or the source of an edit.
        mask: ``[H, W]`` in 0..1 over the reference: 1 where an edit may change it.
        seed: of the rollout.
        iteration: of the training run; None for held-out images and outside of training.
    """

    negative_prompt: str = ""
    reference: Tensor | None = None
    mask: Tensor | None = None
    seed: int | None = None
    iteration: int | None = None

    def copy(self) -> "Context":
        """The same with pictures of its own."""
        return replace(self, reference=_copy(self.reference), mask=_copy(self.mask))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How final latents came to be: with it they can be made again.

    Attributes:
        seed: of the rollout.
        sigmas: ``[T + 1]``, the grid.
        model: what tells the base model from others; empty where it is not known.
        starts: how many noises the group began with, ``noise(derive_seed(seed, "start"), starts)``: 1 where all its
            images share one; 0 where that is not known.
        begun: ``[G]``, which of them each image began with; None is as many images for each, in order.
    """

    seed: int
    sigmas: Tensor
    model: str = ""
    starts: int = 0
    begun: Tensor | None = None

    def begun_with(self, images: int) -> Tensor:
        """``begun`` of a group of so many images."""
        if self.begun is not None:
            return self.begun
        return torch.arange(images) * max(self.starts, 1) // max(images, 1)


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """What a reward sees: the images of one group.

    Attributes:
        images: ``[G, H, W, 3]`` in 0..1, float, on any device. A reward is handed a batch of its own and may work in
            place.
        prompts: the prompt of every image, ``G`` of them (all equal within a group).
        frames: ``[G, F, H, W, 3]`` of videos, whose middle ones the images are; None of pictures. A reward is asked
            about each frame's images, and the mean counts; people are asked about the middle ones.
        group: a number that tells groups apart.
        context: what else there is to know.
        latents: ``[G, *L]`` that the images were decoded from; None where the images come from elsewhere.
        origin: of the latents.
    """

    images: Tensor
    prompts: tuple[str, ...]
    frames: Tensor | None = None
    group: int = 0
    context: Context = Context()
    latents: Tensor | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or not self.images.numel():
            raise ValueError(f"expected images [G, H, W, 3], found {list(self.images.shape)}")
        if len(self.prompts) != len(self.images):
            raise ValueError(f"expected one prompt per image ({len(self.images)}), found {len(self.prompts)}")

    def copy(self) -> "RewardBatch":
        """The same with tensors of its own: whoever gets it may work in place, and spoils nothing for others."""
        origin = None if self.origin is None else replace(self.origin, sigmas=self.origin.sigmas.clone())
        return replace(
            self,
            images=self.images.clone(),
            frames=_copy(self.frames),
            context=self.context.copy(),
            latents=_copy(self.latents),
            origin=origin,
        )

    def of(self, places: Tensor) -> "RewardBatch":
        """The batch of the images at ``places [n]``, whole numbers on the CPU."""
        origin = self.origin

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[places.to(tensor.device)]

        return replace(
            self,
            images=self.images[places.to(self.images.device)],
            prompts=tuple(self.prompts[place] for place in places.tolist()),
            frames=of(self.frames),
            latents=of(self.latents),
            origin=None if origin is None else replace(origin, begun=origin.begun_with(len(self.images))[places]),
        )


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


@dataclass(frozen=True)
class Scores:
    """Values ``[G]``, of a float dtype, and which of them count ``[G]``, bool. A failed score is masked, never a 0.

    ``note`` says in a few words why samples are masked. ``abstained``: they are no failures, nobody judged them (a
    person votes on some images, or on none), and a group without any valid score is passed over.
    """

    values: Tensor
    valid: Tensor
    note: str = ""
    abstained: bool = False

    @classmethod
    def of(cls, values: Tensor) -> "Scores":
        """Scores that all count where they are finite numbers."""
        values = values.detach().float()
        return cls(values, torch.isfinite(values))


@dataclass(frozen=True, kw_only=True)
class RewardInfo:
    """What a reward declares.

    Attributes:
        expected: (low, high) that scores of ordinary images lie in; None where that is not known.
        differentiable: it is a `DifferentiableReward`.
        groupwise: a score depends on the other images of its group; such scores do not compare between groups.
        licence: of its weights, with what it restricts; empty without weights.
        memory: bytes of its weights where it computes.
        spread_floor: least standard deviation of a group that is more than noise, in units of the score.
        held_out: it scores held-out images, too; a person is asked about images of the training only.
        reference: it compares with the reference picture of the batch's context, of which a training has none.
        aside: it may score in a thread of its own while other prompts are rolled out, one group after another: it uses
            no device that rollouts use, no memory management of a host and no global generator. It calls
            `require_wanted` where it waits for long.
    """

    expected: tuple[float, float] | None = None
    differentiable: bool = False
    groupwise: bool = False
    licence: str = ""
    memory: int = 0
    spread_floor: float = 0.0
    held_out: bool = True
    reference: bool = False
    aside: bool = False


class Reward(Protocol):
    """Scores a group of images; higher is better. It owns its device and its memory.

    What it declares is its ``about``, a class attribute, an instance's or a property; rewards without one declare what
    the function `about` says.
    """

    @abstractmethod
    def prepare(self, prompts: Sequence[str]) -> None:
        """Hears every prompt of the run once before it starts (to embed texts, to refuse what it cannot score)."""
        ...

    @abstractmethod
    def __call__(self, batch: RewardBatch) -> Scores:
        """Score one group: values ``[G]`` in float32, higher is better, and which of them count ``[G]``, bool.

        What it cannot score it masks, with a note that says why. What it raises is caught: the whole group is then
        masked and the run goes on (`scoring`).
        """
        ...

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume: tensors and JSON values; usually nothing."""
        ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave before the run was stopped."""
        ...


def about(reward: Reward) -> RewardInfo:
    """What a reward declares; the defaults for one that declares nothing."""
    return getattr(reward, "about", RewardInfo(differentiable=isinstance(reward, DifferentiableReward)))


def figures_of(rewards: Mapping[str, Reward]) -> dict[str, float]:
    """What rewards tell of themselves for the charts of a run (``figures``), by their names; most tell nothing."""
    return {
        f"{name}_{figure}": value
        for name, reward in rewards.items()
        for figure, value in getattr(reward, "figures", {}).items()
    }


class StatelessReward:
    """A reward with nothing to prepare and nothing to remember, but for what its class says otherwise."""

    def prepare(self, prompts: Sequence[str]) -> None:
        """Nothing to prepare."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class DifferentiableReward(StatelessReward):
    """A reward whose scores carry a gradient to the images."""

    def values(self, batch: RewardBatch) -> Tensor:
        """Scores ``[G]`` with their gradient; NaN where an image has none."""
        raise NotImplementedError

    def __call__(self, batch: RewardBatch) -> Scores:
        """The values without their gradient; those that are not finite are masked."""
        return Scores.of(self.values(batch))
