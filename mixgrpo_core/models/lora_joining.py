"""Several LoRAs as one, exactly: their changes of each weight are added up, and so are their ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .lora_file import LoraFile
from .lora_names import DOWN, UP


def joined(files: Sequence[LoraFile], strengths: Sequence[float]) -> dict[str, Tensor]:
    """The state whose ``B @ A`` is the sum of ``strength B @ A`` of the files; a layer need not be in all of them.

    Means of the factors would be another thing: ``mean(B) mean(A)`` is not ``mean(B A)``.

    Raises:
        ValueError: layers of one name and several sizes: the files are of several architectures.
    """
    modules = sorted({name.removesuffix(DOWN) for file in files for name in file.state if name.endswith(DOWN)})
    found: dict[str, Tensor] = {}
    for module in modules:
        having = [(file.state, strength) for file, strength in zip(files, strengths, strict=True)
                  if module + DOWN in file.state]  # fmt: skip
        sizes = {(state[module + UP].shape[0], state[module + DOWN].shape[1]) for state, _ in having}
        if len(sizes) > 1:
            raise ValueError(
                f"the LoRAs are of several architectures: layer {module} has the sizes {sorted(sizes)} in them; join "
                "LoRAs of one model"
            )
        found[module + DOWN] = torch.cat([state[module + DOWN] for state, _ in having])
        found[module + UP] = torch.cat([strength * state[module + UP] for state, strength in having], dim=1)
    return _filled(found, modules)


def _filled(state: Mapping[str, Tensor], modules: Sequence[str]) -> dict[str, Tensor]:
    """All layers at one rank, with zeros in both factors where a layer is not in all files."""
    rank = max(len(state[module + DOWN]) for module in modules)
    whole: dict[str, Tensor] = {}
    for module in modules:
        down, up = state[module + DOWN], state[module + UP]
        lacking = rank - len(down)
        whole[module + DOWN] = torch.cat([down, down.new_zeros(lacking, down.shape[1])])
        whole[module + UP] = torch.cat([up, up.new_zeros(len(up), lacking)], dim=1)
    return whole
