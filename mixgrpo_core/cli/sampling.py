"""``mixgrpo sample``: pictures of prompts without a LoRA, with it, and hybrid; same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from PIL import Image
from rich.console import Console

from ..models.port import FlowModel
from ..models.sizes import sized
from ..sampling.ode import decode, sample
from ..settings.grids import grid_of
from ..support.pixels import to_image
from ..support.seeds import derive_seed
from ..views.grids import labelled_grid, strip
from .model_config import ModelConfig
from .pictures import check_counts, check_share, loaded, new_folder, read_words, with_lora

_TALLEST = 256
"""Pixels of a picture in the grid."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """Attributes:
    prompts: prompts themselves, or one path of a prompt file.
    out: folder for the pictures and the labelled grid; new or empty.
    model: the model; ``--model.lora`` is the LoRA.
    steps, shift: the sigma grid; plain ODE. Without a shift it is the model's own grid.
    images: per prompt.
    hybrid: share of the steps with the LoRA on in the hybrid column; None leaves the column out.
    seed: of the starting noise.
    batch: images per network call.
    """

    prompts: tuple[str, ...]
    out: str = "samples"
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 25
    shift: float | None = None
    images: int = 4
    hybrid: float | None = 0.8
    seed: int = 0
    batch: int = 16


def sample_command(arguments: Sequence[str]) -> int:
    """Pictures, one PNG each, and a labelled grid."""
    flags = tyro.cli(SampleFlags, args=arguments, prog="mixgrpo sample", description="Sample with and without a LoRA.")
    check_counts(flags.steps, flags.shift, flags.images, flags.batch)
    shares = _columns(flags)
    prompts, settings = read_words(flags.prompts), with_lora(flags.model, flags.model.lora)
    folder = new_folder(flags.out)
    model = loaded(settings, prompts, flags.steps)
    cells = [_row(sized(model, prompt), prompt, index, shares, flags, folder) for index, prompt in enumerate(prompts)]
    grid = folder / "grid.png"
    labelled_grid(cells, prompts, list(shares), tile=cells[0][0].height).save(grid)
    Console().print(f"{len(prompts) * flags.images * len(shares)} pictures and {grid}", highlight=False, soft_wrap=True)
    return 0


def _columns(flags: SampleFlags) -> dict[str, float]:
    """Per column the share of the steps with the LoRA on."""
    if flags.hybrid is not None:
        check_share("--hybrid", flags.hybrid)
    if flags.model.lora is None:
        return {"base": 0.0}
    hybrid = {} if flags.hybrid is None else {f"hybrid {flags.hybrid:g}": flags.hybrid}
    return {"base": 0.0, "LoRA": 1.0, **hybrid}


def _row(
    model: FlowModel,
    prompt: str,
    index: int,
    shares: Mapping[str, float],
    flags: SampleFlags,
    folder: Path,
) -> list[Image.Image]:
    """One prompt's pictures for the grid, a column per share, from the same noise; each is written as it is."""
    noise = model.noise(derive_seed("sample", flags.seed, index), flags.images)
    sigmas = grid_of(model, flags.steps, flags.shift)
    row = []
    for name, share in shares.items():
        latents = sample(model, model.encode(prompt), noise, sigmas, lora_share=share, batch=flags.batch)
        pictures = decode(model, latents, flags.batch).cpu()
        row.append(strip(pictures, min(_TALLEST, pictures.shape[1] * 2)))
        for number, image in enumerate(pictures):
            to_image(image).save(folder / f"{index:03}-{number}-{name.replace(' ', '-')}.png")
    return row
