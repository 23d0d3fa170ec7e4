"""The model port over ComfyUI's MODEL, CLIP and VAE: a policy whose LoRA lies over whatever the MODEL is.

The LoRA is injected as a bypass into a clone of the MODEL, so what the MODEL already carries (other LoRAs, patches, a
quantised base) is the base model.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...mixgrpo_core.models.lora import WithLora
from ...mixgrpo_core.models.lora_layers import USUAL, Layers
from ...mixgrpo_core.models.lora_metadata import model_metadata
from ...mixgrpo_core.models.port import LoraAbout, Velocity
from ...mixgrpo_core.settings.config import TrainConfig
from ...mixgrpo_core.support.micro_batches import ran_out
from ...mixgrpo_core.training.memory_need import MemoryNeed, lora_bytes
from .bypass_lora import HostLora
from .field import HostField
from .float16_range import ask_for_bfloat16, compute_dtype, lost_when_faint
from .gradients import block_checkpointing, trainable
from .pass_memory import host_pass_memory, inputs_of
from .texts import PromptSet

_log = logging.getLogger(__name__)
_BACKWARD = 3
"""Activations of a backward pass against those of a forward pass: a guess, for networks that cannot be counted."""
_SPARE = 1.1
"""Asked of the host for each byte that was counted: what libraries take as workspace is not counted."""

_LOST = 0.05


class HostModel(WithLora[HostLora], HostField):
    """A flow model of ComfyUI with a trainable LoRA; close it when the work is done.

    Attributes:
        lora: the LoRA.
        checkpointing: whether each block's activations are computed again in the backward pass.
        notes: more strings for the header of exported LoRA files.
    """

    def __init__(
        self,
        model: ModelPatcher,
        vae: VAE,
        texts: PromptSet,
        *,
        width: int,
        height: int,
        rank: int,
        alpha: float,
        seed: int,
        cfg: float = 1.0,
        guidance: float | None = None,
        checkpointing: bool = True,
        layers: Layers = USUAL,
    ) -> None:
        """Attach a fresh LoRA to a clone of ``model``; ``model`` itself stays as it is.

        Args:
            width, height, cfg, guidance: see ``HostField``.
            rank, alpha, seed, layers: of the LoRA.
            checkpointing: compute each block's activations again in the backward pass.

        Raises:
            ValueError: no flow model, a size that the model cannot make, a layer that the LoRA cannot sit on.
        """
        super().__init__(model, vae, texts, width=width, height=height, cfg=cfg, guidance=guidance)
        self.notes: Mapping[str, str] = {}
        self.checkpointing = checkpointing
        ask_for_bfloat16(self.patcher)
        with torch.inference_mode(False):
            self.lora = HostLora(
                self.patcher.model, rank=rank, alpha=alpha, seed=seed, device=self.device, layers=layers
            )
        self.lora.attach(self.patcher)
        self.make_room(TrainConfig(rollout_batch=1, update_batch=1))

    def make_room(self, config: TrainConfig) -> None:
        """Ask the host from now on for the memory that a training with these settings needs."""
        self._sizes.clear()  # they would ask for what they were made with
        self._config = config
        self._room = max(config.rollout_batch, config.update_batch * _BACKWARD)

    def _take_size(self, width: int, height: int) -> None:
        super()._take_size(width, height)
        self.__dict__.pop("memory_need", None)

    @cached_property
    def memory_need(self) -> MemoryNeed | None:
        """What a training needs besides the weights, computed; None where this network cannot be counted."""
        conds = [cond for cond in self.encode(self.texts.train[0]) if cond is not None]
        try:
            passes = host_pass_memory(
                self.patcher,
                self.lora,
                self.latent_shape,
                inputs_of(self.patcher.model, self.latent_shape, conds),
                rows=len(conds),
                checkpointing=self.checkpointing,
            )
        except (
            RuntimeError,
            ValueError,
            TypeError,
            AttributeError,
            NotImplementedError,
            IndexError,
            KeyError,
        ) as error:
            _log.info("MixGRPO cannot tell what memory %s needs (%s)", self.family.name, error)
            return None
        return MemoryNeed(passes=passes, lora=lora_bytes(self.parameters()))

    def bytes_needed(self) -> int | None:
        """Memory for the training's largest call; on a CPU the host does not ask."""
        need = None if self.device.type == "cpu" else self.memory_need
        return None if need is None else int(need.of(self._config) * _SPARE)

    def probe(self, prompt: str) -> None:
        """One step of one image with its gradient, and one image decoded, all thrown away: what model and VAE refuse is
        known before a run.

        Raises:
            ValueError: the model refuses the size or the prompt's conditioning, or lets no gradient through; the VAE is
                another model's.
            An error of missing memory passes through.
        """
        x = self.noise(0, 1)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                lost = self.run([self.encode(prompt)], partial(self._lost, x))
        except Exception as error:
            if ran_out(error):
                raise
            height, width = self.resolution
            raise ValueError(
                f"{self.family.name} could not be trained on an image of {width} x {height} of {prompt[:60]!r} "
                f"({type(error).__name__}: {error}): choose a size that it was made for and its own text encoder; "
                "where the error is about gradients, ComfyUI's code of this model has none"
            ) from error
        if lost is None:
            raise ValueError(f"no gradient reaches the LoRA through {self.family.name}: this model cannot be trained")
        if not math.isfinite(lost):
            raise ValueError(
                f"expected numbers out of {self.family.name}, found NaN or infinity: its precision "
                f"({compute_dtype(self.patcher)}) is too small for it, load it in bfloat16 or float32"
            )
        if lost > _LOST:
            raise ValueError(
                f"expected the gradient of a small loss to come through {self.family.name}, found {min(lost, 1):.0%} "
                "of it lost: something in it computes in float16, which has no numbers so small. Load it in bfloat16 "
                "or float32, or take away what changes its precision"
            )
        self._probe_vae(x)

    def _lost(self, x: Tensor, velocity: Velocity) -> float | None:
        """The share of the LoRA's gradient at ``x`` that small losses lose; None where there is no gradient at all."""

        def gradient(slope: float) -> Tensor:
            (velocity(x, torch.tensor(0.5)).square().sum() * (slope / 2)).backward()
            found = [torch.zeros(1), *(p.grad.flatten().cpu() for p in self.parameters() if p.grad is not None)]
            for parameter in self.parameters():
                parameter.grad = None
            return torch.cat(found)

        return lost_when_faint(gradient)

    def _probe_vae(self, x: Tensor) -> None:
        try:
            images = self.decode(x)
        except Exception as error:
            if ran_out(error):
                raise
            raise ValueError(
                f"the VAE could not decode what {self.family.name} makes ({type(error).__name__}: {error}): connect "
                "the VAE that belongs to this model"
            ) from error
        height, width = images.shape[1:3]
        if (height, width) != self.resolution:
            raise ValueError(
                f"expected images of {self.resolution[1]} x {self.resolution[0]} out of the VAE, found {width} x "
                f"{height}: connect the VAE that belongs to {self.family.name}"
            )
        if not bool(images.isfinite().all()):
            raise ValueError(
                f"expected numbers out of the VAE, found NaN: its precision ({self.vae.vae_dtype}) is too small for "
                "it, start ComfyUI with --bf16-vae or --fp32-vae"
            )

    @property
    def lora_about(self) -> LoraAbout:
        """What a file of its LoRA has to know."""
        about = model_metadata(
            architecture=self.family.architecture,
            base_model=self.family.base_model,
            rank=self.lora.rank,
            alpha=self.lora.scale * self.lora.rank,
            resolution=self.resolution,
            precision=str(compute_dtype(self.patcher)).removeprefix("torch."),
        )
        return LoraAbout(scale=self.lora.scale, metadata={**about, **self.notes})

    @contextmanager
    def loaded(self, *, grad: bool) -> Iterator[None]:
        """The network as one that is trained through, in rollouts too: the same kernels, the same numbers."""
        with ExitStack() as stack:
            stack.enter_context(trainable(self.patcher.model, grad=grad))
            if grad and self.checkpointing:
                stack.enter_context(block_checkpointing(self.patcher.model.diffusion_model, self.lora))
            stack.enter_context(super().loaded(grad=grad))
            yield

    def close(self) -> None:
        """Also let go of the gradients: they would stay on the device until Python collects what holds them."""
        for parameter in self.parameters():
            parameter.grad = None
        super().close()
