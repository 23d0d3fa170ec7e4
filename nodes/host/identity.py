"""Which model a MODEL is, in a few bytes: a run is resumed with the base that it was started with, and no other."""

import hashlib
from collections.abc import Iterator

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

_VALUES = 64  # of each tensor: reading every weight would take as long as loading the model


def model_digest(model: ModelPatcher) -> str:
    """A digest of samples of every weight as it was loaded, and of the patches (LoRAs) that lie on them."""
    state = model.model.diffusion_model.state_dict()
    names = sorted(state)
    digest = hashlib.blake2b(repr([(name, tuple(state[name].shape)) for name in names]).encode(), digest_size=8)
    for name in names:
        backup = model.backup.get(f"diffusion_model.{name}")  # patches are written into loaded weights
        digest.update(_sample(state[name] if backup is None else backup.weight))
    for key in sorted(model.patches, key=str):
        for strength, patch, base_strength, *_ in model.patches[key]:
            digest.update(repr((str(key), strength, base_strength)).encode())
            for tensor in _tensors(patch):
                digest.update(_sample(tensor))
    return digest.hexdigest()


def _tensors(patch: object) -> Iterator[Tensor]:
    """The tensors of a patch: a weight adapter of the host, or nested tuples."""
    if isinstance(patch, Tensor):
        yield patch
    for part in patch if isinstance(patch, tuple | list) else [getattr(patch, "weights", None)]:
        if isinstance(part, Tensor | tuple | list):
            yield from _tensors(part)


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().flatten()
    return flat[:: max(1, flat.numel() // _VALUES)].to("cpu", torch.float32).contiguous().numpy().tobytes()
