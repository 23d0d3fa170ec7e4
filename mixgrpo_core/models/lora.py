"""A LoRA in training, whatever home its model lives in: the trained tensors, and which its layers use now.

Other weights become active by putting other ``Parameter`` objects into the layers, never by copying into the trained
ones: a graph that was built before keeps the tensors it was built from, so the old policy or the base model may be
asked between the forward and the backward of the policy in training.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from ..support.quoting import listed
from ..support.seeds import derive_seed
from .lora_file import LoraFile, fresh_down, save_lora
from .lora_names import DOWN, UP
from .port import FlowModel, LoraState

L = TypeVar("L", bound="Lora")
Activate = Callable[[Mapping[str, Parameter] | None], None]
"""Puts tensors, by name, into the layers of a network; ``None`` takes the LoRA off."""


class Lora:
    """A trainable LoRA in float32.

    A fresh LoRA is the base model: B is 0, A uniform in +-1/sqrt(in), drawn from ``seed`` and the layer's name alone,
    so that it is the same in every home. The tensors' order is that of their names, for an optimizer knows only that.

    Attributes:
        rank: of every layer.
        scale: ``alpha / rank``, what the product ``B @ A`` is multiplied with.
        trained: the tensors by name, ``<module>.lora_A.weight [r, in]`` and ``<module>.lora_B.weight [out, r]``.
    """

    def __init__(
        self,
        sizes: Mapping[str, tuple[int, int]],
        activate: Activate,
        *,
        rank: int,
        alpha: float,
        seed: int,
        device: torch.device,
    ) -> None:
        """Make a fresh LoRA and put it on.

        Args:
            sizes: ``(in, out)`` of each layer by its name in LoRA files.
            activate: how the home puts tensors into its layers.

        Raises:
            ValueError: rank or alpha are none.
        """
        self.rank = rank
        self.scale = lora_scale(rank, alpha)
        self.trained: dict[str, Parameter] = {}
        for name in sorted(sizes):
            incoming, outgoing = sizes[name]
            self.trained[name + DOWN] = Parameter(fresh_down(rank, incoming, derive_seed(seed, name)).to(device))
            self.trained[name + UP] = Parameter(torch.zeros(outgoing, rank, device=device))
        self._put = activate
        self._active: Mapping[str, Parameter] | None = None
        self._activate(self.trained)

    def state(self) -> dict[str, Tensor]:
        """Detached views of the trained tensors."""
        return {name: parameter.detach() for name, parameter in self.trained.items()}

    def load_state(self, state: LoraState) -> None:
        """Copy every tensor of ``state`` into the trained ones."""
        self.check(state)
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state[name])

    def load_file(self, file: LoraFile) -> None:
        """Go on from a LoRA file: the same function as the file's. Layers that it leaves out have B = 0.

        Raises:
            ValueError: another rank, another architecture, or layers that change and are not trained here.
        """
        found = self._own_names(file.state)
        known = {name: tensor for name, tensor in found.items() if name in self.trained}
        if not known:
            raise ValueError(
                f"the LoRA is another architecture's: expected layers as {next(iter(self.trained))}, "
                f"found {listed(sorted(file.state))}; use a LoRA of this model, and if it is one, with names of "
                "another tool, write it in the layout of diffusers with the node MixGRPO Convert LoRA"
            )
        lost = sorted(name.removesuffix(UP) for name in found.keys() - known.keys() if name.endswith(UP))
        if lost:
            raise ValueError(
                f"the LoRA also changes {len(lost)} layers that are not trained here ({listed(lost)}) and would be "
                "lost: choose layers that hold them, or merge it into the model (load it before the trainer) and start "
                "a new LoRA from that"
            )
        if file.rank != self.rank:
            raise ValueError(
                f"expected a LoRA of rank {self.rank}, found rank {file.rank}: set the rank to {file.rank}"
            )
        effective = {name: tensor / self.scale if name.endswith(UP) else tensor for name, tensor in known.items()}
        rest = {
            name: torch.zeros_like(tensor) if name.endswith(UP) else tensor
            for name, tensor in self.state().items()
            if name not in known
        }
        self.load_state({**effective, **rest})

    def _own_names(self, state: LoraState) -> dict[str, Tensor]:
        """``state`` with this LoRA's names for layers that were written with underscores for points."""
        layers = {name.removesuffix(DOWN) for name in self.trained if name.endswith(DOWN)}
        flat = {layer.replace(".", "_"): layer for layer in layers}
        found = {}
        for name, tensor in state.items():
            end = DOWN if name.endswith(DOWN) else UP
            layer = name.removesuffix(end)
            found[flat.get(layer, layer) + end] = tensor
        return found

    @contextmanager
    def with_weights(self, weights: LoraState | None) -> Iterator[None]:
        """Inside, ``weights`` are active, or no LoRA; afterwards the same tensors as before.

        ``weights`` may be of another rank than the trained ones (a teacher's); their product is scaled as these are.
        """
        frozen = None
        if weights is not None:
            require_alike(weights, self.trained, any_rank=True)
            frozen = {
                name: Parameter(weights[name].detach().to(parameter.device, torch.float32), requires_grad=False)
                for name, parameter in self.trained.items()
            }
        with self._activated(frozen):
            yield

    def check(self, state: LoraState) -> None:
        """Raise unless ``state`` has exactly the names and shapes of this LoRA."""
        require_alike(state, self.trained)

    def with_active_weights(self) -> AbstractContextManager[None]:
        """A context to be entered later, once: inside, the weights are active that are so at this call.

        For work that the backward pass does again.
        """
        return self._activated(self._active)

    @contextmanager
    def imitated(self) -> Iterator[None]:
        """Inside, new tensors of the same shapes are trained and active: on the CPU, without values.

        For counting what a training would hold.
        """
        own = self.trained
        try:
            self.trained = {
                name: Parameter(torch.empty_like(tensor, device="cpu").detach()) for name, tensor in own.items()
            }
            self._activate(self.trained)
            yield
        finally:
            self.trained = own
            self._activate(own)

    @contextmanager
    def _activated(self, choice: Mapping[str, Parameter] | None) -> Iterator[None]:
        before = self._active
        try:
            self._activate(choice)
            yield
        finally:
            self._activate(before)

    def _activate(self, choice: Mapping[str, Parameter] | None) -> None:
        if choice is self._active:
            return
        self._put(choice)
        # a home's own switch may also turn gradients on and off; a backward pass may be under way, so what is trained
        # stays so
        for parameter in (choice or {}).values():
            parameter.requires_grad_(False)
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self._active = choice


