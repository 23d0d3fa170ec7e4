"""Decoders of planes are held with channels last: the same images up to the rounding named in benchmarks/levers.md."""

from pathlib import Path

import pytest
import tiny_pipelines
import torch
from tiny_pipelines import opened

from mixgrpo_core.models.families.demo import load_demo

ROUNDING = 1e-5
"""Of the largest pixel."""


def contiguous(vae: torch.nn.Module, layout: torch.memory_format) -> bool:
    return all(w.is_contiguous(memory_format=layout) for w in vae.parameters() if w.ndim == 4 and w.shape[2] > 1)


@pytest.mark.parametrize("name", ["the demo", "flux-dev"])
def test_images_are_those_of_the_usual_layout(name: str, tmp_path: Path) -> None:
    folder = None if name == "the demo" else tiny_pipelines.make_folder(name, tmp_path)
    placed, usual = (load_demo() if folder is None else opened(folder) for _ in range(2))
    usual._pipe.vae.to(memory_format=torch.contiguous_format)
    last = torch.channels_last
    assert contiguous(placed._pipe.vae, last) and not contiguous(usual._pipe.vae, last)
    latents = placed.noise(0, 5)
    found, expected = placed.decode(latents), usual.decode(latents)
    assert expected.std() > 0.01, "pictures of one colour would prove nothing"
    assert (found - expected).abs().max() <= ROUNDING * expected.max()
    low = placed.decode_low(latents) - usual.decode_low(latents)
    assert low.abs().max() <= 2 * 2**-8, "in bfloat16 up to its own rounding"


def test_decoders_of_videos_keep_their_layout(tmp_path: Path) -> None:
    model = opened(tiny_pipelines.make_folder("wan", tmp_path))
    weights = [weight for weight in model._pipe.vae.parameters() if weight.ndim == 5]
    assert weights and all(weight.is_contiguous() for weight in weights)
