"""A peft LoRA on the block linears of a diffusers transformer."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

from ..lora import Lora, lora_scale
from ..lora_file import LoraFile
from ..lora_names import DOWN, UP

ADAPTER = "mixgrpo"

SD3_LINEARS = (
    r"transformer_blocks\.\d+\.("
    r"attn2?\.to_[qkv]|attn2?\.to_out\.0"
    r"|attn\.add_[qkv]_proj|attn\.to_add_out"
    r"|ff(_context)?\.net\.(0\.proj|2)"
    r")"
)
"""What the LoRA sits on: attention and MLP of every block. Modulation and final layers do not reach every host."""


class PeftLora(Lora):
    """A trainable LoRA on ``SD3_LINEARS`` of every block; the rest of ``network`` is frozen."""

    def __init__(self, network: SD3Transformer2DModel, *, rank: int, alpha: float, seed: int) -> None:
        lora_scale(rank, alpha)
        if not any(re.fullmatch(SD3_LINEARS, name) for name, _ in network.named_modules()):
            raise ValueError(f"expected the network of SD3 with its transformer_blocks, found {type(network).__name__}")
        network.requires_grad_(False).eval()
        with torch.random.fork_rng(devices=[]):  # peft draws its own start from the global generator; ours replaces it
            network.add_adapter(
                LoraConfig(
                    r=rank,
                    lora_alpha=alpha,  # type: ignore[arg-type]  # peft only divides it by the rank, a fraction as well
                    target_modules=SD3_LINEARS,
                    bias="none",
                ),
                adapter_name=ADAPTER,
            )
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}
        downs = {name: layer.lora_A.get_parameter(f"{ADAPTER}.weight") for name, layer in self._layers.items()}
        ups = {name: layer.lora_B.get_parameter(f"{ADAPTER}.weight") for name, layer in self._layers.items()}
        sizes = {name: (downs[name].shape[1], ups[name].shape[0]) for name in self._layers}
        device = next(iter(downs.values())).device
        super().__init__(sizes, self._into_layers, rank=rank, alpha=alpha, seed=seed, device=device)

    def checkpointed(self, block: Callable[..., object], *inputs: object) -> object:
        """Run ``block`` without keeping its activations; the backward pass does it again with the LoRA worn now."""

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self.as_worn_now()

        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)

    def _into_layers(self, choice: Mapping[str, Parameter] | None) -> None:
        for name, layer in self._layers.items():
            layer.enable_adapters(choice is not None)
            if choice is not None:
                layer.lora_A[ADAPTER].weight = choice[name + DOWN]
                layer.lora_B[ADAPTER].weight = choice[name + UP]


def attach_lora(
    network: SD3Transformer2DModel,
    *,
    rank: int | None,
    alpha: float | None,
    seed: int,
    file: LoraFile | None,
    default_rank: int,
) -> PeftLora:
    """A fresh LoRA, or the one of ``file``, whose rank is taken where none is asked for; alpha is 2 rank by default."""
    if rank is None:
        rank = default_rank if file is None else file.rank
    lora = PeftLora(network, rank=rank, alpha=2 * rank if alpha is None else alpha, seed=seed)
    if file is not None:
        lora.load_file(file)
    return lora
