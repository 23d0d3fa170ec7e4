"""The model port: what the core asks of a flow model, wherever it lives (diffusers, ComfyUI, a test).

Everything that depends on a host hides behind it: devices, dtypes, offloading, classifier-free guidance, timestep
scaling, how the LoRA is attached. The core sees tensors and one function, the velocity field.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``(x [B, *L], sigma []) -> v [B, *L]``: the velocity ``v = eps - x0`` in float32, guidance included."""

LoraState = Mapping[str, Tensor]
"""The LoRA's tensors by name, as the model holds them (alpha not baked in)."""

Cond = TypeVar("Cond")
R = TypeVar("R")


class FlowModel(Protocol[Cond]):
    """A flow-matching model with a trainable LoRA.

    What the core counts on:

    * ``sigma`` reaches the velocity as a 0-dim tensor on the CPU; ``x`` is float32 where ``noise`` put it.
    * ``using`` is entered outside of ``run`` (an evaluation of other weights) and inside (a reference policy, hybrid
      sampling), nested, and between the forward and the backward of the current policy: it must not write into the
      trained tensors.
    * Rollouts run without gradient, updates with it, forward and backward inside of one ``run``. ``decode`` and
      ``noise`` are called outside of ``run`` too.
    * ``evaluations`` leaves out what gradient checkpointing computes again.
    * The LoRA's state can be read and put back after any exception, ``KeyboardInterrupt`` out of ``run`` included.

    Attributes:
        latent_shape: shape ``L`` of one latent, without the batch dimension.
        device: where latents live; the memory report reads it, the core moves nothing.
        evaluations: rows that have gone through the network since the model was made. It only grows, counts what
            was really run (guidance counts two) and is where every NFE figure comes from.
        min_steps: fewest denoising steps with which this family makes an image at all.
    """

    latent_shape: tuple[int, ...]
    device: torch.device
    evaluations: int
    min_steps: int

    def encode(self, prompt: str) -> Cond:
        """The conditioning of one prompt; computed once and kept by the caller."""
        ...

    def prepare(self, prompts: Sequence[str]) -> None:
        """Hears every prompt of a run before it starts: the time to embed them all and to free the text encoders."""
        ...

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``, float32, where the latents live; a function of its arguments alone."""
        ...

    def run(self, cond: Cond, body: Callable[[Velocity], R]) -> R:
        """Load the network once, condition it on one prompt, and call ``body`` with its velocity field."""
        ...

    def using(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """Inside the context the velocity is that of ``weights``; ``None`` is the base model without the LoRA."""
        ...

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1."""
        ...

    def parameters(self) -> Iterable[Parameter]:
        """The LoRA's trainable tensors and nothing else, in the order of ``lora_state``."""
        ...

    def lora_state(self) -> LoraState:
        """The LoRA's tensors, detached views of what is trained; clone them to keep them."""
        ...

    def load_lora_state(self, state: LoraState) -> None:
        """Copy ``state`` into the LoRA. Raises ``ValueError`` when names or shapes are another architecture's."""
        ...

    def export_lora(self, path: Path, metadata: Mapping[str, str], weights: LoraState | None = None) -> Path:
        """Write a LoRA file that every host loads: of ``weights``, or of the LoRA as it stands.

        ``metadata`` tells of the training; the model adds what it knows of itself.
        """
        ...


class Policy:
    """The velocity field an objective works with, and the other policies that it may name in its ``needs``.

    Calling it gives the policy being trained. ``reference`` is the base model (LoRA off) and ``old`` the policy that
    made the rollout; both are computed without gradient, in the phase ``reference`` of the report.
    """

    def __init__(
        self,
        current: Velocity,
        using: Callable[[LoraState | None], AbstractContextManager[None]],
        old: LoraState | None = None,
        phase: Callable[[str], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._current = current
        self._using = using
        self._old = old
        self._phase = phase

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._current(x, sigma)

    def reference(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity of the base model ``[B, *L]``."""
        return self._frozen(None, x, sigma)

    def old(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Velocity of the policy that made the rollout ``[B, *L]``."""
        if self._old is None:
            raise ValueError("the old policy was asked for but not kept: name 'old' in the objective's `needs`")
        return self._frozen(self._old, x, sigma)

    def _frozen(self, weights: LoraState | None, x: Tensor, sigma: Tensor) -> Tensor:
        with self._phase("reference"), torch.no_grad(), self._using(weights):
            return self._current(x, sigma)
