"""TAESD as its author publishes it: a numbered sequence of layers, written out here independently of any reader."""

import torch
from torch import Tensor, nn


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
        self.skip, self.fuse = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(self.conv(x) + self.skip(x))


def taesd_decoder(channels: int, width: int = 64, stages: int = 4, seed: int = 0) -> nn.Sequential:
    """Latents ``[B, C, h, w]`` to pixels in 0..1, with random weights; each stage but the last doubles the sides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [Clamp(), nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(stages - 1):
            layers += [*(Block(width) for _ in range(3)), nn.Upsample(scale_factor=2)]
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False)]
        return nn.Sequential(*layers, Block(width), nn.Conv2d(width, 3, 3, padding=1)).eval()
