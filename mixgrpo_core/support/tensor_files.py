"""Tensors in safetensors files: written whole and straight from where they lie, read without a map that stays."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import replacing

_OS_ERROR = re.compile(r"os error (\d+)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors of the CPU, which share no memory, to ``path``: the file is whole or not there.

    Raises:
        OSError: disk full, read-only folder; the old file is untouched.
    """
    with replacing(path) as beside:
        try:
            save_file(dict(tensors), beside, dict(metadata))
        except SafetensorError as error:  # which keeps the system's own error as text
            number = _OS_ERROR.search(str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def bytes_of(tensor: Tensor) -> memoryview:
    """The numbers of a tensor of the CPU, as they lie in a file."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and the words of its header.

    The tensors are copies: those that safetensors gives keep the file mapped as long as they live, and Windows neither
    deletes nor replaces a mapped file.

    Raises:
        SafetensorError, OSError: it is not a whole file.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, dict(file.metadata() or {})
