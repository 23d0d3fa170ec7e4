"""Make the demo's edit twin from the shipped demo model: draw pairs, train, export. Some minutes on one core.

python scripts/make_demo_edit.py                   # goes on where it was interrupted
"""

import argparse
import json
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_model import edit, export, measure
from demo_model.autoencoder import encode_all
from demo_model.data import to_batch
from demo_model.settings import ROOT, Settings

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.models.families.demo_edit import LORA, MAP, ReferenceMap
from mixgrpo_core.shapes.captions import COLOURS, split_captions
from mixgrpo_core.shapes.drawing import draw

ASSETS = ROOT / "mixgrpo_core" / "assets" / "demo_edit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo_edit", help="checkpoints")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where the two files go")
    found = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    make(Settings(work=found.work), found.assets)


def make(settings: Settings, assets: Path) -> None:
    """Train the twin of the demo model in ``settings.assets``, and write it with its figures."""
    network, autoencoder, encoder = export.read(settings.assets)
    shown, network = edit.train(settings, network, encoder, autoencoder)
    assets.mkdir(parents=True, exist_ok=True)
    lora = {
        f"transformer.{name.replace('.default', '')}": weight.detach().half().contiguous()
        for name, weight in network.named_parameters()
        if "lora_" in name
    }
    save_file(lora, assets / LORA, {"format": "pt"})
    save_file({name: weight.half() for name, weight in shown.state_dict().items()}, assets / MAP, {"format": "pt"})
    report = {"settings": asdict(settings.edit), "figures": figures(network, shown, autoencoder, encoder)}
    (assets / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["figures"]))


@torch.no_grad()
def figures(
    network: SD3Transformer2DModel, shown: ReferenceMap, autoencoder: AutoencoderTiny, encoder: CaptionEncoder
) -> dict[str, Any]:
    """Of repainted drawings of the held-out captions: what is asked for, and how near the right picture they are."""
    captions, choice = split_captions()[1] * 8, np.random.default_rng(9)
    seeds = choice.integers(2**31, size=len(captions))
    before = [replace(one, colour=COLOURS[choice.integers(len(COLOURS))]) for one in captions]
    drawings = [
        torch.from_numpy(
            np.stack([draw(one, np.random.default_rng(seed)) for one, seed in zip(of, seeds, strict=True)])
        )
        for of in (before, captions)
    ]
    shown.latents = encode_all(autoencoder, drawings[0])
    latents = measure.sample(network, encoder, [str(one) for one in captions], torch.Generator().manual_seed(1))
    shown.latents = None
    images = measure.to_images(autoencoder, latents)
    error = (images.permute(0, 3, 1, 2) - to_batch(drawings[1])).square().mean((1, 2, 3))
    told = asdict(measure.figures(images, captions))
    return {**told, "psnr": round((-10 * error.log10()).mean().item(), 2), "images": len(captions)}


if __name__ == "__main__":
    main()
