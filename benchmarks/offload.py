"""Bytes on the device by how many blocks wait in main memory, in one velocity and in one update, counted as they live.

    python benchmarks/offload.py > benchmarks/offload.md

A Stable Diffusion 3.5 of 24 blocks a quarter as wide as the medium one, in float32, one image of 256 x 256, gradient
checkpointing on. The device is the processor: turns work on copies there as on a GPU.
"""

import torch
from diffusers import SD3Transformer2DModel

from mixgrpo_core.models.diffusers.checkpointing import Checkpointing
from mixgrpo_core.models.diffusers.offload import Offload
from mixgrpo_core.models.diffusers.peft_lora import attach_lora
from mixgrpo_core.models.families.sd3 import SD3
from mixgrpo_core.support.live_bytes import LiveBytes

BLOCKS, HEADS, TEXT = 24, 6, 256
MIB = 2**20


def network() -> SD3Transformer2DModel:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=32,
        num_layers=BLOCKS,
        attention_head_dim=64,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        caption_projection_dim=64 * HEADS,
        pooled_projection_dim=TEXT,
        pos_embed_max_size=48,
        qk_norm="rms_norm",
    )


def measured(offload: int) -> tuple[float, float, float, float]:
    """MiB: weights on the device between calls, those that wait, the most in a velocity and in an update."""
    net = network()
    lora = attach_lora(net, SD3.linears, rank=16, alpha=None, seed=0, file=None, default_rank=16)
    whole = sum(weight.numel() * weight.element_size() for weight in net.parameters())
    away = Offload(net, lora, offload, torch.device("cpu"))
    Checkpointing(net, lora).on = True
    x = torch.randn(1, 16, 32, 32)
    told = {
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 333, TEXT),
        "pooled_projections": torch.randn(1, TEXT),
        "return_dict": False,
    }
    for _ in range(2):  # the second time the next block is known
        with torch.no_grad(), LiveBytes() as velocity:
            net(x, **told)
        with LiveBytes() as update:
            net(x, **told)[0].square().mean().backward()
    stay = whole - away.waiting
    return stay / MIB, away.waiting / MIB, (stay + velocity.peak) / MIB, (stay + update.peak) / MIB


def main() -> None:
    print("# Blocks that wait in main memory\n")
    print("`benchmarks/offload.py`: MiB on the device, counted on a processor.\n")
    print("| blocks that wait | weights that stay | that wait | most in a velocity | most in an update |")
    print("|---|---|---|---|---|")
    for offload in (0, 6, 12, 18, 24):
        row = " | ".join(f"{value:.0f}" for value in measured(offload))
        print(f"| {offload} of {BLOCKS} | {row} |", flush=True)


if __name__ == "__main__":
    main()
