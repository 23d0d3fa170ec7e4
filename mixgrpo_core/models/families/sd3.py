"""Stable Diffusion 3 and 3.5 behind the model port: a diffusers transformer with a LoRA, a VAE, texts.

v(x, sigma) = network(x, t = 1000 sigma, c)                       guidance 1
v           = v_neg + g (v_pos - v_neg)                           guidance g > 1, one doubled batch
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ...support.activations import PassMemory
from ...support.digests import sampled_digest
from ...support.seeds import seeded_noise
from ..diffusers.grid import SchedulerGrid, read_grid
from ..diffusers.loading import (
    ModelFilesError,
    PipelineTexts,
    TextEmbedder,
    Vae,
    load_transformer,
    load_vae,
    read_json,
    require_folder,
)
from ..diffusers.peft_lora import ADAPTER, PeftLora, attach_lora
from ..diffusers.sizes import latent_shape, pixels_per_latent, tokens
from ..lora import WithLora
from ..lora_file import load_lora
from ..lora_metadata import model_metadata
from ..pictures import maps_over_latents, within_0_to_1
from ..port import LoraAbout, R, Velocity
from .kept_texts import KeptTexts
from .sd3_cond import SD3Cond
from .sd3_memory import TEXT_TOKENS, checkpoint_blocks, sd3_memory

_DECODED_PIXELS = 2**20  # decoded at once: the VAE in float32 needs a few GiB for one megapixel


class SD3Model(WithLora[PeftLora]):
    """The flow-model port over an SD3 network.

    Attributes:
        latent_shape, device, evaluations: see the port.
        resolution: ``(H, W)`` of the decoded images.
        guidance: classifier-free guidance scale; 1 is off and costs one evaluation per row, more costs two.
        grid: the folder's own sigmas, by the number of steps.
        lora: the LoRA, its rank and its scale.
        architecture, base_model: the model's names in the header of an exported LoRA.
    """

    min_steps = 4  # what the distilled (turbo) members of the family are made for; below it there is no image

    def __init__(
        self,
        *,
        transformer: SD3Transformer2DModel,
        vae: Vae,
        texts: TextEmbedder,
        lora: PeftLora,
        resolution: tuple[int, int] | None = None,
        guidance: float = 1.0,
        grid: SchedulerGrid = SchedulerGrid(shift=3.0),  # noqa: B008 (frozen)
        compute: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        gradient_checkpointing: bool = False,
        architecture: str = "stable-diffusion-3",
        base_model: str = "",
    ) -> None:
        if not 1 <= guidance < math.inf:
            raise ValueError(f"expected a finite guidance scale of 1 (off) or more, found {guidance}")
        _require_range(compute)
        self.device = torch.device(device)
        self.guidance = guidance
        self.grid = grid
        self.architecture, self.base_model = architecture, base_model
        self.lora = lora
        self.evaluations = 0
        self._compute = compute
        self._transformer = transformer.to(self.device)  # type: ignore[arg-type]  # its wrapped type asks for `self`
        # Convolutions on a CPU run over twice as fast with channels last; the images differ by rounding.
        layout = torch.channels_last
        self._vae = vae.to(self.device, memory_format=layout)  # type: ignore[arg-type]  # as above
        self._texts = texts
        self._embed = KeptTexts(texts)
        side = pixels_per_latent(vae)
        self.resolution = resolution or (transformer.config["sample_size"] * side,) * 2
        self.latent_shape = latent_shape(transformer, side, self.resolution)
        transformer.register_forward_pre_hook(self._count, with_kwargs=True)
        self.checkpointing = gradient_checkpointing

    @cached_property
    def digest(self) -> str:
        """What tells the network's weights from others."""
        weights = self._transformer.named_parameters()
        return sampled_digest((name, weight) for name, weight in weights if f".{ADAPTER}." not in f"{name}.")

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance > 1

    @property
    def lora_about(self) -> LoraAbout:
        """What a file of its LoRA has to know."""
        about = model_metadata(
            architecture=self.architecture,
            base_model=self.base_model,
            rank=self.lora.rank,
            alpha=self.lora.scale * self.lora.rank,
            resolution=self.resolution,
            precision=str(self._compute).removeprefix("torch."),
        )
        return LoraAbout(scale=self.lora.scale, metadata=about)

    def encode(self, prompt: str) -> SD3Cond:
        """The conditioning of one prompt; each text goes through the text encoders once."""
        embeds, pooled = self._embed(prompt)
        if self.guidance == 1:
            return SD3Cond(embeds=embeds, pooled=pooled)
        negative_embeds, negative_pooled = self._embed("")
        return SD3Cond(embeds=embeds, pooled=pooled, negative_embeds=negative_embeds, negative_pooled=negative_pooled)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode every prompt, and let go of the text encoders; a prompt that comes later loads them again.

        Raises ``ValueError`` when a text encoder reads different prompts as one.
        """
        self._embed.prepare([*prompts, *([""] if self.guided else [])])

    def keep_texts(self, folder: Path) -> None:
        """Keep what the text encoders made of prompts in files, and not in main memory. Raises ``OSError``."""
        self._embed.keep_in(folder)

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``."""
        return seeded_noise(seed, (count, *self.latent_shape)).to(self.device)

    @property
    def checkpointing(self) -> bool:
        """Whether each block is computed again in the backward pass instead of keeping what is inside of it."""
        return self._transformer.is_gradient_checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        checkpoint_blocks(self._transformer, self.lora, on)

    def pass_memory(self, *, checkpointing: bool) -> PassMemory:
        """Bytes that one call of the network holds besides the weights, by its images; computed, not measured."""
        return sd3_memory(
            self._transformer,
            self.lora,
            self.latent_shape,
            rows=2 if self.guided else 1,
            compute=self._compute,
            checkpointing=checkpointing,
            text_tokens=self._embed.tokens or TEXT_TOKENS,
        )

    def places(self, maps: Tensor) -> Tensor:
        """Maps over images ``[B, H, W]`` as ``[B, 1, h, w]`` over latents."""
        return maps_over_latents(maps.to(self.device), self.latent_shape)

    def run(self, conds: Sequence[SD3Cond], body: Callable[[Velocity], R]) -> R:
        """Call ``body`` with the velocity field of some prompts."""
        guided = self.guidance > 1
        positive = [(cond.embeds, cond.pooled) for cond in conds]
        parts = [*(self._negative(cond) for cond in conds), *positive] if guided else positive
        context = torch.cat([embeds for embeds, _ in parts]).to(self.device, torch.float32)
        vector = torch.cat([pooled for _, pooled in parts]).to(self.device, torch.float32)

        def velocity(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
            own = torch.zeros(len(x), dtype=torch.long) if rows is None else rows
            own = own.to(self.device)
            both = torch.cat([own, own + len(conds)]) if guided else own
            x = torch.cat([x.float()] * (2 if guided else 1))
            v = self._network(x, sigma.to(x.device, torch.float32), context[both], vector[both])
            if not guided:
                return v
            negative, positive = v.chunk(2)
            return negative + self.guidance * (positive - negative)

        return body(velocity)

    def _negative(self, cond: SD3Cond) -> tuple[Tensor, Tensor]:
        if cond.negative_embeds is None or cond.negative_pooled is None:
            raise ValueError(
                f"expected a conditioning with its negative for guidance {self.guidance}, found none; "
                f"encode the prompt with this model"
            )
        return cond.negative_embeds, cond.negative_pooled

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1, float32."""
        at_once = max(1, _DECODED_PIXELS // (self.resolution[0] * self.resolution[1]))
        latents = x.float() / self._vae.config["scaling_factor"] + (self._vae.config["shift_factor"] or 0.0)
        with torch.set_grad_enabled(grad), torch.autocast(self.device.type, enabled=False):
            parts = [self._vae.decode(part, return_dict=False)[0] for part in latents.split(at_once)]
            return within_0_to_1(torch.cat(parts).permute(0, 2, 3, 1) / 2 + 0.5)

    def _network(self, x: Tensor, sigma: Tensor, context: Tensor, vector: Tensor) -> Tensor:
        # One autocast region per forward and no cache of cast weights: a cached cast outlives the optimizer's step.
        low = None if self._compute == torch.float32 else self._compute
        with torch.autocast(self.device.type, low, enabled=low is not None, cache_enabled=False):
            v = self._transformer(
                hidden_states=x,
                timestep=(sigma * 1000).expand(len(x)),  # exact: truncating it would move the policy off its schedule
                encoder_hidden_states=context,
                pooled_projections=vector,
                return_dict=False,
            )[0]
        return v.float()

    def _count(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Tensor]) -> None:
        if not isinstance(kwargs["hidden_states"], FakeTensor):  # whose memory is being counted
            self.evaluations += len(kwargs["hidden_states"])


def _require_range(compute: torch.dtype) -> None:
    if compute == torch.float16:
        raise ValueError(
            "expected bfloat16 or float32 to compute in, found float16: the gradient of a mean log-probability is "
            "about 1e-8, which is 0 in it. Take dtype=torch.bfloat16"
        )


def load_sd3(
    folder: str | Path,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    resolution: tuple[int, int] | None = None,
    guidance: float = 1.0,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    gradient_checkpointing: bool = False,
    lora: str | Path | None = None,
    seed: int = 0,
    pipeline_grid: bool = False,
) -> SD3Model:
    """Stable Diffusion 3 or 3.5 from a local diffusers folder; nothing is ever downloaded.

    Args:
        rank: of the LoRA; None is the rank of ``lora``, or 32.
        alpha: None is twice the rank.
        resolution: ``(H, W)``; None is the network's own.
        dtype: of the frozen weights and, below float32, of autocast. The LoRA and the VAE stay float32.
        lora: a LoRA file to go on from.
        seed: draws the LoRA's first values.
        pipeline_grid: whether steps lie as in diffusers' own pipeline, whose ends are shifted twice.

    Raises:
        ValueError: float16, in which the gradient would be 0.
        ModelFilesError: the folder is none, or of another pipeline.
    """
    _require_range(dtype)
    folder = Path(folder)
    require_folder(folder, ("model_index.json", "transformer", "vae", "scheduler"))
    found = read_json(folder / "model_index.json").get("_class_name")
    if found != "StableDiffusion3Pipeline":
        raise ModelFilesError(
            f"expected a StableDiffusion3Pipeline in {folder}, found {found}; use a folder of SD3 or SD3.5"
        )
    transformer = load_transformer(folder / "transformer", dtype)
    texts = PipelineTexts(folder, transformer, dtype, torch.device(device))
    file = None if lora is None else load_lora(lora)
    vae = load_vae(folder / "vae")
    return SD3Model(
        transformer=transformer,
        vae=vae,
        texts=texts,
        lora=attach_lora(transformer, rank=rank, alpha=alpha, seed=seed, file=file, default_rank=32),
        resolution=resolution,
        guidance=guidance,
        grid=read_grid(folder / "scheduler", tokens(transformer, vae, resolution), pipeline=pipeline_grid),
        compute=dtype,
        device=device,
        gradient_checkpointing=gradient_checkpointing,
        architecture=_architecture(transformer),
        base_model=folder.name,
    )


def _architecture(transformer: SD3Transformer2DModel) -> str:
    config = transformer.config
    if config["qk_norm"] is None:
        return "stable-diffusion-3-medium"
    return f"stable-diffusion-3.5-{'medium' if config['dual_attention_layers'] else 'large'}"
