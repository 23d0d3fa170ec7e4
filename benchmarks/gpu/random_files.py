"""Files of random weights that ComfyUI loads as it loads a user's: transformers by family and number format, and a VAE.

A file is written tensor by tensor, so that making a model of 12 billion weights takes the memory of one layer. To be
imported where a ComfyUI is loaded (``host_here.begin``).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.model import Decoder
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from torch import Tensor

BF16 = "bf16"
SCALED = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8")
"""Formats whose scale is worked out from the weights."""
_HEADER = 2**22  # bytes kept free for it: names are known before their places are
_DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.int8: "I8",
    torch.uint8: "U8",
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A family at a size.

    Attributes:
        config: the host's class.
        unet: the settings that it finds in a file of this size.
        tokens, pooled: shapes of one prompt's conditioning, ``(S, C)`` and width.
        guidance: distilled guidance that the model takes.
    """

    config: type
    unet: Mapping[str, object]
    tokens: tuple[int, int]
    pooled: int
    guidance: float | None = None


def sd3(*, depth: int, context: int, pooled: int, side: int, tokens: int) -> Kind:
    """Stable Diffusion 3.5: width 64 per block, a second attention in the first half."""
    embed = {"target": "torch.nn.Linear", "params": {"in_features": context, "out_features": 64 * depth}}
    unet = {
        "in_channels": 16,
        "patch_size": 2,
        "out_channels": 16,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": pooled,
        "context_embedder_config": embed,
        "num_patches": side**2,
        "pos_embed_max_size": side,
        "pos_embed_scaling_factor": None,
        "qk_norm": "rms",
        "x_block_self_attn_layers": list(range((depth + 1) // 2)),
    }
    return Kind(config=comfy.supported_models.SD3, unet=unet, tokens=(tokens, context), pooled=pooled)


def flux(*, heads: int, double: int, single: int, context: int, pooled: int, tokens: int) -> Kind:
    """FLUX.1-dev: heads of width 128."""
    unet = {
        "image_model": "flux",
        "axes_dim": [16, 56, 56],
        "num_heads": heads,
        "mlp_ratio": 4.0,
        "theta": 10000,
        "out_channels": 16,
        "qkv_bias": True,
        "txt_ids_dims": [],
        "patch_size": 2,
        "in_channels": 16,
        "hidden_size": 128 * heads,
        "context_in_dim": context,
        "vec_in_dim": pooled,
        "depth": double,
        "depth_single_blocks": single,
        "guidance_embed": True,
        "yak_mlp": False,
        "txt_norm": False,
    }
    return Kind(config=comfy.supported_models.Flux, unet=unet, tokens=(tokens, context), pooled=pooled, guidance=3.5)


def kinds(tiny: bool) -> dict[str, Kind]:
    """The families at the sizes of SD3.5 Medium (2.5 billion weights) and FLUX.1-dev (12 billion), or tiny."""
    if tiny:
        return {
            "sd3": sd3(depth=2, context=24, pooled=20, side=16, tokens=7),
            "flux": flux(heads=1, double=1, single=1, context=12, pooled=10, tokens=5),
        }
    return {
        "sd3": sd3(depth=24, context=4096, pooled=2048, side=384, tokens=154),
        "flux": flux(heads=24, double=19, single=38, context=4096, pooled=768, tokens=512),
    }


def write_transformer(path: Path, kind: Kind, form: str, device: torch.device) -> Path:
    """A file with random weights in bfloat16, the linear layers of the blocks in ``form`` where that is another."""
    config = kind.config(dict(kind.unet))
    config.set_inference_dtype(torch.bfloat16, None)
    network = config.get_model({}, "", device=torch.device("meta")).diffusion_model
    layers = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    draw = torch.Generator(device).manual_seed(0)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, like in network.state_dict().items():
            weight = drawn(name, like.shape, draw)
            layer = name.removesuffix(".weight")
            if form == BF16 or layer == name or layer not in layers or "blocks." not in name:
                yield name, weight.to(torch.bfloat16)
                continue
            options = {"scale": "recalculate"} if form in SCALED else {}
            small = QuantizedTensor.from_float(
                weight.to(torch.bfloat16), QUANT_ALGOS[form]["comfy_tensor_layout"], **options
            )
            yield from small.state_dict(name).items()
            yield f"{layer}.comfy_quant", torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)

    return write(path, tensors())


def write_vae(path: Path, channels: int, device: torch.device) -> Path:
    """The decoder of a VAE with 16 latent channels; ``channels`` is 128 for those of SD3 and FLUX."""
    settings = {"z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": channels}
    with torch.device("meta"):
        decoder = Decoder(**settings, ch_mult=[1, 2, 4, 4], num_res_blocks=2, attn_resolutions=[], dropout=0.0)
    draw = torch.Generator(device).manual_seed(1)
    shapes = decoder.state_dict().items()
    return write(path, ((f"decoder.{name}", drawn(name, like.shape, draw)) for name, like in shapes))


def drawn(name: str, shape: torch.Size, draw: torch.Generator) -> Tensor:
    """Random weights with which every layer has a say: matrices keep the size of what they are given, scales near 1."""
    values = torch.randn(shape, generator=draw, device=draw.device)
    if values.ndim > 1:
        return values / math.sqrt(math.prod(shape[1:]))
    scales = "norm" in name or "ln_" in name or name.endswith(("scale", ".weight"))
    return 1 + 0.1 * values if scales else 0.2 * values


def write(path: Path, tensors: Iterator[tuple[str, Tensor]]) -> Path:
    """A safetensors file, tensor by tensor: the length of the header, the header padded with blanks, the values."""
    header, place = {}, 0
    with path.open("wb") as file:
        file.seek(8 + _HEADER)
        for name, tensor in tensors:
            values = tensor.detach().cpu().contiguous()
            file.write(values.reshape(-1).view(torch.uint8).numpy().data)
            begin, place = place, place + values.nbytes
            header[name] = {
                "dtype": _DTYPES[values.dtype],
                "shape": list(values.shape),
                "data_offsets": [begin, place],
            }
        file.seek(0)
        file.write(_HEADER.to_bytes(8, "little") + json.dumps(header).encode().ljust(_HEADER))
    return path
