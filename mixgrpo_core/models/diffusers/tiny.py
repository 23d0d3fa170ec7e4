"""A tiny autoencoder from a file or folder: AutoencoderTiny of diffusers, or TAESD's own decoder.

A folder is diffusers'. A file (``.safetensors``, ``.pth``) has diffusers' names (``decoder.layers.0.weight``), those of
TAESD's decoder alone, which is a numbered sequence (``1.weight``, ``3.conv.0.weight``, ...; 0 is its clamp and has no
weights), or ComfyUI's of both halves (``taesd_decoder.1.weight``). Without a configuration the sizes are read off the
shapes. Only what decodes is kept.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from ...support.digests import sampled_digest
from ...support.quoting import cause, listed
from ...support.tensor_files import read_tensors
from .loading import ModelFilesError, Vae, load_network

_RAW = re.compile(r"(?:taesd_decoder\.|decoder\.)?(\d+)\.(.+)")
_PICKLES = (".pth", ".pt")
_OTHERS = ("encoder.", "taesd_encoder.", "vae_scale", "vae_shift")
"""What else such files hold: the half that encodes, and how another program scales latents before it decodes them."""


class TinyVae(Vae, Protocol):
    """An AutoencoderTiny without what only encodes."""

    decoder: nn.Module


def load_tiny(path: Path) -> TinyVae:
    """The tiny autoencoder of a folder or a file, in float32, without what only encodes.

    Raises:
        ModelFilesError: there is none, or it holds another network.
    """
    if path.is_dir():
        network: Any = load_network(path, "AutoencoderTiny", torch.float32)
    else:
        network = _of_file(path)
    network.encoder = None
    made: TinyVae = network.requires_grad_(False).eval()
    return made


def tiny_digest(network: TinyVae) -> str:
    """What tells its weights from others."""
    return sampled_digest(network.decoder.state_dict().items())


def _of_file(path: Path) -> Any:
    tensors = _read(path)
    named = {name: tensor.float() for key, tensor in tensors.items() if (name := _name(key))}
    network: Any = AutoencoderTiny(**_config(named, path))
    expected = network.decoder.state_dict()
    wrong = sorted({*expected} ^ {*named}) or [name for name in named if expected[name].shape != named[name].shape]
    if wrong:
        raise ModelFilesError(
            f"expected the decoder of a TAESD in {path}, found other layers (such as {listed(wrong[:3])}): give the "
            "file of TAESD, TAESDXL, TAESD3 or TAEF1"
        )
    network.decoder.load_state_dict(named)
    return network


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        found = read_tensors(path)[0] if path.suffix not in _PICKLES else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelFilesError(f"expected a tiny autoencoder at {path}, found nothing: correct the path") from error
    except Exception as error:  # whatever readers say of a file that is none
        raise ModelFilesError(
            f"expected a tiny autoencoder in {path}, found what cannot be read ({cause(error)}): get the file again"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(one, Tensor) for one in found.values()):
        raise ModelFilesError(f"expected tensors by name in {path}, found {type(found).__name__}: get the file again")
    return found


def _name(key: str) -> str:
    """The name within diffusers' decoder; empty for what only encodes."""
    if key.startswith("decoder.layers."):
        return key.removeprefix("decoder.")
    if key.startswith(_OTHERS):
        return ""
    found = _RAW.fullmatch(key)
    return f"layers.{int(found[1]) - 1}.{found[2]}" if found else key


def _config(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The sizes of a decoder with these tensors: a stage is some blocks, and a convolution behind them."""
    if "layers.0.weight" not in tensors or tensors["layers.0.weight"].ndim != 4:
        raise ModelFilesError(
            f"expected the decoder of a tiny autoencoder in {path} (names like 1.weight or decoder.layers.0.weight), "
            f"found {listed(sorted(tensors)[:3]) or 'none'}: give a folder of AutoencoderTiny or a TAESD decoder"
        )
    numbers = {int(found[1]) for name in tensors if (found := re.match(r"layers\.(\d+)\.", name))}
    blocks, widths, count = [], [], 0
    for number in sorted(numbers - {0}):
        if f"layers.{number}.conv.0.weight" in tensors:
            count += 1
        elif f"layers.{number}.weight" in tensors:
            blocks.append(count)
            widths.append(tensors[f"layers.{number}.weight"].shape[1])
            count = 0
    return {
        "latent_channels": tensors["layers.0.weight"].shape[1],
        "num_decoder_blocks": tuple(blocks),
        "decoder_block_out_channels": tuple(widths),
    }
