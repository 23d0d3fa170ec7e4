"""A peft LoRA on the block linears of a diffusers transformer, and the one place that says which weights it wears.

Other weights are worn by putting other ``Parameter`` objects into the layers, never by copying into the trained ones:
a graph that was built before keeps the tensors it was built from, so the old policy or the base model may be asked
between the forward and the backward of the policy in training.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

from ..lora_format import DOWN, UP, LoraFile, some
from ..model import LoraState, derive_seed

ADAPTER = "mixgrpo"

SD3_LINEARS = (
    r"transformer_blocks\.\d+\.("
    r"attn2?\.to_[qkv]|attn2?\.to_out\.0"
    r"|attn\.add_[qkv]_proj|attn\.to_add_out"
    r"|ff(_context)?\.net\.(0\.proj|2)"
    r")"
)
"""What the LoRA sits on: attention and MLP of every block. Modulation and final layers do not reach every host."""


class PeftLora:
    """A trainable LoRA in float32 on ``SD3_LINEARS`` of every block; the rest of ``network`` is frozen.

    A fresh LoRA is the base model: B is 0, A uniform in +-1/sqrt(in), drawn from ``seed`` and the layer's name alone.

    Attributes:
        scale: ``alpha / rank``, what the product ``B @ A`` is multiplied with.
        trained: the tensors by name, ``<module>.lora_A.weight [r, in]`` and ``<module>.lora_B.weight [out, r]``.
    """

    def __init__(self, network: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
        if rank < 1 or alpha <= 0:
            raise ValueError(f"expected a LoRA with rank >= 1 and alpha > 0, found rank {rank} and alpha {alpha}")
        if not any(re.fullmatch(SD3_LINEARS, name) for name, _ in network.named_modules()):
            raise ValueError(f"expected the network of SD3 with its transformer_blocks, found {type(network).__name__}")
        network.requires_grad_(False).eval()
        with torch.random.fork_rng(devices=[]):  # peft draws its own start from the global generator; ours replaces it
            network.add_adapter(
                LoraConfig(r=rank, lora_alpha=alpha, target_modules=SD3_LINEARS, bias="none"), adapter_name=ADAPTER
            )
        self.rank = rank
        self.scale = alpha / rank
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}
        self.trained: dict[str, Parameter] = {}
        for name, layer in self._layers.items():
            self.trained[name + DOWN] = Parameter(_start(layer.lora_A[ADAPTER].weight, derive_seed(seed, name)))
            self.trained[name + UP] = Parameter(torch.zeros_like(layer.lora_B[ADAPTER].weight, dtype=torch.float32))
        self._worn: Mapping[str, Parameter] | None = None
        self._wear(self.trained)

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
        """Go on from a LoRA file: the same function as the file's. Layers that it leaves out have B = 0."""
        known = {name: tensor for name, tensor in file.state.items() if name in self.trained}
        if not known:
            raise ValueError(
                f"the LoRA is another architecture's: expected layers as {next(iter(self.trained))}, "
                f"found {some(sorted(file.state))}; use a LoRA of this model"
            )
        if file.rank != self.rank:
            raise ValueError(
                f"expected a LoRA of rank {self.rank}, found rank {file.rank}; build the model with the file's rank"
            )
        effective = {name: tensor / self.scale if name.endswith(UP) else tensor for name, tensor in file.state.items()}
        rest = {
            name: torch.zeros_like(tensor) if name.endswith(UP) else tensor
            for name, tensor in self.state().items()
            if name not in known
        }
        self.load_state({**effective, **rest})

    @contextmanager
    def using(self, weights: LoraState | None) -> Iterator[None]:
        """Inside, the network wears ``weights``, or no LoRA; afterwards what it wore before, the same tensors."""
        frozen = None
        if weights is not None:
            self.check(weights)
            frozen = {
                name: Parameter(weights[name].detach().to(parameter.device, torch.float32), requires_grad=False)
                for name, parameter in self.trained.items()
            }
        with self._wearing(frozen):
            yield

    def check(self, state: LoraState) -> None:
        """Raise unless ``state`` has exactly the names and shapes of this LoRA."""
        missing = [name for name in self.trained if name not in state]
        unknown = [name for name in state if name not in self.trained]
        if missing or unknown:
            told = (("without", missing), ("with unknown", unknown))
            parts = [f"{word} {some(names)}" for word, names in told if names]
            raise ValueError(
                f"expected the {len(self.trained)} tensors of this model's LoRA, found a state {' and '.join(parts)}; "
                f"it belongs to another architecture"
            )
        wrong = [
            f"{name} (expected {list(parameter.shape)}, found {list(state[name].shape)})"
            for name, parameter in self.trained.items()
            if parameter.shape != state[name].shape
        ]
        if wrong:
            raise ValueError(f"the LoRA's shapes are another architecture's or another rank's: {some(wrong)}")

    def checkpointed(self, block: Callable[..., object], *inputs: object) -> object:
        """Run ``block`` without keeping its activations; the backward pass does it again with the LoRA worn now."""
        worn = self._worn

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self._wearing(worn)

        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)

    @contextmanager
    def _wearing(self, choice: Mapping[str, Parameter] | None) -> Iterator[None]:
        before = self._worn
        try:
            self._wear(choice)
            yield
        finally:
            self._wear(before)

    def _wear(self, choice: Mapping[str, Parameter] | None) -> None:
        if choice is self._worn:
            return
        for name, layer in self._layers.items():
            layer.enable_adapters(choice is not None)
            if choice is not None:
                layer.lora_A[ADAPTER].weight = choice[name + DOWN]
                layer.lora_B[ADAPTER].weight = choice[name + UP]
        # peft's switch also turns gradients on and off; a backward pass may be under way, so what is trained stays so
        for parameter in (choice or {}).values():
            parameter.requires_grad_(False)
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self._worn = choice


def attach_lora(
    network: nn.Module,
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


def _start(weight: Tensor, seed: int) -> Tensor:
    bound = 1 / math.sqrt(weight.shape[1])
    drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
    return ((2 * drawn - 1) * bound).to(weight.device)
