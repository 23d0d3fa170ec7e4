"""``mixgrpo score``: picture files scored and ranked by rewards."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from ..evaluation.ranking import ImageRanking, in_words, ranking_of, weights_of
from ..rewards.port import Context, Reward, Scores, about
from ..rewards.scoring import Failure, score
from ..rewards.taste.reward import alone
from ..support.files import read_text
from . import reward_calls
from .flags import IMPORT_WORDS
from .picture_files import Read, batches, grouped, picture_files, read_picture
from .stopping import status_of

FEW = 20
"""Pictures that are told of at the end only."""


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
    return scored(
        tyro.cli(
            ScoreFlags, args=arguments, prog="mixgrpo score", description=f"Score and rank pictures. {IMPORT_WORDS}"
        )
    )


def scored(flags: ScoreFlags) -> int:
    """What was asked for, as a table; the exit status."""
    rewards = {name: alone(reward) for name, reward in reward_calls.made(flags.rewards).items()}
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
    groups = grouped(prompts)
    weights = weights_of(rewards, flags.weights)
    for reward in rewards.values():  # last, for it may read large files
        reward.prepare(sorted(set(prompts.values())))
    whole = any(about(reward).groupwise for reward in rewards.values())
    console = Console()
    found = _scored(batches(groups, context, whole=whole), rewards, len(files), console)
    if not found.scores:
        raise ValueError(f"no picture could be read: {found.faults[0]}")
    ranking = ranking_of(found.scores, weights)
    _show(ranking, found.files, console)
    for fault in found.faults:
        console.print(fault, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if flags.json is not None:
        told = json.dumps(_values(ranking, found.files), indent=1, allow_nan=False)
        Path(flags.json).write_text(told, encoding="utf-8")
    if found.stop is not None:
        console.print(f"stopped after {len(found.files)} of {len(files)} pictures", highlight=False)
        return status_of(found.stop)
    return 0 if any(bool(scores.valid.any()) for scores in ranking.scores.values()) else 1


def _prompt(file: Path, common: str) -> str:
    own = file.with_suffix(".txt")
    try:
        return read_text(own).strip() if own.is_file() else common
    except OSError as error:
        raise ValueError(f"cannot read the prompt {own} ({error.strerror}): check its rights") from error


def _scored(reads: Iterable[Read], rewards: Mapping[str, Reward], total: int, console: Console) -> "_Found":
    """Scores of all batches, shown as they come where they are many; those until then when it is interrupted."""
    found = _Found([], [], [])
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        try:
            for read in reads:
                found.faults.extend(read.faults)
                if read.batch is not None:
                    found.scores.append(score(rewards, read.batch))
                    found.files.extend(read.files)
                    if total > FEW:
                        _tell(read.files, found.scores[-1][0], bar.console)
                bar.advance(task, len(read.files) + len(read.faults))
        except KeyboardInterrupt as stop:
            if not found.scores:
                raise
            return replace(found, stop=stop)
    return found


@dataclass(frozen=True)
class _Found:
    files: list[Path]
    scores: list[tuple[dict[str, Scores], list[Failure]]]
    faults: list[str]
    stop: KeyboardInterrupt | None = None


def _tell(files: Sequence[Path], scores: Mapping[str, Scores], console: Console) -> None:
    """A line per picture that has been scored."""
    for place, file in enumerate(files):
        words = ", ".join(in_words(name, values, place) for name, values in scores.items())
        console.print(f"{file.name}: {words}", highlight=False, markup=False, soft_wrap=True)


def _show(found: ImageRanking, files: Sequence[Path], console: Console) -> None:
    table = Table("", "picture", *map(escape, found.scores))
    for place, i in enumerate(found.order, start=1):
        values = (words.removeprefix(f"{name} ") for name, words in _cells(found, i))
        table.add_row(str(place), escape(files[i].name), *values)
    console.print(table)
    for failure in found.failures:
        console.print(str(failure), style="yellow", highlight=False, markup=False)


def _cells(found: ImageRanking, index: int) -> list[tuple[str, str]]:
    return list(zip(found.scores, found.words(index), strict=True))


def _values(found: ImageRanking, files: Sequence[Path]) -> list[dict[str, object]]:
    """Plain values; None for what was not scored."""

    def of(index: int) -> dict[str, float | None]:
        return {
            name: float(scores.values[index]) if bool(scores.valid[index]) else None
            for name, scores in found.scores.items()
        }

    return [{"picture": str(files[i]), "scores": of(i)} for i in found.order]
