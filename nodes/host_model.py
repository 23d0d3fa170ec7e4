"""The model port over ComfyUI's MODEL and VAE: velocities from inside the host's own sampling call.

    x0 = guider(x, sigma)          conditioning, guidance, timestep scaling and casting as in every sampler of the host
    v  = (x - x0) / sigma          flow models only: their x0 is x - sigma v

The LoRA is injected as a bypass into a clone of the MODEL, so what the MODEL already carries (other LoRAs, patches, a
quantised base) is the base model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import comfy.model_management
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.sd import VAE
from torch import Tensor
from torch.nn import Parameter

from ..mixgrpo_core.lora_format import LoraFile, model_metadata, save_lora
from ..mixgrpo_core.model import LoraState, R, Velocity, seeded_noise
from .host.bypass_lora import HostLora
from .host.family import Family, require_flow_model
from .host.gradients import block_checkpointing, trainable
from .host.texts import PromptSet

Conditioning = list
"""What ComfyUI calls CONDITIONING: a list of ``[tokens, {"pooled_output": ...}]``."""

_KEY = "mixgrpo"
_BACKWARD = 3
"""Activations of a backward pass against those of a forward pass, in the memory asked of the host: with checkpointed
blocks the inputs of all blocks and the inside of one; a guess on the safe side, and the host moves weights out for it.
"""


class HostModel:
    """A flow model of ComfyUI with a trainable LoRA; close it when the work is done.

    Attributes:
        latent_shape, device, evaluations, min_steps: see the port.
        patcher: the clone of the MODEL that wears the LoRA.
        lora: the LoRA.
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
        rank: int,
        alpha: float,
        seed: int,
        cfg: float = 1.0,
        guidance: float | None = None,
        checkpointing: bool = True,
        batch: int = 1,
    ) -> None:
        """Attach a fresh LoRA to a clone of ``model``; ``model`` itself stays as it is.

        Args:
            width, height: pixels.
            cfg: classifier-free guidance scale; 1 is off.
            guidance: the distilled guidance that models such as FLUX.1-dev take as an input; None leaves it.
            checkpointing: compute each block's activations again in the backward pass.
            batch: most rows of one call; the host makes room for them.

        Raises:
            ValueError: no flow model, a size that the model cannot make, a layer that the LoRA cannot sit on.
        """
        self.family: Family = require_flow_model(model)
        if cfg < 1:
            raise ValueError(f"expected a CFG of 1 (off) or more, found {cfg}")
        self.latent_shape = self.family.latent_shape(width, height)
        self.resolution = (height, width)
        self.cfg, self.guidance = cfg, guidance
        self.device = torch.device(model.load_device)
        self.evaluations = 0
        self.vae, self.texts = vae, texts
        self._checkpointing = checkpointing
        self._batch = batch
        self.patcher = model.clone()
        with torch.inference_mode(False):
            self.lora = HostLora(self.patcher.model, rank=rank, alpha=alpha, seed=seed, device=self.device)
        self.lora.attach(self.patcher)
        self.patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, _KEY, self._counted)
        self.patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, _KEY, self._with_room)

    def encode(self, prompt: str) -> tuple[Conditioning, Conditioning | None]:
        """The conditioning of one prompt, and the negative one where guidance is on."""
        positive = self.texts.encode(prompt)
        if self.guidance is not None:
            positive = node_helpers.conditioning_set_values(positive, {"guidance": self.guidance})
        return positive, self.texts.encode(self.texts.negative) if self.cfg > 1 else None

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode every prompt, then let the text encoder go."""
        for prompt in prompts:
            self.encode(prompt)
        self.texts.release()

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``, the same numbers on every device."""
        return seeded_noise(seed, (count, *self.latent_shape)).to(self.device)

    def run(self, cond: tuple[Conditioning, Conditioning | None], body: Callable[[Velocity], R]) -> R:
        """Call ``body`` with the velocity of one prompt, from inside the host's sampling call."""
        positive, negative = cond
        guider = comfy.samplers.CFGGuider(self.patcher)
        guider.set_conds(positive, negative if negative is not None else positive)
        guider.set_cfg(self.cfg)
        inside = _Inside(body, self._training(grad=torch.is_grad_enabled()))
        blank = torch.zeros(1, *self.latent_shape)
        try:
            with torch.inference_mode(False), torch.no_grad():
                guider.sample(blank, blank, inside, torch.tensor([1.0, 0.0]), disable_pbar=True)
        finally:  # the host keeps no promise for what was interrupted
            self.patcher.eject_model()
        return inside.result

    @contextmanager
    def _training(self, *, grad: bool) -> Iterator[None]:
        """The loaded network as one that is trained through, in rollouts too: the same kernels, the same numbers."""
        network = self.patcher.model.diffusion_model
        with ExitStack() as stack:
            stack.enter_context(trainable(self.patcher.model))
            if grad and self._checkpointing:
                stack.enter_context(block_checkpointing(network, self.lora))
            stack.enter_context(torch.set_grad_enabled(grad))
            yield

    def _counted(self, apply: Callable, x: Tensor, *rest, **options) -> Tensor:
        self.evaluations += len(x)
        return apply(x, *rest, **options)

    def _with_room(self, prepare: Callable, model: ModelPatcher, shape: Sequence[int], *rest, **options) -> tuple:
        """Ask the host for the memory of a whole micro-batch and its backward pass, not of the one blank latent."""
        return prepare(model, [self._batch * _BACKWARD, *shape[1:]], *rest, **options)

    def using(self, weights: LoraState | None) -> AbstractContextManager[None]:
        """Inside, the velocity is that of ``weights``, or the base model's; the trained tensors are not touched."""
        return self.lora.using(weights)

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1, float32, where the VAE puts them."""
        latents = self.patcher.model.process_latent_out(x.float())
        with torch.set_grad_enabled(grad):
            images = self._decoded_with_gradient(latents) if grad else self.vae.decode(latents)
        images = images.reshape(-1, *images.shape[-3:])  # a video VAE gives one frame
        return images[..., :3].float().clamp(0, 1)

    def _decoded_with_gradient(self, latents: Tensor) -> Tensor:
        """As the host's ``VAE.decode``, which writes into a buffer and so keeps no graph."""
        vae = self.vae
        needed = vae.memory_used_decode(latents.shape, vae.vae_dtype)
        comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
        with trainable(vae.first_stage_model):
            images = vae.first_stage_model.decode(latents.to(vae.device, vae.vae_dtype)).float()
        return (images / 2 + 0.5).movedim(1, -1)

    def parameters(self) -> Iterable[Parameter]:
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

    def export_lora(self, path: Path, metadata: Mapping[str, str], weights: LoraState | None = None) -> Path:
        """Write a file that ComfyUI and diffusers apply as trained: of ``weights``, or of the LoRA as it stands."""
        state = self.lora_state() if weights is None else weights
        self.lora.check(state)
        about = model_metadata(
            architecture=self.family.architecture,
            base_model=self.family.base_model,
            rank=self.lora.rank,
            alpha=self.lora.scale * self.lora.rank,
            resolution=self.resolution,
            precision=str(self.patcher.model.get_dtype_inference()).removeprefix("torch."),
        )
        return save_lora(path, state, scale=self.lora.scale, metadata={**about, **metadata})

    def close(self) -> None:
        """Take the LoRA out of the network and the network off the device."""
        self.patcher.eject_model()
        comfy.model_management.unload_model_and_clones(self.patcher)

    def __enter__(self) -> "HostModel":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Inside(comfy.samplers.Sampler):
    """What the host takes for a sampler: it calls ``body`` with the loaded, conditioned network, keeps the answer."""

    def __init__(self, body: Callable[[Velocity], R], training: AbstractContextManager[None]) -> None:
        self.body, self.training = body, training
        self.result: R

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):  # noqa: E501
        def velocity(x: Tensor, sigma: Tensor) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            sigma = sigma.to(x.device, torch.float32)
            return (x - model_wrap(x, sigma.expand(len(x)), **extra_args)) / sigma

        with self.training:
            self.result = self.body(velocity)
        return noise
