"""Where opinions come from: ballots of runs, and folders of pictures that are liked and disliked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...support.files import read_text
from ...support.pixels import PICTURES
from ..networks.reference_picture import Picture
from ..people.ballot import Ballot, BallotError, State
from ..people.ballot_box import BallotBox
from .looks import Look
from .opinions import Opinions


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Opinions, where they are from, and what was wrong with others.

    Attributes:
        sources: a few words each.
        faults: a sentence each.
    """

    opinions: Opinions
    sources: tuple[str, ...]
    faults: tuple[str, ...]

    @classmethod
    def joined(cls, parts: Iterable["Gathered"]) -> "Gathered":
        """All of ``parts``."""
        parts = list(parts)
        return cls(
            opinions=Opinions.joined(part.opinions for part in parts),
            sources=tuple(word for part in parts for word in part.sources),
            faults=tuple(word for part in parts for word in part.faults),
        )


def from_ballots(folder: Path, look: Look) -> Gathered:
    """What was voted in a run, with the clicks that said that a taste was wrong, or in a folder of ballots.

    Raises:
        ValueError: there are no ballots.
    """
    places = [place for place in (folder / "votes", folder / "taste") if place.is_dir()] or [folder]
    boxes = [box for box in map(BallotBox, places) if box.ids()]
    if not boxes:
        raise ValueError(f"expected ballots in {places[0]} (such as votes/000012-000-3fa4c2d1.json), found none")
    return Gathered.joined(_from_box(box, look) for box in boxes)


def _from_box(box: BallotBox, look: Look) -> Gathered:
    parts, faults, without, voted = [], [], 0, 0
    for id in box.ids():
        try:
            ballot = box.read(id)
        except (BallotError, OSError) as error:
            faults.append(str(error))
            continue
        if not ballot.votes:
            continue
        voted += 1
        files = box.pictures(id)
        if len(files) != ballot.images:
            without += 1
            continue
        try:
            parts.append(opinions_of(ballot, [read_picture(file) for file in files], look))
        except ValueError as error:
            faults.append(str(error))
    if without:
        faults.append(
            f"{without} of {voted} ballots in {box.folder} have no pictures any more: only those of the last ballots "
            "are kept"
        )
    found = Opinions.joined(parts)
    return Gathered(opinions=found, sources=(f"{len(found)} votes of {box.folder}",), faults=tuple(faults))


def opinions_of(ballot: Ballot, images: Sequence[Tensor], look: Look) -> Opinions:
    """What a ballot says of its ``images``, each ``[H, W, 3]``. Raises ``ValueError`` for several sizes."""
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the pictures of ballot {ballot.id} are of several sizes: they are not as the run wrote them")
    values = ballot.way.values(ballot.votes, ballot.images, rest=ballot.state is State.DONE)
    said = [place for place, known in enumerate(values.isfinite().tolist()) if known]
    features = look.features(torch.stack([images[place] for place in said]))
    return Opinions.of_group(features, values[said], ballot.prompt, ranked=ballot.way.groupwise)


def from_folder(folder: Path, look: Look, *, liked: bool) -> Gathered:
    """Pictures that are liked, or not; one with a text file of its name beside it has that prompt.

    Raises:
        ValueError: it is no folder, or holds no picture that can be read.
    """
    word = "liked" if liked else "disliked"
    if not folder.is_dir():
        raise ValueError(f"expected a folder of {word} pictures at {folder}, found none: check the path")
    parts, faults = [], []
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES):
        try:
            features = look.features(read_picture(file)[None])
        except ValueError as error:
            faults.append(str(error))
            continue
        value = torch.tensor([1.0 if liked else -1.0])
        parts.append(Opinions.of_group(features, value, _prompt(file), ranked=False))
    if not parts:
        raise ValueError(
            f"expected pictures ({', '.join(PICTURES)}) in {folder}, found none that can be read"
            + (f": {faults[0]}" if faults else "")
        )
    return Gathered(
        opinions=Opinions.joined(parts), sources=(f"{len(parts)} {word} pictures of {folder}",), faults=tuple(faults)
    )


def read_picture(file: Path) -> Tensor:
    """``[H, W, 3]`` in 0..1. Raises ``ValueError`` for a file that is no picture."""
    return Picture(str(file)).image


def _prompt(file: Path) -> str:
    own = file.with_suffix(".txt")
    return read_text(own).strip() if own.is_file() else ""
