"""Models of the host on meta tensors, at their full width: what they would hold and compute, without doing it."""

import comfy.model_patcher
import torch
from comfy.ldm.modules.attention import attention_pytorch
from mixgrpo_pack.nodes.host.attention import Attention
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from tiny_models import FAMILIES, FLUX, Tiny
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")

FLUX_DEV = FLUX | {
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "hidden_size": 3072,
    "in_channels": 16,
    "out_channels": 16,
    "context_in_dim": 4096,
    "vec_in_dim": 768,
}
"""FLUX.1-dev, but for its number of blocks."""


def flux(pixels: int, *, depth: int, single: int, stored: torch.dtype = torch.bfloat16) -> tuple[Tiny, HostLora]:
    """FLUX.1-dev with fewer blocks, computing in bfloat16, with a LoRA, and one row of ``pixels`` x ``pixels``."""
    family = FAMILIES["FLUX.1 dev"]
    config = family.config(FLUX_DEV | {"depth": depth, "depth_single_blocks": single})
    config.set_inference_dtype(stored, None if stored is torch.bfloat16 else torch.bfloat16)
    with torch.inference_mode(False):
        model = config.get_model({}, "", device=META)
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=META, offload_device=META)
        lora = HostLora(model, rank=32, alpha=32, seed=0, device=META)
        shapes = {"c_crossattn": (512, 4096), "y": (768,), "guidance": ()}
        inputs = {key: torch.empty((1, *shape), device=META, dtype=torch.bfloat16) for key, shape in shapes.items()}
        x = torch.empty((1, 16, pixels // 8, pixels // 8), device=META)
    patcher.model_options["transformer_options"]["optimized_attention_override"] = as_on_a_gpu
    lora.attach(patcher)
    patcher.inject_model()
    return Tiny(patcher=patcher, family=family, x=x, inputs=inputs), lora


def as_on_a_gpu(_own: Attention, *args: object, **options: object) -> torch.Tensor:
    """The host's choice there; its choice on a CPU asks how much memory is free."""
    return attention_pytorch(*args, **options)


class Held(TorchDispatchMode):
    """Counts the bytes of what is made inside of it and is still held by anything."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs))
        given = {tensor.untyped_storage()._cdata for tensor in leaves if torch.is_tensor(tensor)}
        given |= {storage._cdata for storage in leaves if isinstance(storage, torch.UntypedStorage)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor) and tensor.untyped_storage()._cdata not in given:
                storage = tensor.untyped_storage()
                self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def bytes(self) -> int:
        return sum(size for reference, size in self._made.values() if not reference.expired())
