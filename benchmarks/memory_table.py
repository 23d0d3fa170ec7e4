"""What full-size networks of ComfyUI hold while they train a LoRA, computed from their architectures alone.

    .host/venv/bin/python benchmarks/memory_table.py [COMFYUI]

No weights are read or made, and nothing is computed but shapes. GiB of one image at 512, 720 and 1024 px, in bfloat16,
a LoRA of rank 32, guidance (two rows an image) where the model wants it.
"""

# ruff: noqa: E402
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "gpu"))
from host_here import ROOT, begin

begin(Path(sys.argv[1]) if sys.argv[1:] else ROOT / ".host" / "ComfyUI-0.30.0")

import comfy.model_patcher
import comfy.supported_models as host
import torch
from mixgrpo_pack.mixgrpo_core.support.activations import PassMemory
from mixgrpo_pack.mixgrpo_core.training.memory_need import lora_bytes
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from mixgrpo_pack.nodes.host.pass_memory import host_pass_memory
from random_files import kinds

SIDES, RANK, CPU = (512, 720, 1024), 32, torch.device("cpu")


def sd3(depth: int, dual: int, places: int) -> Mapping[str, object]:
    """SD3.5: width 64 per block, a second attention in the first ``dual`` blocks."""
    embed = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    return {
        "in_channels": 16,
        "patch_size": 2,
        "out_channels": 16,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": 2048,
        "context_embedder_config": embed,
        "num_patches": places**2,
        "pos_embed_max_size": places,
        "pos_embed_scaling_factor": None,
        "qk_norm": "rms",
        "x_block_self_attn_layers": [*range(dual)],
    }


QWEN = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "axes_dims_rope": (16, 56, 56),
}
TEXT = {"SD3": (154, 4096), "Flux": (256, 4096), "QwenImage": (100, 3584)}
POOLED = {"SD3": 2048, "Flux": 768}
MODELS = {
    "SD3.5 Medium": (host.SD3, sd3(24, 13, 384), 2),
    "SD3.5 Large": (host.SD3, sd3(38, 0, 192), 2),
    "FLUX.1-dev": (host.Flux, kinds(tiny=False)["flux"].unet, 1),
    "Qwen-Image": (host.QwenImage, QWEN, 2),
}


def inputs(kind: str, rows: int) -> dict[str, torch.Tensor]:
    """What the network takes besides latents and time."""
    given = {"c_crossattn": torch.zeros(rows, *TEXT[kind])}
    if kind in POOLED:
        given["y"] = torch.zeros(rows, POOLED[kind])
    return given | ({"guidance": torch.full((rows,), 3.5)} if kind == "Flux" else {})


def row(name: str) -> str:
    config, unet, rows = MODELS[name]
    settings = config(dict(unet))
    settings.set_inference_dtype(torch.bfloat16, None)
    meta = torch.device("meta")
    with meta:
        model = settings.get_model({}, "", device=meta)
    weights = sum(tensor.numel() * 2 for tensor in model.diffusion_model.parameters())
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)
    lora = HostLora(model, rank=RANK, alpha=RANK, seed=0, device=meta)
    lora.attach(patcher)

    def passes(side: int, checkpointing: bool) -> PassMemory:
        frames = (1,) if config is host.QwenImage else ()
        latent = (16, *frames, side // 8, side // 8)
        given = lambda many: inputs(config.__name__, many)  # noqa: E731
        return host_pass_memory(patcher, lora, latent, given, rows=rows, checkpointing=checkpointing)

    on, off = ([passes(side, checkpointing) for side in SIDES] for checkpointing in (True, False))
    cells = [
        gib(weights),
        gib(3 * lora_bytes(lora.trained.values())),
        *(", ".join(gib(found.training.per_image) for found in of) for of in (on, off)),
        ", ".join(gib(found.sampling.per_image) for found in on),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


if __name__ == "__main__":
    for name in MODELS:
        print(row(name), flush=True)
