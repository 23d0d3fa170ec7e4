"""Standard prompt sets that a user has on disk, each a file, and their images as each set's own scorer reads them."""

from pathlib import Path

from .compbench import T2ICompBench
from .dpg import DPGBench
from .geneval import GenEval
from .hpdv2 import HPDv2
from .port import Item, PromptSet

SETS: tuple[PromptSet, ...] = (GenEval(), HPDv2(), T2ICompBench(), DPGBench())
"""In this order a path is recognised: DPG-Bench, any folder of texts, is last."""


def set_at(path: Path) -> PromptSet:
    """The set that is at ``path``. Raises ``ValueError`` where it is none of them."""
    if not path.exists():
        raise ValueError(f"expected a prompt set at {path}, found nothing: check the path")
    for found in SETS:
        if found.is_at(path):
            return found
    known = "; ".join(f"{one.label}: {one.looks}" for one in SETS)
    raise ValueError(f"expected a standard prompt set at {path}, found something else. Known are {known}")


__all__ = ["SETS", "DPGBench", "GenEval", "HPDv2", "Item", "PromptSet", "T2ICompBench", "set_at"]
