"""Short names for contents: of many tensors or files without reading them all, of pictures and texts."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_SAMPLES = 64
_BLOCK = 4096  # bytes


def sampled_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """16 hex digits of names, shapes, dtypes and ``_SAMPLES`` evenly spaced values of each tensor."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors:
        flat = tensor.detach().flatten()
        places = torch.linspace(0, max(len(flat) - 1, 0), min(_SAMPLES, len(flat)), device=flat.device).long()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(flat[places].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def picture_digest(picture: Tensor) -> str:
    """16 hex digits of all of a picture: two that differ in one corner are two."""
    numbers = picture.detach().float().cpu().contiguous().numpy()
    return hashlib.blake2b(numbers.tobytes() + str(numbers.shape).encode(), digest_size=8).hexdigest()


def text_digest(text: str) -> str:
    """16 hex digits of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """16 hex digits of the names below ``root``, the sizes and ``_SAMPLES`` evenly spaced blocks of each file."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in files if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root).as_posix()} {size} ".encode())
        with file.open("rb") as opened:
            for number in range(_SAMPLES):
                opened.seek(max(0, size - _BLOCK) * number // (_SAMPLES - 1))
                digest.update(opened.read(_BLOCK))
    return digest.hexdigest()


def plain_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors of numbers that a tensor is made of: its own, or those of a quantised one."""
    if not is_traceable_wrapper_subclass(tensor):
        yield name, tensor
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield from plain_parts(f"{name}.{part}", getattr(tensor, part))
