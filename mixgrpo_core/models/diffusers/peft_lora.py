"""A peft LoRA on the block linears of a diffusers transformer."""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch.nn import Linear, Module, ModuleList, Parameter
from torch.utils.checkpoint import checkpoint

from ...support.quoting import listed
from ..lora import Lora, lora_scale
from ..lora_file import LoraFile
from ..lora_layers import USUAL, Layers, chosen, covering
from ..lora_names import DOWN, UP

ADAPTER = "mixgrpo"


class PeftLora(Lora):
    """A trainable LoRA on ``layers`` out of those that ``linears`` (a regular expression) names as the usual ones; the
    rest of ``network`` is frozen."""

    def __init__(
        self, network: ModelMixin, linears: str, *, rank: int, alpha: float, seed: int, layers: Layers = USUAL
    ) -> None:
        lora_scale(rank, alpha)
        require_every_block(network, linears)
        all_linear = [name for name, module in network.named_modules() if isinstance(module, Linear)]
        carrying = chosen(layers, usual_layers(network, linears), all_linear)
        network.requires_grad_(False).eval()
        with torch.random.fork_rng(devices=[]):  # peft draws its own start from the global generator; ours replaces it
            network.add_adapter(
                LoraConfig(
                    r=rank,
                    lora_alpha=alpha,  # type: ignore[arg-type]  # peft only divides it by the rank, a fraction as well
                    target_modules="|".join(map(re.escape, carrying)),
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

    def checkpointed(self, block: Callable[..., object], *inputs: object, **named: object) -> object:
        """Run ``block`` without keeping its activations; the backward pass does it again with the weights of now."""

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), self.with_active_weights()

        return checkpoint(
            partial(block, **named), *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )

    def keep_inputs_low(self) -> None:
        """Under autocast: inputs of a low precision stay in it. peft makes float32 of them, of which autocast makes
        the same numbers again."""
        for layer in self._layers.values():
            layer.cast_input_dtype_enabled = False

    @property
    def layers(self) -> frozenset[Module]:
        """The modules that carry it."""
        return frozenset(module for module in self._layers.values() if isinstance(module, Module))

    def _into_layers(self, choice: Mapping[str, Parameter] | None) -> None:
        for name, layer in self._layers.items():
            layer.enable_adapters(choice is not None)
            if choice is not None:
                layer.lora_A[ADAPTER].weight = choice[name + DOWN]
                layer.lora_B[ADAPTER].weight = choice[name + UP]


def usual_layers(network: Module, linears: str) -> set[str]:
    """The names of the modules that ``linears`` matches."""
    return {name for name, _ in network.named_modules() if re.fullmatch(linears, name)}


def require_every_block(network: Module, linears: str) -> None:
    """Raise unless the layers ``linears`` are linear ones, in every block of each list of blocks that has some.

    In a list of blocks of several classes (a UNet's) it is every block of a class of which some have.
    """
    found = {name: module for name, module in network.named_modules() if re.fullmatch(linears, name)}
    if not found:
        raise ValueError(
            f"expected layers for a LoRA under the names {linears}, found none in {type(network).__name__}: this "
            "network is another version's, and a LoRA that sits on nothing learns nothing"
        )
    others = sorted(name for name, module in found.items() if not isinstance(module, Linear))
    if others:
        raise ValueError(
            f"expected linear layers for a LoRA, found others in {type(network).__name__}: {listed(others)}"
        )
    for path, blocks in network.named_children():
        if not isinstance(blocks, ModuleList):
            continue
        has = {place for place, _ in blocks.named_children() if any(n.startswith(f"{path}.{place}.") for n in found)}
        kinds = {type(block) for place, block in blocks.named_children() if place in has}
        bare = [f"{path}.{p}" for p, block in blocks.named_children() if p not in has and type(block) in kinds]
        if bare:
            raise ValueError(f"expected a LoRA in every block of {path}, found none in {listed(bare)}")


def attach_lora(
    network: ModelMixin,
    linears: str,
    *,
    rank: int | None,
    alpha: float | None,
    seed: int,
    file: LoraFile | None,
    default_rank: int,
    layers: Layers | None = None,
) -> PeftLora:
    """A fresh LoRA, or the one of ``file``, whose rank and layers are taken where none are asked for.

    alpha is twice the rank by default.
    """
    if rank is None:
        rank = default_rank if file is None else file.rank
    if layers is None:
        names = () if file is None else {name.removesuffix(DOWN).removesuffix(UP) for name in file.state}
        layers = _covering(network, linears, names)
    alpha = 2 * rank if alpha is None else alpha
    lora = PeftLora(network, linears, rank=rank, alpha=alpha, seed=seed, layers=layers)
    if file is not None:
        lora.load_file(file)
    return lora


def _covering(network: ModelMixin, linears: str, names: Collection[str]) -> Layers:
    """The layers for a file; one of another network's names gets the usual ones, and is then told."""
    known = {name for name, module in network.named_modules() if isinstance(module, Linear)}
    flat = {name.replace(".", "_"): name for name in known}
    named = {flat.get(name, name) for name in names}
    return covering(usual_layers(network, linears), named) if known.issuperset(named) else USUAL
