"""A large fixed set of drawings: every caption equally often."""

import numpy as np
import torch
from torch import Tensor

from mixgrpo_core.shapes.captions import all_captions
from mixgrpo_core.shapes.drawing import draw

from . import stage
from .settings import Settings


def drawings(settings: Settings) -> Tensor:
    """uint8 images with shape (n, 64, 64, 3); image i shows caption i % 160 of `all_captions()`."""
    path = settings.work / "drawings.pt"
    if not path.exists():
        captions = all_captions()
        generator = np.random.default_rng(settings.seed)
        images = [draw(captions[i % len(captions)], generator) for i in range(settings.drawings)]
        stage.save(path, torch.from_numpy(np.stack(images)))
    return stage.load(path)


def to_batch(images: Tensor) -> Tensor:
    """uint8 (b, h, w, 3) -> float (b, 3, h, w) in 0..1, channels last in memory."""
    return images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
