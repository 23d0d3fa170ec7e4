"""The model port: what the core asks of a flow model, wherever it lives (diffusers, ComfyUI, a test).

Everything that depends on a host hides behind it: devices, dtypes, offloading, classifier-free guidance, timestep
scaling, how the LoRA is attached. The core sees tensors and one function, the velocity field.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter

from ..support.sized import Size

LoraState = Mapping[str, Tensor]
"""The LoRA's tensors by name, as the model holds them (alpha not baked in)."""

Cond = TypeVar("Cond")
R = TypeVar("R")


class Velocity(Protocol):
    """The velocity field of some conditionings, inside of ``FlowModel.run``."""

    def __call__(self, x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
        """``v = eps - x0`` in float32, guidance included.

        Args:
            x: ``[B, *L]``.
            sigma: scalar, the level of all of ``x``.
            rows: ``[B]``, whole numbers: which of the conditionings each row of ``x`` belongs to; None is the first
                for all of them.

        Returns:
            ``[B, *L]``.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoraAbout:
    """What a LoRA file has to know of the model.

    Attributes:
        scale: ``alpha / rank``: what the product of the LoRA's matrices is multiplied with.
        metadata: the model's strings in the file's header.
    """

    scale: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)


class Sampled(Protocol[Cond]):
    """What a flow-matching model needs for images to be made with it."""

    def encode(self, prompt: str) -> Cond:
        """The conditioning of one prompt; computed once and kept by the caller."""
        ...

    def run(self, conds: Sequence[Cond], body: Callable[[Velocity], R]) -> R:
        """Load the network once, condition it on one or more prompts, and call ``body`` with its velocity field."""
        ...

    def with_weights(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """Inside the context the velocity is that of ``weights``; ``None`` is the base model without the LoRA."""
        ...

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1; of videos several frames ``[B, F, H, W, 3]``.

        With ``grad`` the images carry a gradient; where a value was cut off at 0 or 1, only one that leads back inside.
        """
        ...


@runtime_checkable
class TakesPictures(Protocol):
    """A model that may condition on a reference picture of each prompt."""

    def take_pictures(self, pictures: Mapping[str, Tensor]) -> None:
        """The pictures ``[H, W, 3]`` in 0..1 of prompts that are encoded from now on."""
        ...


@runtime_checkable
class DecodesLow(Protocol):
    """A model that can decode in less than float32, too."""

    @property
    def decode_dtype(self) -> torch.dtype:
        """What ``decode`` computes in; only where that is float32 there is less."""
        ...

    def decode_low(self, x: Tensor) -> Tensor:
        """``Sampled.decode`` computed in bfloat16: ``[B, *L]`` to images ``[B, H, W, 3]`` in float32."""
        ...


@runtime_checkable
class DecodesTiny(Protocol):
    """A model that may have a tiny autoencoder besides its own, for what need not see every pixel as it is."""

    @property
    def tiny(self) -> str:
        """What tells its tiny autoencoder from others; empty where it has none."""
        ...

    def decode_tiny(self, x: Tensor, *, low: bool = False) -> Tensor:
        """``Sampled.decode`` by the tiny autoencoder, in float32 or, ``low``, in bfloat16.

        Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in float32.
        """
        ...


@runtime_checkable
class DecodesBeside(Protocol):
    """A model that can decode in one thread while its network is run in another."""

    def decoder(self) -> "FlowModel[Any]":
        """The same model, with the same weights, to decode with in another thread: as ``decode``, ``decode_low`` and
        ``decode_tiny`` do here, at every size.

        Raises:
            ValueError: rollouts use its autoencoder, too; in one sentence.
        """
        ...


@runtime_checkable
class TellsKinds(Protocol):
    """A model of which not all conditionings go into one call of the network together."""

    def kind(self, cond: Any) -> Hashable:
        """Conditionings of one kind share calls; rows of others have calls of their own."""
        ...


def alike(model: Sampled[Cond], cond: Cond) -> Hashable:
    """What conditionings that share calls of the network have in common."""
    return model.kind(cond) if isinstance(model, TellsKinds) else None


@runtime_checkable
class EncodesImages(Protocol):
    """A model that can make latents of pictures."""

    @property
    def resolution(self) -> tuple[int, int]:
        """``(H, W)`` of its images."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Images ``[B, H, W, 3]`` in 0..1 of its size as latents ``[B, *L]``, float32.

        They decode to the images, as nearly as its VAE can. Raises ``ValueError`` where its family has no known way.
        """
        ...


class FlowModel(Sampled[Cond], Protocol[Cond]):
    """A flow-matching model with a trainable LoRA.

    What the core counts on:

    * ``sigma`` reaches the velocity as a 0-dim tensor on the CPU; ``x`` is float32 where ``noise`` put it.
    * ``with_weights`` is entered outside of ``run`` (an evaluation of other weights) and inside (a reference policy,
      hybrid sampling), nested, and between the forward and the backward of the current policy: it must not write into
      the trained tensors.
    * Rollouts run without gradient, updates with it, forward and backward inside of one ``run``. ``decode`` and
      ``noise`` are called outside of ``run`` too.
    * ``evaluations`` leaves out what gradient checkpointing computes again.
    * The LoRA's state can be read and put back after any exception, ``KeyboardInterrupt`` out of ``run`` included.
    """

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``L`` of one latent, without the batch dimension."""
        ...

    @property
    def device(self) -> torch.device:
        """Where latents live; the memory report reads it, the core moves nothing."""
        ...

    @property
    def evaluations(self) -> int:
        """Rows that have gone through the network since the model was made.

        It only grows, counts what was really run (guidance counts two) and is where every NFE figure comes from.
        """
        ...

    @property
    def min_steps(self) -> int:
        """Fewest denoising steps with which this family makes an image at all."""
        ...

    @property
    def guided(self) -> bool:
        """Whether guidance changes the velocity: it is then no field that data are regressed to."""
        ...

    @property
    def digest(self) -> str:
        """What tells the base model's weights from others; empty where it is not known."""
        ...

    @property
    def lora_about(self) -> LoraAbout:
        """What a file of its LoRA has to know."""
        ...

    def prepare(self, prompts: Sequence[str]) -> None:
        """Hears every prompt of a run before it starts: the time to embed them all and to free the text encoders."""
        ...

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``, float32, where the latents live; a function of its arguments alone."""
        ...

    def grid(self, steps: int) -> Tensor:
        """The model's own sigmas ``[steps + 1]``, float32 on the CPU: its schedule, shift and terminal level."""
        ...

    def places(self, maps: Tensor) -> Tensor:
        """Maps over images ``[B, H, W]`` as maps over latents: ``[B, ...]``, broadcastable to ``[B, *L]``."""
        ...

    def parameters(self) -> Iterable[Parameter]:
        """The LoRA's trainable tensors and nothing else, in the order of ``lora_state``."""
        ...

    def lora_state(self) -> LoraState:
        """Detached views of the trained tensors by name, ``A [r, in]`` and ``B [out, r]`` of a linear layer."""
        ...

    def load_lora_state(self, state: LoraState) -> None:
        """Copy ``state``, the tensors of a ``lora_state``, into the LoRA.

        Raises:
            ValueError: names or shapes are another architecture's.
        """
        ...


@runtime_checkable
class TakesSizes(Protocol[Cond]):
    """A model that makes images of several sizes."""

    def at(self, size: Size) -> FlowModel[Cond]:
        """The same model for images of another size: its LoRA, its conditionings and its count are this one's.

        Raises:
            ValueError: a size that it does not make, in one sentence.
        """
        ...
