"""``mixgrpo taste``: learn a person's taste from votes and pictures, score pictures by it, say what it knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ..rewards.embedders.similarity import ImageEncoder
from ..rewards.taste import TasteReward
from ..rewards.taste.looks import Look
from ..rewards.taste.sources import Gathered, from_ballots, from_folder
from ..rewards.taste.taste import Taste
from ..settings.kinds import REWARDS, lacking
from ..support.spelling import parse, spell
from . import score
from .flags import IMPORT_WORDS
from .imports import take_imports

_USE = "mixgrpo taste train | score | inspect ... (each has --help)"


def taste_command(arguments: Sequence[str]) -> int:
    """``taste train``, ``taste score``, ``taste inspect``."""
    if not arguments or arguments[0] not in _COMMANDS:
        if arguments and arguments[0] in ("-h", "--help"):
            Console().print(f"usage: {_USE}", highlight=False, markup=False)
            return 0
        raise ValueError(f"expected train, score or inspect, found {arguments[0] if arguments else 'nothing'}: {_USE}")
    return _COMMANDS[arguments[0]](take_imports(arguments[1:]))


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Attributes:
    out: the file to write, ``taste.safetensors``; it must not exist yet.
    votes: run folders, or folders of ballots, whose votes are learnt from, and clicks that said "wrong".
    liked, disliked: folders of pictures; one with a text file of its name beside it has that prompt.
    encoder: what the taste sees of pictures: ``DinoV2('dinov2-base')``, ``ClipImages(...)``, ``SiglipImages(...)``,
        or ``Latents('model/vae')``, colours and edges with the latents of an autoencoder.
    conditioned: whether the words of prompts matter.
    """

    out: Annotated[str, tyro.conf.Positional]
    votes: tuple[str, ...] = ()
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    encoder: str = "ColoursAndEdges()"
    conditioned: bool = True


def _train(arguments: Sequence[str]) -> int:
    flags = tyro.cli(
        TrainFlags, args=arguments, prog="mixgrpo taste train", description=f"Learn a taste from votes. {IMPORT_WORDS}"
    )
    out, console = Path(flags.out), Console()
    if out.exists():
        raise ValueError(f"{out} is there already: choose another file")
    if not out.parent.is_dir():
        raise ValueError(f"expected a folder at {out.parent} for the taste, found none: make it first")
    if not (flags.votes or flags.liked or flags.disliked):
        raise ValueError("expected votes to learn from: --votes RUN, or --liked FOLDER --disliked FOLDER")
    look = Look(_encoder(flags.encoder))
    look.check()
    found = Gathered.joined(
        [
            *(from_ballots(Path(place), look) for place in flags.votes),
            *(from_folder(Path(place), look, liked=True) for place in flags.liked),
            *(from_folder(Path(place), look, liked=False) for place in flags.disliked),
        ]
    )
    for fault in found.faults:
        console.print(fault, style="yellow", highlight=False, markup=False, soft_wrap=True)
    taste = Taste.learnt(found.opinions, look, conditioned=flags.conditioned, sources=found.sources)
    taste.save(out)
    console.print(f"{out}: learnt from {len(taste.opinions)} images", highlight=False, markup=False, soft_wrap=True)
    console.print(taste.agreement.words, highlight=False, markup=False, soft_wrap=True)
    return 0


def _encoder(call: str) -> ImageEncoder:
    found = parse(call, REWARDS.by_name())
    if lacking(type(found), ImageEncoder):
        known = ", ".join(cls.__name__ for cls in REWARDS.of(ImageEncoder))
        raise ValueError(f"expected an encoder of images ({known}), found {call!r}")
    return found


@dataclass(frozen=True, kw_only=True)
class ScoreFlags:
    """Attributes:
    file: of the taste.
    pictures: files, or folders of them.
    prompt: of all pictures; a picture with a text file of its name beside it has that one.
    encoder: what the taste was learnt on, where that is not where it was then.
    json: file for the scores; it must not exist yet.
    """

    file: Annotated[str, tyro.conf.Positional]
    pictures: Annotated[tuple[str, ...], tyro.conf.Positional]
    prompt: str = ""
    encoder: str = ""
    json: str | None = None


def _score(arguments: Sequence[str]) -> int:
    flags = tyro.cli(
        ScoreFlags, args=arguments, prog="mixgrpo taste score", description=f"Rank pictures by a taste. {IMPORT_WORDS}"
    )
    encoder = _encoder(flags.encoder or Taste.load(Path(flags.file)).encoder)
    asked = score.ScoreFlags(
        pictures=flags.pictures,
        prompt=flags.prompt,
        rewards={"taste": spell(TasteReward(file=flags.file, encoder=encoder))},
        json=flags.json,
    )
    return score.scored(asked)


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """Attributes:
    file: of the taste.
    """

    file: Annotated[str, tyro.conf.Positional]


def _inspect(arguments: Sequence[str]) -> int:
    """What it was learnt from, how much it knows, and how honest it is."""
    flags = tyro.cli(InspectFlags, args=arguments, prog="mixgrpo taste inspect", description="What does a taste know?")
    taste, console = Taste.load(Path(flags.file)), Console()
    told, opinions = taste.agreement, taste.opinions
    up = int((opinions.values[~opinions.ranked] > 0).sum())
    thumbs = int((~opinions.ranked).sum())
    lines = [
        f"put on {taste.encoder}",
        f"learnt from {len(opinions)} images of {len(opinions.groups.unique())} groups: {up} up, {thumbs - up} down, "
        f"{len(opinions) - thumbs} ranked; {'; '.join(taste.sources)}",
        f"words that it tells apart: {' '.join(taste.head.words) or 'none, prompts do not matter to it'}",
        told.words,
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if told.bins:
        table = Table("thumbs it had not seen", "how sure of up it was", "how many were up")
        for count, sure, was in told.bins:
            table.add_row(str(count), f"{sure:.0%}", f"{was:.0%}")
        console.print(table)
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType(
    {"train": _train, "score": _score, "inspect": _inspect}
)
