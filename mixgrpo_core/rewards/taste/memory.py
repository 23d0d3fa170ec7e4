"""What a taste remembers over a run: itself, what was said since it was learnt, and its refreshes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...support.files import make_folder
from .beliefs import Hearing, unheard
from .corrections import Corrections
from .looks import Look
from .opinions import Opinions
from .taste import LEAST, Taste

NEWEST = "taste.safetensors"
"""The newest taste of a run, for others."""

Refresh = dict[str, float]
"""``iteration``, ``images`` that were learnt from, and the shares that are ``right`` and ``ordered``."""


@dataclass
class TasteMemory:
    """A part of the run's state.

    Attributes:
        taste: None while nothing was learnt.
        fresh: opinions since then, and the iteration of each.
        corrected: ballots of corrections that were heard, by id.
        refreshes: those of this run.
        questions: groups that were asked about in this run.
        looked: the last iteration at whose beginning there was a look at what is new.
        hearing: who looks on; not remembered.
    """

    taste: Taste | None = None
    fresh: list[tuple[int, Opinions]] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)
    questions: int = 0
    looked: int = -1
    hearing: Hearing = unheard

    def begin(self, taste: Taste | None) -> None:
        """A run begins."""
        self.taste, self.fresh, self.corrected, self.refreshes = taste, [], [], []
        self.questions, self.looked = 0, -1

    def hear(self, iteration: int, opinions: Opinions) -> None:
        """What was said of a group."""
        self.questions += 1
        if len(opinions):
            self.fresh.append((iteration, opinions))

    def refresh(self, iteration: int, look: Look, corrections: str, *, conditioned: bool) -> None:
        """Learn what was said before this iteration; within one the taste stays as it is.

        Where that tells nothing yet (too few, or all the same) it is kept for the next time.
        """
        if self.looked == iteration:
            return
        self.looked = iteration
        self._hear_corrections(iteration, look, corrections)
        new = [opinions for when, opinions in self.fresh if when < iteration]
        if not new:
            return
        more = Opinions.joined(new)
        if self.taste is not None:
            self.taste = self.taste.refreshed(more)
        else:
            try:
                more.require_enough(LEAST)
            except ValueError:
                return
            self.taste = Taste.learnt(more, look, conditioned=conditioned, sources=("votes of a run",))
        self.fresh = [(when, opinions) for when, opinions in self.fresh if when >= iteration]
        if corrections:
            make_folder(Path(corrections))
            self.taste.save(Path(corrections) / NEWEST)
        told = self.taste.agreement
        self.refreshes.append(
            {
                "iteration": iteration,
                "images": len(self.taste.opinions),
                "right": told.right,
                "majority": told.majority,
                "ordered": told.ordered,
            }
        )

    def _hear_corrections(self, iteration: int, look: Look, folder: str) -> None:
        if folder:
            for id, opinions in Corrections(Path(folder)).heard(iteration, look, self.corrected):
                self.corrected.append(id)
                self.fresh.append((iteration - 1, opinions))

    @property
    def votes(self) -> int:
        """Images with votes that were heard, learnt from or not yet."""
        known = 0 if self.taste is None else len(self.taste.opinions)
        return known + sum(len(opinions) for _, opinions in self.fresh)

    @property
    def figures(self) -> dict[str, float]:
        """For the charts of a run."""
        counted = {"groups_asked": float(self.questions)}
        if self.taste is None:
            return counted
        told = self.taste.agreement
        known = {"images": float(len(self.taste.opinions))}
        if told.thumbs:
            known |= {"right": told.right, "majority": told.majority}
        if told.pairs:
            known["ordered"] = told.ordered
        return counted | known

    def to_values(self) -> dict[str, Any]:
        """As tensors and JSON values, for a checkpoint."""
        return {
            "taste": None if self.taste is None else self.taste.to_values(),
            "fresh": [[when, opinions.to_values()] for when, opinions in self.fresh],
            "corrected": list(self.corrected),
            "refreshes": [dict(one) for one in self.refreshes],
            "questions": self.questions,
            "looked": self.looked,
        }

    def load(self, found: Mapping[str, Any]) -> None:
        """Put back what ``to_values`` gave."""
        self.taste = None if found["taste"] is None else Taste.from_values(found["taste"])
        self.fresh = [(when, Opinions.from_values(values)) for when, values in found["fresh"]]
        self.corrected, self.questions, self.looked = list(found["corrected"]), found["questions"], found["looked"]
        self.refreshes = [dict(one) for one in found["refreshes"]]
