"""``mixgrpo score``: picture files scored and ranked by rewards."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..evaluation.ranking import Ranking, ranked
from ..rewards.networks.reference_picture import Picture
from ..rewards.port import Context, RewardBatch
from . import reward_calls
from .imports import WORDS

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class ScoreFlags:
    """Attributes:
    pictures: files, or folders of them.
    prompt: of all pictures; a picture with a text file of its name beside it has that one.
    rewards: per name a reward, as in a run file: ``--rewards pick "PickScore('PickScore_v1.safetensors')"``.
    weights: per name of a reward how much it counts in the order; 1 where unnamed.
    reference, mask: picture files for rewards that compare with one.
    json: file for the scores; it must not exist yet.
    """

    pictures: Annotated[tuple[str, ...], tyro.conf.Positional]
    prompt: str = ""
    rewards: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    mask: str | None = None
    json: str | None = None


def score_command(arguments: Sequence[str]) -> int:
    """A table of the pictures, best first."""
    flags = tyro.cli(ScoreFlags, args=arguments, prog="mixgrpo score", description=f"Score and rank pictures. {WORDS}")
    rewards = reward_calls.made(flags.rewards)
    unknown = sorted(flags.weights.keys() - rewards.keys())
    if unknown:
        raise ValueError(f"--weights names {unknown}, but the rewards are {sorted(rewards)}: correct the names")
    files = picture_files(flags.pictures)
    if flags.json is not None and Path(flags.json).exists():
        raise ValueError(f"{flags.json} is there already: choose another --json")
    if flags.json is not None and not Path(flags.json).parent.is_dir():
        raise ValueError(f"expected a folder at {Path(flags.json).parent} for --json, found none: make it first")
    context = Context(
        reference=None if flags.reference is None else read_picture(Path(flags.reference)),
        mask=None if flags.mask is None else read_picture(Path(flags.mask)).mean(-1),
    )
    prompts = {file: _prompt(file, flags.prompt) for file in files}
    batches, order = _batches(prompts, context)
    for reward in rewards.values():  # last, for it may read large files
        reward.prepare(sorted(set(prompts.values())))
    found = ranked(batches, rewards, flags.weights)
    _show(found, order)
    if flags.json is not None:
        Path(flags.json).write_text(json.dumps(_values(found, order), indent=1, allow_nan=False), encoding="utf-8")
    return 0 if any(bool(scores.valid.any()) for scores in found.scores.values()) else 1


def picture_files(places: Sequence[str]) -> list[Path]:
    """The picture files that ``places`` name. Raises ``ValueError`` for one that is none."""
    files: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
            if not inside:
                raise ValueError(f"expected pictures ({', '.join(PICTURES)}) in {place}, found none")
            files += inside
        elif place.is_file():
            files.append(place)
        else:
            raise ValueError(f"expected a picture or a folder at {place}, found nothing: check the path")
    if not files:
        raise ValueError("expected pictures to score: mixgrpo score PICTURE ... --rewards NAME CALL")
    return list(dict.fromkeys(files))


def read_picture(path: Path) -> Tensor:
    """``[H, W, 3]`` in 0..1, as rewards read theirs. Raises ``ValueError`` for a file that is no picture."""
    return Picture(str(path)).image


def _prompt(file: Path, common: str) -> str:
    own = file.with_suffix(".txt")
    try:
        return own.read_text(encoding="utf-8").strip() if own.is_file() else common
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompt in {own} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _batches(prompts: Mapping[Path, str], context: Context) -> tuple[list[RewardBatch], list[Path]]:
    """Pictures of one size and one prompt together, and the files in the order of the batches."""
    pictures = {file: read_picture(file) for file in prompts}
    alike: dict[tuple, list[Path]] = defaultdict(list)
    for file, prompt in prompts.items():
        alike[tuple(pictures[file].shape), prompt].append(file)
    batches = [
        RewardBatch(
            images=torch.stack([pictures[file] for file in files]),
            prompts=(prompt,) * len(files),
            group=group,
            context=context,
        )
        for group, ((_, prompt), files) in enumerate(alike.items())
    ]
    return batches, [file for files in alike.values() for file in files]


def _show(found: Ranking, files: Sequence[Path]) -> None:
    table = Table("", "picture", *map(escape, found.scores))
    for place, i in enumerate(found.order, start=1):
        values = (words.removeprefix(f"{name} ") for name, words in _cells(found, i))
        table.add_row(str(place), escape(files[i].name), *values)
    console = Console()
    console.print(table)
    for failure in found.failures:
        console.print(str(failure), style="yellow", highlight=False, markup=False)


def _cells(found: Ranking, index: int) -> list[tuple[str, str]]:
    return list(zip(found.scores, found.words(index), strict=True))


def _values(found: Ranking, files: Sequence[Path]) -> list[dict[str, object]]:
    """Plain values; None for what was not scored."""

    def of(index: int) -> dict[str, float | None]:
        return {
            name: float(scores.values[index]) if bool(scores.valid[index]) else None
            for name, scores in found.scores.items()
        }

    return [{"picture": str(files[i]), "scores": of(i)} for i in found.order]
