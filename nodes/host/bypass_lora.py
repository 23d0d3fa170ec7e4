"""The LoRA on a model of the host: injected as a bypass, so that the base's weights are neither read nor written.

A bypass adapter adds ``h(x)`` to the output of a layer. It works on quantised weights, on weights that the host streams
from memory, and on top of what the MODEL already carries.
"""

from collections.abc import Callable, Mapping

import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection, WrappersMP
from comfy.weight_adapter.base import WeightAdapterTrainBase
from comfy.weight_adapter.bypass import BypassInjectionManager
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import linear

from ...mixgrpo_core.models.lora import Lora
from ...mixgrpo_core.models.lora_layers import USUAL, Layers
from ...mixgrpo_core.models.lora_names import DOWN, UP
from ...mixgrpo_core.support.quoting import listed
from .attention import attention_with_gradient
from .float16_range import Float16Range, compute_dtype
from .lora_names import Layer, block_of, trained_layers
from .streaming import streaming_injection

INJECTION = "mixgrpo_lora"
ATTENTION = "optimized_attention_override"


class PartsAdapter(WeightAdapterTrainBase):
    """The LoRA of one layer: a pair (A, B) for each of its parts, all on the same input.

    The tensors are float32 and no submodules or parameters of this module: the host neither moves nor casts them.
    """

    def __init__(self, layer: Layer, scale: float, float16: Float16Range) -> None:
        super().__init__()
        self._cast = float16.cast
        self._names = [part.name for part in layer.parts]
        self._gaps = _gaps(layer)
        self._scale = scale
        self._active: list[tuple[Parameter, Parameter]] = []

    def activate(self, choice: Mapping[str, Parameter] | None) -> None:
        """Take the layer's tensors out of ``choice``; None takes the LoRA off."""
        self._active = [] if choice is None else [(choice[name + DOWN], choice[name + UP]) for name in self._names]

    def bypass_forward(self, org_forward: Callable[..., Tensor], x: Tensor, *args: object, **options: object) -> Tensor:
        """The layer's own output, and ``h`` added where the LoRA is active."""
        base = org_forward(x, *args, **options)
        return base + self.h(x, base) if self._active else base

    def h(self, x: Tensor, base_out: Tensor) -> Tensor:
        """``scale * B A x`` of all parts side by side ``[..., out]``, computed in the dtype of the activations.

        Rows between the parts stay as they are.
        """
        # rows of a matrix: for more dimensions PyTorch takes another kernel where a gradient is wanted
        rows = x.to(base_out.dtype).reshape(-1, x.shape[-1])
        down = torch.cat([self._cast(a, base_out.dtype) for a, _ in self._active])
        inner = linear(rows, down).chunk(len(self._active), dim=-1)
        outer = [
            linear(piece, self._cast(b, base_out.dtype)) for piece, (_, b) in zip(inner, self._active, strict=True)
        ]
        for place, width in self._gaps:
            outer.insert(place, outer[0].new_zeros(len(rows), width))
        delta = outer[0] if len(outer) == 1 else torch.cat(outer, dim=-1)
        return delta.reshape(base_out.shape) * self._scale

    def passive_memory_usage(self) -> int:
        """Nothing: the trained tensors are not the host's to move."""
        return 0


def _gaps(layer: Layer) -> list[tuple[int, int]]:
    """Where rows without a part lie: the place in the list of all pieces, and how many rows."""
    found: list[tuple[int, int]] = []
    edge = 0
    for number, (start, stop) in enumerate([*((part.start, part.stop) for part in layer.parts), (layer.rows,) * 2]):
        if start > edge:
            found.append((number + len(found), start - edge))
        edge = stop
    return found


class HostLora(Lora):
    """A trainable LoRA on the attention and MLP layers of every block of a model of the host, or on others.

    Names, shapes and fresh values are those of the same LoRA in diffusers.

    Attributes:
        float16: keeps its gradients, where the model computes in float16.
    """

    def __init__(
        self,
        model: BaseModel,
        *,
        rank: int,
        alpha: float,
        seed: int,
        device: torch.device,
        layers: Layers = USUAL,
    ) -> None:
        """Make a fresh LoRA for ``model``; ``attach`` puts it on.

        Raises:
            ValueError: no layer for it to sit on, or rank or alpha are none.
        """
        self._layers = trained_layers(model, layers)
        self.float16 = Float16Range()
        scale = alpha / max(rank, 1)
        self._adapters = {layer.path: PartsAdapter(layer, scale, self.float16) for layer in self._layers}
        sizes = {part.name: (layer.inputs, part.stop - part.start) for layer in self._layers for part in layer.parts}
        super().__init__(sizes, self._into_layers, rank=rank, alpha=alpha, seed=seed, device=device)

    @property
    def blocks(self) -> list[str]:
        """The paths of the model's blocks that hold the LoRA, in order: ``diffusion_model.joint_blocks.0``."""
        return list(dict.fromkeys(block_of(layer.path) for layer in self._layers))

    def attach(self, patcher: ModelPatcher) -> None:
        """Inject the LoRA into ``patcher``, a clone of the user's MODEL; it is active whenever the clone is loaded.

        Raises:
            ValueError: the host did not find some of the layers.
        """
        manager = BypassInjectionManager()
        for path, adapter in self._adapters.items():
            manager.add_adapter(path, adapter)
        ours = manager.create_injections(patcher.model)
        if manager.get_hook_count() != len(self._adapters):
            hooked = {id(hook.adapter) for hook in manager.hooks}
            missing = [path for path, adapter in self._adapters.items() if id(adapter) not in hooked]
            raise ValueError(
                f"expected all {len(self._adapters)} layers of the LoRA in {type(patcher.model).__name__}, missing are "
                f"{listed(missing)}: the LoRA was made for another model"
            )
        patcher.eject_model()  # a clone of a model in use believes that it is injected
        before = [injection for group in patcher.injections.values() for injection in group]
        patcher.injections.clear()
        if compute_dtype(patcher) is torch.float16:
            patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, INJECTION, self.float16.around)
        patcher.set_injections(INJECTION, [_nested([streaming_injection(patcher.model), *before, *ours])])
        options = patcher.model_options.setdefault("transformer_options", {})
        options[ATTENTION] = attention_with_gradient(options.get(ATTENTION))

    def _into_layers(self, choice: Mapping[str, Parameter] | None) -> None:
        for adapter in self._adapters.values():
            adapter.activate(choice)


def _nested(injections: list[PatcherInjection]) -> PatcherInjection:
    """All as one, taken off in the reverse order: the host's order leaves bypasses of one layer behind."""

    def inject(patcher: ModelPatcher) -> None:
        for injection in injections:
            injection.inject(patcher)

    def eject(patcher: ModelPatcher) -> None:
        for injection in reversed(injections):
            injection.eject(patcher)

    return PatcherInjection(inject=inject, eject=eject)
