"""What is known of a model before it is loaded: names and shapes of the tensors in its file tell the host its class."""

import logging
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import folder_paths
import torch
from comfy.model_detection import convert_diffusers_mmdit, model_config_from_unet, unet_prefix_from_state_dict
from comfy.model_patcher import ModelPatcher
from safetensors import safe_open

from .family import HostFamily, require_flow_model

_log = logging.getLogger(__name__)
FOLDERS = MappingProxyType({"UNETLoader": "diffusion_models", "CheckpointLoaderSimple": "checkpoints"})
"""The host's loaders of models, and where their files are."""
_META = torch.device("meta")


def family_of_file(loader: str, file: str) -> HostFamily | None:
    """What ``require_flow_model`` will say of the model that a loader makes of a file; None where that is not known."""
    path = folder_paths.get_full_path(FOLDERS[loader], file) if loader in FOLDERS else None
    return None if path is None else family_of_path(Path(path))


def family_of_path(path: Path) -> HostFamily | None:
    """The same for a file, which is .safetensors."""
    return _read(path, os.stat(path).st_mtime_ns) if path.suffix == ".safetensors" else None


@lru_cache(maxsize=16)
def _read(path: Path, _written: int) -> HostFamily | None:
    try:
        with torch.inference_mode(False), torch.no_grad():
            return replace(require_flow_model(_without_weights(path)), base_model=path.stem)
    except Exception as error:  # the host's code on a file that it may not know: the page then shows what it can
        _log.info("MixGRPO cannot tell by its file what %s is (%s: %s)", path, type(error).__name__, error)
        return None


def _without_weights(path: Path) -> ModelPatcher:
    """The model as the host makes it, without memory for weights."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: torch.empty(file.get_slice(name).get_shape(), device=_META) for name in file.keys()}  # noqa: SIM118
    prefix = unet_prefix_from_state_dict(shapes)
    prefix = prefix if any(name.startswith(prefix) for name in shapes) else ""
    config = model_config_from_unet(shapes, prefix)
    if config is None:
        shapes, prefix = convert_diffusers_mmdit(shapes, ""), ""
        config = model_config_from_unet(shapes, prefix)
    config.set_inference_dtype(torch.bfloat16, None)
    return ModelPatcher(config.get_model(shapes, prefix, device=_META), load_device=_META, offload_device=_META)
