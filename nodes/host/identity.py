"""Which model a MODEL is, in a few bytes: a run is resumed with the base that it was started with, and no other."""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

_VALUES = 64  # of each tensor: reading every weight would take as long as loading the model


def model_digest(model: ModelPatcher, part: str = "") -> str:
    """A digest of samples of every weight as it was loaded, of the patches (LoRAs) that lie on them, and of the names
    of what else the host carries along with it: bypass LoRAs, wrappers, options.

    ``model`` is that of a MODEL, a CLIP or a VAE; ``part`` is the one of its modules that is meant.
    """
    network = model.model.get_submodule(part)
    prefix = f"{part}." if part else ""
    state = network.state_dict()
    names = sorted(state)
    digest = hashlib.blake2b(repr([(name, tuple(state[name].shape)) for name in names]).encode(), digest_size=8)
    for name in names:
        backup = model.backup.get(prefix + name)  # patches are written into loaded weights
        digest.update(_sample(state[name] if backup is None else backup.weight))
    for key in sorted(model.patches, key=str):
        for strength, patch, base_strength, *_ in model.patches[key]:
            digest.update(repr((str(key), strength, base_strength)).encode())
            for tensor in _tensors(patch):
                digest.update(_sample(tensor))
    digest.update(_carried(model).encode())
    return digest.hexdigest()


def lora_digest(state: Mapping[str, Tensor]) -> str:
    """A digest of samples of a LoRA's tensors."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(state):
        digest.update(name.encode() + _sample(state[name]))
    return digest.hexdigest()


def _carried(model: ModelPatcher) -> str:
    """What is no weight and no patch. By name and number: what it does is closed up in functions."""
    injections = sorted((key, len(found)) for key, found in model.injections.items())
    wrappers = sorted(str(key) for keys in model.wrappers.values() for key in keys)
    options = sorted(map(str, (*model.model_options, *model.model_options.get("transformer_options", {}))))
    return repr((injections, wrappers, options))


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
