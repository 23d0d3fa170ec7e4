"""Two LoRAs of the demo model that the command line and the canvas compare: the same files, prompts, noise, figures."""

import json
from pathlib import Path

import torch

STEPS, IMAGES, SEED = 6, 2, 5
REWARDS = {"shape": "ShapeReward()", "bright": "PixelReward(Brightness(), More())"}
FIGURES = json.loads((Path(__file__).parent / "data/compared.json").read_text())
"""Per reward the figures of A and of B, as ``mixgrpo evaluate`` writes them."""
NEAR = 2e-3
"""What figures may differ by: the two homes round differently."""


def two_loras(folder: Path, load_demo, save_lora) -> list[Path]:
    """LoRA files of ranks 2 and 3, by the caller's copy of the core."""
    made = []
    for name, rank in {"one": 2, "two": 3}.items():
        draw = torch.Generator().manual_seed(rank)
        state = {
            key: torch.randn(of.shape, generator=draw) / 8 for key, of in load_demo(rank=rank).lora_state().items()
        }
        made.append(save_lora(folder / f"{name}.safetensors", state))
    return made
