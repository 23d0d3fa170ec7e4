"""Where reward networks live on the canvas: with the host, which moves them out when another model needs the room."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn


class _Held(nn.Module):
    """A network as the host wants to hold one: it writes attributes (``device``) that transformers' models protect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True)
class HostPlacement:
    """The core's ``Placement`` in ComfyUI."""

    @property
    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()

    @property
    def keeps(self) -> bool:
        return True

    @contextmanager
    def holding(self, network: nn.Module) -> Iterator[None]:
        patcher = network.__dict__.get("_mixgrpo_patcher")
        if patcher is None:
            offload = comfy.model_management.unet_offload_device()
            patcher = ModelPatcher(_Held(network), load_device=self.device, offload_device=offload)
            network.__dict__["_mixgrpo_patcher"] = patcher  # lives and dies with the network
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        yield
