"""LoRAs that lie under the one in training: merged into a network's weights, they are the base model from then on.

Files of diffusers' names are read as the LoRA in training is; those of kohya's or ComfyUI's names are turned into these
by the pipeline's own loader.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Linear

from ...support.paths import user_path
from ...support.quoting import cause, listed
from ...support.setting import require_number
from ..lora_file import NATIVE, layer_of
from ..lora_names import DOWN, UP, LoraFileError
from ..lora_reading import PlainLora, plain, read_lora
from ..unet_names import KOHYA, of_a_unet
from .smaller import quantised

Loras = Mapping[str | Path, float]
"""The strength of each file."""


def merge_loras(network: ModelMixin, pipeline: type, loras: Loras) -> None:
    """Add ``strength B A`` of each file to the weights, each layer's in float32 before it is rounded.

    Raises:
        ValueError: a strength that is no number; weights that are quantised.
        LoraFileError: a file that is none, of another model, of layers that are not linear, or of text encoders too.
    """
    rounded = quantised(network) if loras else ()
    if rounded:
        raise ValueError(
            f"expected plain weights to merge {names_of(loras)} into, found quantised ones ({listed(rounded)}): leave "
            "model.loras out, or take the folder's plain weights, with model.quantization = 'float8', which rounds "
            "after they are merged"
        )
    for file, strength in loras.items():
        require_number(f"the strength of {file}", strength)
        _merge(network, _read(file, pipeline), strength, str(file))


def names_of(loras: Loras) -> str:
    """The files and their strengths in a few words: ``a:0.8, b:1``."""
    return ", ".join(f"{Path(file).stem}:{strength:g}" for file, strength in loras.items())


def _read(file: str | Path, pipeline: type) -> PlainLora:
    read = read_lora(file)
    if read.text:
        raise LoraFileError(
            f"{file} changes text encoders too ({listed(sorted(read.text))}), which stay as they are here: take its "
            "version for the network alone"
        )
    return _converted(file, pipeline) if _foreign(read) else read


def _converted(file: str | Path, pipeline: type) -> PlainLora:
    """The file under diffusers' names, by diffusers' own table for this pipeline."""
    convert = getattr(pipeline, "lora_state_dict", None)
    told = "write it in the layout of diffusers with the node MixGRPO Convert LoRA"
    if convert is None:
        raise LoraFileError(f"{pipeline.__name__} reads LoRAs of diffusers' names only, found others in {file}: {told}")
    try:
        made = convert(load_file(user_path(file)))
    except Exception as error:  # a table of names meets whatever a file holds
        raise LoraFileError(
            f"diffusers does not read {file} for {pipeline.__name__} ({cause(error)}): {told}"
        ) from error
    state, alphas = (*made, None)[:2] if isinstance(made, tuple) else (made, None)  # a UNet's are told apart
    told_apart = {name: torch.tensor(float(alpha)) for name, alpha in (alphas or {}).items()}
    found = plain({**state, **told_apart}, {}, str(file))
    if _foreign(found):
        raise LoraFileError(f"{pipeline.__name__} does not read the names in {file}: {told}")
    return found


def _foreign(lora: PlainLora) -> bool:
    """Whether there are names of other tools than diffusers."""
    others = (name for name in lora.tensors if not of_a_unet(layer_of(name)))
    return any(name.startswith((KOHYA, NATIVE)) or not name.endswith((DOWN, UP)) for name in others)


def _merge(network: ModelMixin, lora: PlainLora, strength: float, where: str) -> None:
    modules = dict(network.named_modules())
    flat = {name.replace(".", "_"): name for name, module in modules.items() if isinstance(module, Linear)}
    changes: dict[str, list[Tensor]] = {}
    for name, down in lora.tensors.items():
        up = lora.tensors.get(name.removesuffix(DOWN) + UP)
        if name.endswith(UP) and name.removesuffix(UP) + DOWN in lora.tensors:
            continue
        own = layer_of(name).removesuffix(DOWN)
        changes[flat.get(own, own)] = [down] if up is None or not name.endswith(DOWN) else [down, up]
    wrong = sorted(name for name, pair in changes.items() if not _fits(modules.get(name), pair))
    if wrong:
        raise LoraFileError(
            f"{where} is no LoRA of this {type(network).__name__}, which has no linear layer of that size for "
            f"{listed(wrong)}: use a LoRA of this model"
        )
    with torch.no_grad():
        for name, (down, up) in changes.items():
            weight: Tensor = modules[name].weight  # of a linear layer
            change = strength * (up.to(weight.device).float() @ down.to(weight.device).float())
            weight.copy_(weight.float() + change)


def _fits(module: torch.nn.Module | None, pair: list[Tensor]) -> bool:
    if not isinstance(module, Linear) or len(pair) != 2 or not module.weight.is_floating_point():
        return False
    down, up = pair
    matrices = down.ndim == up.ndim == 2
    return matrices and down.shape[0] == up.shape[1] and (len(up), down.shape[1]) == tuple(module.weight.shape)
