"""A frozen base in fewer bytes: quantised by a library, read from a GGUF file, or kept in 8-bit floats.

    float8            float8_e4m3fn, no library
    nf4 bitsandbytes  four bits, with a scale for each 64 weights; like float8 after LoRAs are merged into them
    int8 torchao      whole numbers, with a scale for each row, when they are read
    int8 quanto       the same by optimum-quanto

Only the weights of linear layers; what they compute with is as large as ever, and so is the LoRA. And a frozen base of
which fewer bytes are on the device: some of its blocks wait in main memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch.nn import Linear, Parameter

from ...support.paths import user_path
from ...support.quoting import cause, listed
from ...support.ranks import ALONE, Ranks
from ..quantization import BYTES, FLOAT8, LIBRARIES, NF4, QUANTO, TORCHAO, Quantization
from .frozen_linear import keep_in_float8, kept_in_float8, remake_weights
from .nf4 import keep_in_nf4, kept_in_nf4

_DYNAMIC = "DynamicActivation"
_KEPT = {FLOAT8: kept_in_float8, NF4: kept_in_nf4}
N = TypeVar("N", bound=ModelMixin)


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """How the frozen base is to take fewer bytes; not at all by default.

    Attributes:
        quantization: of its linear layers.
        gguf: a file that the network's weights are read from, in place of the folder's.
        offload: how many of its blocks wait in main memory.
        ranks: who hold a part of its blocks each; one alone holds them whole.
    """

    quantization: Quantization | None = None
    gguf: str | Path | None = None
    offload: int = 0
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.quantization is not None and self.gguf is not None:
            raise ValueError(
                f"expected a GGUF file or a quantization, found both ({self.gguf}, {self.quantization}): a GGUF file "
                "is quantised already, leave model.quantization out"
            )
        asked = "model.gguf" if self.gguf is not None else f"model.quantization = {self.quantization!r}"
        if self.ranks.size > 1 and (self.gguf is not None or self.quantization not in (None, FLOAT8)):
            raise ValueError(
                f"expected plain weights or model.quantization = 'float8' with model.sharded, found {asked}: others "
                "cannot be dealt out, leave one of the two out"
            )
        if self.ranks.size > 1 and self.offload:
            raise ValueError(
                f"expected model.offload or model.sharded, found both ({self.offload} blocks wait): leave one out"
            )

    def there(self) -> "Smaller":
        """This, where all that it needs is there. Raises ``ValueError`` that says what is missing."""
        library = "gguf" if self.gguf is not None else LIBRARIES.get(self.quantization)
        if library is not None and not _there(library):
            asked = "model.gguf" if self.gguf is not None else f"model.quantization = {self.quantization!r}"
            package = library.replace(".", "-")
            raise ValueError(f"{asked} needs the library {package}, which is not installed: pip install {package}")
        return self

    def config(self) -> Any:
        """What diffusers is told for reading a folder's weights; None where it reads them as they are."""
        if self.quantization == TORCHAO:
            from diffusers import TorchAoConfig
            from torchao.quantization import Int8WeightOnlyConfig

            return TorchAoConfig(Int8WeightOnlyConfig())
        if self.quantization == QUANTO:
            from diffusers import QuantoConfig

            return QuantoConfig(weights_dtype="int8")
        return None

    def finish(self, network: ModelMixin, compute: torch.dtype, device: torch.device) -> None:
        """What is left to do when the weights are as they stay but for rounding; ``device`` is where that is fast."""
        if self.quantization == FLOAT8:
            keep_in_float8(network, compute)
        elif self.quantization == NF4:
            keep_in_nf4(network, compute, device)
        elif quantised(network):
            remake_weights(network)

    def bytes_of(self, network: ModelMixin, compute: torch.dtype) -> Mapping[Parameter, float]:
        """What each weight will take, of a network that has a shape and maybe no weights."""
        weights = list(network.parameters())
        if self.gguf is not None:  # whose types by layer stand in the file alone
            share = user_path(self.gguf).stat().st_size / sum(weight.numel() for weight in weights)
            return {weight: weight.numel() * share for weight in weights}
        kept = _KEPT[self.quantization](network, compute) if self.quantization in _KEPT else network.modules()
        linear = {id(module.weight) for module in kept if isinstance(module, Linear)}
        each = BYTES.get(self.quantization)
        return {
            weight: weight.numel() * (each if each is not None and id(weight) in linear else weight.element_size())
            for weight in weights
        }


AS_IT_IS = Smaller()


def require_gradient(config: Mapping[str, Any], folder: Path) -> None:
    """Raise for a folder that was saved with a quantisation that lets no gradient through."""
    saved = config.get("quantization_config")
    if saved is not None and _DYNAMIC in json.dumps(saved, default=str):
        raise ValueError(
            f"the weights in {folder} are quantised with dynamic activations, which have no gradient, so that no LoRA "
            "learns through them: take a folder of plain weights, with model.quantization = 'int8 torchao'"
        )


def quantised(network: torch.nn.Module) -> list[str]:
    """The names of the weights that are no plain numbers."""
    return [
        name
        for name, weight in network.named_parameters()
        if type(weight) is not Parameter or not weight.is_floating_point()
    ]


def load_gguf(kind: type[N], folder: Path, file: str | Path, compute: torch.dtype) -> N:
    """The network of a folder's configuration, with the weights of a GGUF file.

    Raises:
        ValueError: the file is not there, cannot be read, or is another model's.
    """
    from diffusers import GGUFQuantizationConfig

    path = user_path(file)
    if not path.is_file():
        raise ValueError(f"expected a GGUF file at {path}, found none: give the path of a .gguf file")
    if path.suffix != ".gguf":
        raise ValueError(f"expected a .gguf file, found {path.name}: safetensors belong into the model folder")
    reader: Any = kind  # a mixin of most classes of networks
    try:
        network: N = reader.from_single_file(
            str(path),
            config=str(folder),
            quantization_config=GGUFQuantizationConfig(compute_dtype=compute),
            torch_dtype=compute,
            local_files_only=True,
        )
    except Exception as error:  # a table of names meets whatever a file holds
        raise ValueError(
            f"{path} does not load as a {kind.__name__} of {folder} ({cause(error)}): take the GGUF file of this model"
        ) from error
    bare = sorted(name for name, weight in network.named_parameters() if weight.is_meta)
    if bare:
        raise ValueError(f"{path} misses {listed(bare)} of a {kind.__name__}: take the GGUF file of this model")
    return network


def _there(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of its parent
        return False