def require_alike(state: LoraState, own: LoraState, *, any_rank: bool = False) -> None:
    """Raise ``ValueError`` unless ``state`` has exactly the names and shapes of a model's ``own`` LoRA.

    With ``any_rank`` the pairs of matrices may have another rank, one for all of them.
    """
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        told = (("without", missing), ("with unknown", unknown))
        parts = [f"{word} {listed(names)}" for word, names in told if names]
        raise ValueError(
            f"expected the {len(own)} tensors of this model's LoRA, found a state {' and '.join(parts)}; it belongs to "
            "another architecture"
        )
    first = next((state[name] for name in own if name.endswith(DOWN)), None)
    rank = len(first) if any_rank and first is not None else None
    expected = {name: _shape(name, tensor, rank) for name, tensor in own.items()}
    wrong = [
        f"{name} (expected {list(shape)}, found {list(state[name].shape)})"
        for name, shape in expected.items()
        if shape != state[name].shape
    ]
    if wrong:
        raise ValueError(f"the LoRA's shapes are another architecture's or another rank's: {listed(wrong)}")


def _shape(name: str, own: Tensor, rank: int | None) -> tuple[int, ...]:
    """The shape of a LoRA's tensor at another rank; None is its own."""
    if rank is None or own.ndim != 2:
        return tuple(own.shape)
    return (rank, own.shape[1]) if name.endswith(DOWN) else (own.shape[0], rank)


def export_lora(
    model: FlowModel[Any],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    weights: LoraState | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a file that diffusers and ComfyUI apply as trained: of ``weights``, or of the model's LoRA as it stands.

    ``metadata`` tells of the training; what the model knows of itself is added.
    """
    about, own = model.lora_about, model.lora_state()
    state = own if weights is None else weights
    require_alike(state, own)
    return save_lora(path, state, scale=about.scale, metadata={**about.metadata, **(metadata or {})}, dtype=dtype)


class WithLora(Generic[L]):
    """The LoRA's half of the model port, for an implementation that holds a `Lora`."""

    lora: L

    def with_weights(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """Inside, the velocity is that of ``weights``, or the base model's; the trained tensors are not touched."""
        return self.lora.with_weights(weights)

    def parameters(self) -> list[Parameter]:
        """The LoRA's tensors in the order of ``lora_state``."""
        return list(self.lora.trained.values())

    def lora_state(self) -> dict[str, Tensor]:
        """The LoRA's tensors, detached views."""
        return self.lora.state()

    def load_lora_state(self, state: LoraState) -> None:
        """Copy ``state`` into the LoRA."""
        self.lora.load_state(state)

    def load_lora_file(self, file: LoraFile) -> None:
        """Go on from a LoRA file of this model's rank: afterwards the velocity is the file's."""
        self.lora.load_file(file)


def lora_scale(rank: int, alpha: float) -> float:
    """``alpha / rank``. Raises ``ValueError`` when they are none."""
    if not (rank >= 1 and 0 < alpha < math.inf):
        raise ValueError(f"expected a LoRA with rank >= 1 and a finite alpha > 0, found rank {rank} and alpha {alpha}")
    return alpha / rank
