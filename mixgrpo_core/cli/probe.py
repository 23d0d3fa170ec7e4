"""``mixgrpo probe-reward``: can a reward be learned from, with this model and these prompts? Asked before a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..evaluation.reward_probe import COLUMNS, Probed, correlations, extremes, probe
from ..evaluation.shown import evenly
from ..models.port import FlowModel
from ..models.sizes import sized
from ..rewards.port import Context, Origin, RewardBatch
from ..rewards.taste.reward import alone
from ..sampling.ode import decode, sample
from ..settings.grids import grid_of
from ..support.seeds import derive_seed
from ..views.grids import labelled_grid
from . import reward_calls
from .flags import IMPORT_WORDS
from .model_config import ModelConfig
from .pictures import check_counts, loaded, new_folder, read_words, with_lora

SHOWN = 8
"""Best and worst images of a sheet."""


@dataclass(frozen=True, kw_only=True)
class ProbeFlags:
    """Attributes:
    prompts: prompts themselves, or one path of a prompt file.
    rewards: per name a reward, as in a run file.
    out: folder for the sheets of the best and the worst images; new or empty.
    model: the model; ``--model.lora`` is a LoRA to start from.
    most: prompts that are looked at, evenly from all.
    images: per prompt.
    steps, shift: the sigma grid; plain ODE. Without a shift it is the model's own grid.
    seed: of the starting noise.
    batch: images per network call.
    """

    prompts: tuple[str, ...]
    rewards: dict[str, str]
    out: str = "probe"
    model: ModelConfig = field(default_factory=ModelConfig)
    most: int = 8
    images: int = 8
    steps: int = 25
    shift: float | None = None
    seed: int = 0
    batch: int = 16


def probe_command(arguments: Sequence[str]) -> int:
    """Figures, a sentence and a sheet for each reward; 1 where none of them can be learned from."""
    flags = tyro.cli(
        ProbeFlags,
        args=arguments,
        prog="mixgrpo probe-reward",
        description=f"Can these rewards be learned from, with this model and these prompts? {IMPORT_WORDS}",
    )
    check_counts(flags.steps, flags.shift, flags.images, flags.batch)
    if flags.most < 1 or flags.images < 2:
        raise ValueError(
            f"expected one prompt and two images of it at least, found --most {flags.most} --images {flags.images}"
        )
    prompts = evenly(read_words(flags.prompts), flags.most)
    rewards = {name: alone(reward) for name, reward in reward_calls.made(flags.rewards).items()}
    folder = new_folder(flags.out)
    for reward in rewards.values():
        reward.prepare(prompts)
    model = loaded(with_lora(flags.model, flags.model.lora), prompts, flags.steps)
    batches = [_images(model, prompt, number, flags) for number, prompt in enumerate(prompts)]
    found, console = probe(rewards, batches, flags.seed), Console()
    _table(found, console)
    for one in found:
        sheet = folder / f"{one.name}.png"
        _sheet(one, batches).save(sheet)
        words = f"{one.name}: can this be learned from? {one.sentence}. Its best and worst: {sheet}"
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    return 0 if any(one.learnable or one.sentence.startswith("with") for one in found) else 1


def _images(model: FlowModel, prompt: str, number: int, flags: ProbeFlags) -> RewardBatch:
    model = sized(model, prompt)
    sigmas, seed = grid_of(model, flags.steps, flags.shift), derive_seed("probe", flags.seed, number)
    noise = model.noise(seed, flags.images)
    latents = sample(model, model.encode(prompt), noise, sigmas, batch=flags.batch)
    return RewardBatch(
        images=decode(model, latents, flags.batch).cpu(),
        prompts=(prompt,) * flags.images,
        group=number,
        context=Context(seed=seed),
        latents=latents,
        origin=Origin(seed=seed, sigmas=sigmas, model=model.digest),
    )


def _table(found: Sequence[Probed], console: Console) -> None:
    table = Table(*COLUMNS)
    for one in found:
        table.add_row(*one.row)
    console.print(table)
    for words in correlations(found):
        console.print(words, highlight=False, markup=False, soft_wrap=True)


def _sheet(one: Probed, batches: Sequence[RewardBatch]) -> Image.Image:
    """The best images above the worst, each with its score and its prompt's number."""
    rows = [places for places in extremes(one, SHOWN) if places]
    cells = [[batches[prompt].images[image] for prompt, image in places] for places in rows]
    captions = [[f"{float(one.scores[prompt].values[image]):.3g} ({prompt + 1})" for prompt, image in p] for p in rows]
    return labelled_grid(cells, ["best", "worst"][: len(rows)], [""] * max(map(len, rows), default=0), captions)
