"""Writes the tables of README, of the site and of the help pages from the code: kinds, presets, settings and nodes.

    .venv/bin/python scripts/make_docs.py

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what a class is, is the first sentence of its
docstring, and what a setting is, stands in its field. A test compares (``tests/pack/test_docs.py``).
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path

from mixgrpo_core import TrainConfig
from mixgrpo_core.advantages import Area, Credit, PatchFeatures
from mixgrpo_core.evaluation.guards import Guard
from mixgrpo_core.models.facts import FACTS
from mixgrpo_core.models.families.table import FAMILIES
from mixgrpo_core.objectives import ErrorWeight, Objective, Regulariser, StepWeight
from mixgrpo_core.rewards import Reward
from mixgrpo_core.sampling import Kernel, Planner, Solver, Window
from mixgrpo_core.settings.elsewhere import ELSEWHERE
from mixgrpo_core.settings.kinds import REWARDS, SETTINGS, Kinds, label_of, summary
from mixgrpo_core.settings.presets import METHODS
from mixgrpo_core.settings.prompt_sources import PromptSource
from mixgrpo_core.support.setting import settings_of
from mixgrpo_core.support.spelling import spell
from mixgrpo_core.training.cost import method_cost

ROOT = Path(__file__).resolve().parents[1]
_TABLE = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    for page in pages():
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")


def pages() -> list[Path]:
    """The pages that have tables."""
    candidates = [
        ROOT / "README.md",
        *sorted((ROOT / "web" / "docs").glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [page for page in candidates if _TABLE.search(page.read_text(encoding="utf-8"))]


def rewritten(text: str) -> str:
    """A page with its tables as they are now. Raises ``KeyError`` for a table that there is not."""
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def kinds(port: type, listed: Kinds = SETTINGS) -> str:
    """A row per class: the call with its settings, and what it is."""
    rows = [
        (f"`{cls.__name__}({', '.join(item.name for item in fields(cls))})`", summary(cls)) for cls in listed.of(port)
    ]
    return table(("class", "what it is"), rows)


def choices(port: type) -> str:
    """A row per class: its word on the canvas, the class, and what it is."""
    rows = [(label_of(cls), f"`{cls.__name__}`", summary(cls)) for cls in SETTINGS.of(port)]
    return table(("on the canvas", "class", "what it is"), rows)


def presets() -> str:
    """A row per preset: what it is, and in what it is not as published."""
    rows = [(of.label, f"`{name}`", summary(of.preset), of.differs) for name, of in METHODS.items()]
    return table(("method", "preset", "what it is", "what differs"), rows)


@cache
def methods() -> str:
    """A row per method: where it is from, what it needs, and what it costs, counted."""
    rows = []
    for name, of in METHODS.items():
        cost = method_cost(of.config)
        figures = (f"{number:.2f}" for number in (cost.rollout, cost.training, cost.against_dance))
        rows.append((of.label, f"`{name}`", of.source, ", ".join(of.needs), *figures))
    return table(("method", "preset", "source", "needs", "rollout", "training", "cost"), rows)


@cache
def sharing() -> str:
    """A row per plan: what sharing saves, counted by the benchmark."""
    sys.path.append(str(ROOT / "benchmarks"))
    from shared_rows import rows

    found = [(row.plan, row.start, f"{row.rollout:.2f}", f"{row.update:.2f}") for row in rows()]
    return table(("trained steps", "start noise", "rollout", "update"), found)


def elsewhere() -> str:
    """A row per work without a preset."""
    rows = [(work.name, work.state, work.reason, work.instead) for work in ELSEWHERE]
    return table(("work", "state", "what it is, or what it takes", "instead"), rows)


def families() -> str:
    """A row per family of models of the headless trainer."""
    rows, passed = [], json.loads((ROOT / "benchmarks" / "families.json").read_text(encoding="utf-8"))
    for family in FAMILIES:
        own = "" if family.embedded_value is None else f"embedded, {family.embedded_value:g}"
        free = "" if family.guidance is None and family.guider is None else "classifier-free"
        kinds = ("pictures" if family.frames_a_latent is None else "pictures, videos") + (
            ", edits" if family.reads_pictures else ""
        )
        usual = f"{family.facts.steps} steps, guidance {family.facts.cfg:g}"
        pipelines = ", ".join(f"`{name}`" for name in family.pipelines)
        proven = ", ".join(dict.fromkeys(what for name in family.pipelines for what in passed.get(name, ())))
        rows.append((family.name, pipelines, kinds, "; ".join(filter(None, (own, free))), usual, proven or "nothing"))
    return table(("model", "pipeline", "makes", "guidance", "`fitted`", "proven"), rows)


def recipes() -> str:
    """A row per family that people choose by: what ``fitted`` takes."""
    rows = []
    for name, of in FACTS.items():
        guidance = f"{of.cfg:g}" if of.guidance is None else f"{of.guidance:g}, embedded"
        course = (f"{of.prompts}", f"{of.iterations}", f"{of.learning_rate:g}")
        known = "on a CPU" if name == "demo" else "no"
        rows.append((name, f"{of.steps}", f"{of.side}", guidance, f"{of.window}", *course, known))
    head = ("model", "steps", "px", "guidance", "window", "prompts an iteration", "iterations", "learning rate")
    return table((*head, "measured here"), rows)


def settings() -> str:
    """A row per setting of a run."""
    config, rows = TrainConfig(), []
    for name, told in settings_of(TrainConfig):
        value = getattr(config, name)
        default = "" if value is None or value == () or value == {} else f"`{_spelled(value)}`"
        rows.append((f"`{name}`", told.help, told.range.partition(",")[0], default, "yes" if told.may_change else ""))
    return table(("setting", "what it is", "range", "default", "may change on resume"), rows)


def nodes() -> str:
    """A part per node: what it is, and a row per input, as the page shows them."""
    words = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    parts = []
    for node in sorted(words.values(), key=lambda node: node["display_name"]):
        rows = [(f"`{each['name']}`", each.get("tooltip", "")) for each in node.get("inputs", {}).values()]
        inputs = f"\n{table(('input', 'what it is'), rows)}" if rows else ""
        parts.append(f"\n## {node['display_name']}\n\n{node['description']}\n{inputs}")
    return "".join(parts) + "\n"


def _spelled(value: object) -> str:
    """The class of an object without its settings: they are in the class's own table."""
    if isinstance(value, tuple):
        return ", ".join(map(_spelled, value))
    return spell(value) if isinstance(value, int | float | str) else f"{type(value).__name__}()"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "presets": presets,
    "families": families,
    "recipes": recipes,
    "methods": methods,
    "shared rows": sharing,
    "works without a preset": elsewhere,
    "settings": settings,
    "nodes": nodes,
    "planners": lambda: kinds(Planner),
    "windows": lambda: kinds(Window),
    "kernels": lambda: kinds(Kernel),
    "solvers": lambda: kinds(Solver),
    "objectives": lambda: kinds(Objective),
    "step weights": lambda: kinds(StepWeight),
    "regularisers": lambda: kinds(Regulariser),
    "error weights": lambda: kinds(ErrorWeight),
    "areas": lambda: kinds(Area),
    "patches": lambda: kinds(PatchFeatures),
    "credit": lambda: kinds(Credit),
    "prompt sources": lambda: kinds(PromptSource),
    "guards": lambda: kinds(Guard),
    "rewards": lambda: kinds(Reward, REWARDS),
    "choices of objectives": lambda: choices(Objective),
    "choices of kernels": lambda: choices(Kernel),
    "choices of windows": lambda: choices(Window),
}

if __name__ == "__main__":
    main()
