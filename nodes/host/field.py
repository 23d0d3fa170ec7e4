"""The velocity field of ComfyUI's MODEL, from inside the host's own sampling call.

x0 = guider(x, sigma)          conditioning, guidance, timestep scaling and casting as in every sampler of the host
v  = (x - x0) / sigma          a flow model's x0 is x - sigma v; others are asked in their own scale (`diffusion`)
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import comfy.model_management
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.sd import VAE
from torch import Tensor

from ...mixgrpo_core.models.pictures import maps_over_latents
from ...mixgrpo_core.models.port import LoraState, R, Velocity
from ...mixgrpo_core.models.told_apart import ToldApart
from ...mixgrpo_core.support.seeds import seeded_noise
from ...mixgrpo_core.support.setting import require_number
from ...mixgrpo_core.support.sized import Size, size_of
from .decoding import DecodesByVae
from .diffusion import in_its_own_scale
from .family import HostFamily, require_flow_model
from .frozen import freeze, quantised_inference_weights
from .identity import model_digest
from .inside import ROLES, Inside
from .references import HostReferences
from .stacked import kind
from .texts import Conditioning, PromptSet

F = TypeVar("F", bound="HostField")
_KEY = "mixgrpo"
_SKIPPING = frozenset({"easycache", "lazycache"})


class HostField(DecodesByVae):
    """A flow model of ComfyUI that the core can sample from; its MODEL stays as it is.

    Attributes:
        latent_shape, device, evaluations, min_steps: see the core's port.
        patcher: the clone of the MODEL that is sampled.
        family: what the host's class says of the model: its names in LoRA files and its timestep shift.
    """

    min_steps = 4

    def __init__(
        self,
        model: ModelPatcher,
        vae: VAE,
        texts: PromptSet,
        *,
        width: int,
        height: int,
        cfg: float = 1.0,
        guidance: float | None = None,
        room: int = 1,
    ) -> None:
        """Look at ``model`` and clone it.

        Args:
            width, height: pixels.
            cfg: classifier-free guidance scale; 1 is off.
            guidance: the distilled guidance that models such as FLUX.1-dev take as an input; None leaves it.
            room: how many latents' worth of activations the host makes room for when it loads the model.

        Raises:
            ValueError: no flow model, a size that the model cannot make, or a MODEL that skips steps.
        """
        self.family: HostFamily = require_flow_model(model)
        _require_no_skips(model)
        if not 1 <= cfg < math.inf:
            raise ValueError(f"expected a finite CFG of 1 (off) or more, found {cfg}")
        if guidance is not None:
            require_number("guidance", guidance)
        if vae is None:
            raise ValueError("expected a VAE, found none: this checkpoint has none, load one with Load VAE")
        self._sizes: dict[Size, HostField] = {}
        self._take_size(width, height)
        self.cfg, self.guidance = cfg, guidance
        self.device = torch.device(model.load_device)
        self._calls = _Calls(self)
        self.vae, self.texts = vae, texts
        self._references = HostReferences(self.family, vae, texts.contexts)
        self._room = room
        self.patcher = model.clone()
        self.patcher.remove_additional_models("multigpu")  # copies on other GPUs, which would not carry the LoRA
        self._frozen = quantised_inference_weights(self.patcher.model)
        self.patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, _KEY, self._counted)
        self.patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, _KEY, self._with_room)

    def at(self: F, size: Size) -> F:
        """The same model for images of another height and width; its LoRA, conditionings and count are this one's.

        Raises:
            ValueError: a size that the model cannot make.
        """
        if size == self.resolution:
            return self
        if size not in self._sizes:
            made = copy(self)
            made._take_size(size[1], size[0])
            self._sizes[size] = made
        return cast(F, self._sizes[size])

    def _take_size(self, width: int, height: int) -> None:
        self.latent_shape = self.family.latent_shape(width, height)
        self.resolution = (height, width)

    @property
    def evaluations(self) -> int:
        """Rows that have gone through the network, at all sizes."""
        return self._calls.rows

    def count_from(self, rows: int) -> None:
        """Set ``evaluations``: what was asked of the network before a run is no part of it."""
        self._calls.rows = rows

    def encode(self, prompt: str) -> tuple[Conditioning, Conditioning | None]:
        """The conditioning of one prompt, and the negative one where guidance is on."""
        area = math.prod(size_of(prompt) or self.resolution)
        positive = self._references.conditioning(self.texts, prompt, prompt, area)
        if self.guidance is not None:
            positive = node_helpers.conditioning_set_values(positive, {"guidance": self.guidance})
        if self.cfg <= 1:
            return positive, None
        return positive, self._references.conditioning(self.texts, self.texts.negative, prompt, area)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode every prompt, then let the text encoder go.

        Raises:
            ValueError: the text encoder reads different prompts as one.
        """
        apart = ToldApart()
        for prompt in prompts:
            self.encode(prompt)
        for words in dict.fromkeys(map(str, prompts)):
            apart.hear(words, self.texts.by_encoder(words))
        self.texts.release()

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``, the same numbers on every device."""
        return seeded_noise(seed, (count, *self.latent_shape), self.device)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.cfg > 1

    @cached_property
    def digest(self) -> str:
        """What tells the network's weights, and what lies on them, from others."""
        return model_digest(self.patcher, "diffusion_model")

    def grid(self, steps: int) -> Tensor:
        """The model's own sigmas ``[steps + 1]``."""
        return self.family.grid(steps)

    def places(self, maps: Tensor) -> Tensor:
        """Maps over images ``[B, H, W]`` as ``[B, 1, .., h, w]`` over latents."""
        return maps_over_latents(maps.to(self.device), self.latent_shape)

    def kind(self, cond: tuple[Conditioning, Conditioning | None]) -> Hashable:
        """What conditionings that share calls of the network have in common."""
        return kind(cond)

    def run(self, conds: Sequence[tuple[Conditioning, Conditioning | None]], body: Callable[[Velocity], R]) -> R:
        """Call ``body`` with the velocity field of some prompts, from inside the host's sampling call."""
        guider = comfy.samplers.CFGGuider(self.patcher)
        pairs = [(positive, positive if negative is None else negative) for positive, negative in conds]
        guider.set_conds(*pairs[0])
        for row, pair in enumerate(pairs[1:], 1):  # the host prepares all of a guider's conditionings alike
            guider.inner_set_conds({f"{role} {row}": cond for role, cond in zip(ROLES, pair, strict=True)})
        guider.set_cfg(self.cfg)
        scaled = None if self.family.noises is None else in_its_own_scale
        inside = Inside(body, self.loaded(grad=torch.is_grad_enabled()), len(conds), scaled)
        blank = torch.zeros(1, *self.latent_shape)
        self._calls.asked_by = self
        try:
            with torch.inference_mode(False), torch.no_grad():
                guider.sample(blank, blank, inside, torch.tensor([1.0, 0.0]), disable_pbar=True)
        finally:  # an interrupt may come anywhere: what is injected into the network goes in any case
            self.patcher.eject_model()
        return inside.result

    def with_weights(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """Inside, the velocity is the MODEL's, as outside: it has no LoRA of ours that could be off."""
        if weights is not None:
            raise ValueError("expected None, for a model without a LoRA of ours, found the weights of one")
        return nullcontext()

    @contextmanager
    def loaded(self, *, grad: bool) -> Iterator[None]:
        """Entered around ``body``, when the network is on its device."""
        with torch.set_grad_enabled(grad):
            yield

    def close(self) -> None:
        """Take what is injected out of the network, and the network off the device."""
        try:
            with torch.inference_mode(False), torch.no_grad():
                self.patcher.eject_model()
                comfy.model_management.unload_model_and_clones(self.patcher)
        finally:
            freeze(self._frozen)

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _counted(self, apply: Callable, x: Tensor, *rest, **options) -> Tensor:
        self._calls.rows += len(x)
        return apply(x, *rest, **options)

    def _with_room(self, prepare: Callable, model: ModelPatcher, shape: Sequence[int], *rest, **options) -> tuple:
        """Ask the host for the memory of what will be run, not of the one blank latent."""
        asked_by = self._calls.asked_by  # at its size: this is a method of the model at the first one
        with _needing(model, asked_by.bytes_needed()):
            return prepare(model, [asked_by._room, *shape[1:]], *rest, **options)

    def bytes_needed(self) -> int | None:
        """Memory besides the weights, where it is known; None leaves it to the host's own estimate."""
        return None


@dataclass
class _Calls:
    """What the model at each of its sizes has in common: who asks the network, and rows that went through it."""

    asked_by: "HostField"
    rows: int = 0


@contextmanager
def _needing(model: ModelPatcher, needed: int | None) -> Iterator[None]:
    """Inside, the host hears ``needed`` bytes where it asks the model how many a call takes."""
    if needed is None:
        yield
        return
    model.model.memory_required = lambda *_shape, **_more: needed
    try:
        yield
    finally:
        del model.model.memory_required


def _require_no_skips(model: ModelPatcher) -> None:
    """Raise ``ValueError`` for a MODEL that gives old answers of its network again: they have no gradient, and here the
    images of other prompts and other noise are made by the same network."""
    skipping = {key for keys in model.wrappers.values() for key in keys} & _SKIPPING
    if skipping:
        raise ValueError(
            f"expected a MODEL that computes every step, found {' and '.join(sorted(skipping))} on it, which skips "
            "some: connect the MODEL from before that node"
        )
