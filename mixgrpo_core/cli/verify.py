"""``mixgrpo verify-rewards``: do the weights that you have behave as they should?

Drawings whose right caption is known are scored with it and with one of another drawing: the scores must lie where the
model's scores lie, and a reward that reads prompts must prefer the right ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..rewards.port import Reward, RewardBatch, RewardInfo, about
from ..rewards.scoring import Failure, score
from ..shapes.captions import Caption
from ..shapes.drawing import PALETTE, coverage
from . import reward_calls
from .flags import IMPORT_WORDS

SIDE = 448
CAPTIONS = (
    "a large red circle in the middle",
    "a large blue square in the middle",
    "a large green triangle in the middle",
    "a large yellow cross in the middle",
)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """Attributes:
    rewards: per name a reward, as in a run file: ``--rewards hps "HPSv2('HPS_v2.1_compressed.pt')"``.
    """

    rewards: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Scores ``[n]`` of the drawings with their own caption and with another's; None where there is none."""

    own: list[float | None]
    other: list[float | None]
    failures: Sequence[Failure]

    @property
    def reads_prompts(self) -> bool:
        return self.own != self.other

    def inside(self, low: float, high: float) -> int:
        return sum(value is not None and low <= value <= high for value in self.own)

    @property
    def preferred(self) -> int:
        """Drawings that score higher with the right caption."""
        pairs = zip(self.own, self.other, strict=True)
        return sum(right is not None and wrong is not None and right > wrong for right, wrong in pairs)


def verify_command(arguments: Sequence[str]) -> int:
    """A table per reward; 1 where one does not behave."""
    flags = tyro.cli(
        VerifyFlags,
        args=arguments,
        prog="mixgrpo verify-rewards",
        description=f"Check the weights of rewards. {IMPORT_WORDS}",
    )
    rewards = reward_calls.made(flags.rewards)
    console, well = Console(), True
    for name, reward in rewards.items():
        found = checked(reward)
        console.print(_table(name, found))
        for words, right in verdicts(found, about(reward)):
            style = None if right else "red"
            console.print(f"{'ok' if right else 'WRONG'}: {words}", highlight=False, markup=False, style=style)
            well &= right
    return 0 if well else 1


def drawings() -> Tensor:
    """``[4, SIDE, SIDE, 3]`` in 0..1: the captions drawn flat on white, always the same."""
    return torch.stack([_drawn(Caption.parse(caption)) for caption in CAPTIONS])


def checked(reward: Reward) -> Checked:
    """Score the drawings. What the reward's files lack is raised."""
    reward.prepare(CAPTIONS)
    images, found = drawings(), []
    for shift in (0, 1):
        prompts = tuple(np.roll(CAPTIONS, shift).tolist())
        found.append(score({"reward": reward}, RewardBatch(images=images, prompts=prompts)))
    own, other = (_plain(scores["reward"]) for scores, _ in found)
    return Checked(own=own, other=other, failures=[failure for _, failures in found for failure in failures])


def verdicts(found: Checked, declared: RewardInfo) -> list[tuple[str, bool]]:
    """Sentences, and whether each is as it should be."""
    count = len(found.own)
    if found.failures:
        return [(str(found.failures[0]), False)]
    said = []
    if declared.expected is not None:
        low, high = declared.expected
        inside = found.inside(low, high)
        said.append((f"{inside} of {count} scores lie in {low:g}..{high:g}", inside == count))
    if found.reads_prompts:
        said.append((f"{found.preferred} of {count} drawings prefer their own caption", found.preferred > count / 2))
    else:
        distinct = len(set(found.own)) > 1
        said.append(("it reads no prompts" + ("" if distinct else " and tells no image from another"), distinct))
    return said


def _plain(scores) -> list[float | None]:
    return [float(v) if ok else None for v, ok in zip(scores.values.tolist(), scores.valid.tolist(), strict=True)]


def _table(name: str, found: Checked) -> Table:
    table = Table("drawing", "with its caption", "with another's", title=escape(name))
    for caption, own, other in zip(CAPTIONS, found.own, found.other, strict=True):
        table.add_row(caption, *("-" if value is None else f"{value:.4f}" for value in (own, other)))
    return table


def _drawn(caption: Caption) -> Tensor:
    alpha = coverage(caption.shape, centre=(SIDE / 2, SIDE / 2), radius=SIDE / 4, side=SIDE)
    covered = torch.from_numpy(np.asarray(alpha, dtype=np.float32))[..., None]
    return (1 - covered) + covered * torch.tensor(PALETTE[caption.colour]) / 255
