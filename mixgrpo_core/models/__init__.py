"""Models: the port, the LoRA and its files.

Families of models stand on diffusers, which is imported with the first loader that is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..support.collector import uncollected
from .lora_file import LoraFile, load_lora, save_lora
from .policy import Policy
from .port import FlowModel

if TYPE_CHECKING:
    from .families.demo import load_demo
    from .families.loading import load_pipeline
    from .families.sd3 import load_sd3

__all__ = ["FlowModel", "LoraFile", "Policy", "load_demo", "load_lora", "load_pipeline", "load_sd3", "save_lora"]

_LOADERS = {"load_demo": ".families.demo", "load_pipeline": ".families.loading", "load_sd3": ".families.sd3"}


def __getattr__(name: str) -> Any:
    if name in _LOADERS:
        with uncollected():
            module = import_module(_LOADERS[name], __name__)
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
