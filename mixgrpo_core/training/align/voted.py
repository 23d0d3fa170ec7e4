"""Groups that were voted on, with the latents of their images: what is trained on without a rollout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...rewards.people.ballot import Ballot, BallotError, State
from ...rewards.people.ballot_box import BallotBox
from ...rewards.people.final_latents import FinalLatents, LatentsError
from ...rewards.port import Origin

LEAST = 8
"""Votes that are trained on at least."""


@dataclass(frozen=True, kw_only=True)
class Voted:
    """A group that was voted on.

    Attributes:
        name: its ballot's.
        prompt: of its images.
        latents: ``[g, *L]``, those with a vote.
        shares: ``[g]``, how good they are: 1 is up or first, 0 is down or last.
        origin: how they came to be; its ``begun`` is of these images.
    """

    name: str
    prompt: str
    latents: Tensor
    shares: Tensor
    origin: Origin

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Better and worse image of each pair, indices ``[m]``; ties make none."""
        better, worse = (self.shares[:, None] > self.shares[None]).nonzero().unbind(1)
        return better, worse


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the ballots of some folders hold.

    Attributes:
        groups: those that can be trained on.
        without: ballots with votes whose latents were not kept.
        faults: a sentence for each that could not be read.
    """

    groups: Sequence[Voted]
    without: int
    faults: Sequence[str]


def voted_in(folders: Sequence[Path]) -> Found:
    """The ballots of runs, or of folders of ballots. Raises ``ValueError`` for a folder without any."""
    groups, faults, without = [], [], 0
    for folder in folders:
        box = BallotBox(folder / "votes" if (folder / "votes").is_dir() else folder)
        ids = box.ids()
        if not ids:
            raise ValueError(f"expected ballots in {box.folder} (such as 000012-000-3fa4c2d1.json), found none")
        for id in ids:
            try:
                ballot = box.read(id)
                final = FinalLatents.load(box.folder, id) if ballot.votes else None
            except (BallotError, LatentsError, OSError) as error:
                faults.append(str(error))
                continue
            if final is not None and len(final.latents) == ballot.images:
                groups.append(_voted(ballot, final))
            elif ballot.votes:
                without += 1
    return Found(groups=groups, without=without, faults=faults)


def joined(found: Sequence[Found]) -> Found:
    """All of them as one."""
    return Found(
        groups=[group for one in found for group in one.groups],
        without=sum(one.without for one in found),
        faults=[fault for one in found for fault in one.faults],
    )


def _voted(ballot: Ballot, final: FinalLatents) -> Voted:
    values = ballot.way.values(ballot.votes, ballot.images, rest=ballot.state is State.DONE)
    ranked = ballot.way.groupwise
    said = values.isfinite() & ((values != 0) | ranked)
    shares = values if ranked else (values + 1) / 2
    return Voted(
        name=ballot.id,
        prompt=ballot.prompt,
        latents=final.latents[said],
        shares=shares[said],
        origin=replace(final.origin, begun=final.origin.begun_with(ballot.images)[said]),
    )


def require_trainable(
    found: Found, model: str, latent_shape: tuple[int, ...], *, pairs: bool = False, start: bool = False
) -> None:
    """Raise ``ValueError`` with one sentence where a model cannot be trained on these votes.

    Args:
        model: digest of the base model; empty where it is not known.
        latent_shape: of what it makes.
        pairs, start: see `require_votes`.
    """
    require_votes(found, pairs=pairs, start=start)
    for group in found.groups:
        shape = tuple(group.latents.shape[1:])
        if shape != tuple(latent_shape):
            raise ValueError(
                f"the images of ballot {group.name} have latents of shape {list(shape)}, and this model makes "
                f"{list(latent_shape)}: set the height and width of the run that made them, or take its model"
            )
        if model and group.origin.model and group.origin.model != model:
            raise ValueError(
                f"the images of ballot {group.name} were made by another model (digest {group.origin.model}, this one "
                f"is {model}): its velocities are others, so take that model, in ComfyUI for images that were made "
                "there and with mixgrpo align for others"
            )


def require_votes(found: Found, *, pairs: bool = False, start: bool = False) -> None:
    """Raise ``ValueError`` with one sentence where nothing can be learnt from these votes.

    Args:
        pairs: it is trained on pairs.
        start: it asks for the noise that the images began with.
    """
    votes = sum(len(group.shares) for group in found.groups)
    if votes < LEAST:
        lost = (
            f"; {found.without} ballots have votes but no latents, which are kept since this version only"
            if found.without
            else ""
        )
        raise ValueError(f"expected at least {LEAST} votes to train on, found {votes}{lost}: vote on more")
    for group in found.groups:
        if start and not group.origin.starts:
            raise ValueError(
                f"which noise the images of {group.name} began with is not known (an older version kept them, or they "
                "are pictures of a folder): take dpo"
            )
    shares = torch.cat([group.shares for group in found.groups])
    if bool((shares == shares[0]).all()):
        word = "up" if float(shares[0]) == 1 else "down" if float(shares[0]) == 0 else "ties"
        raise ValueError(f"all {votes} votes are {word}: there is nothing to tell apart, vote on others")
    if pairs and not any(len(group.pairs[0]) for group in found.groups):
        raise ValueError(
            "no group has an image that is liked better than another, and this form learns from such pairs: take "
            "nft, which uses every vote"
        )
