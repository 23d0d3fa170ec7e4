"""``mixgrpo methods``: the methods that are here, what each needs and costs, and those that are not here."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..settings.config import TrainConfig, differences, to_dict
from ..settings.elsewhere import ELSEWHERE
from ..settings.presets import METHODS, Method
from ..support.spelling import suggest
from ..training.cost import MethodCost, method_cost

_COSTS = (
    "rollout, training: network evaluations per image at the published settings, counted; cost: all of it in forward "
    "passes, DanceGRPO with the same steps and images is 1"
)


@dataclass(frozen=True, kw_only=True)
class MethodsFlags:
    """Attributes:
    preset: one of the presets, to be told in full; without one all are listed.
    json: as JSON, for programs.
    """

    preset: Annotated[str | None, tyro.conf.Positional] = None
    json: bool = False


def methods_command(arguments: Sequence[str]) -> int:
    """``methods [PRESET] [--json]``."""
    flags = tyro.cli(
        MethodsFlags,
        args=arguments,
        prog="mixgrpo methods",
        description="The presets: published methods, and a quick look of our own; what they need and cost.",
    )
    if flags.preset is not None and flags.preset not in METHODS:
        raise ValueError(f"unknown preset {flags.preset!r}; {suggest(flags.preset, METHODS)}")
    chosen = METHODS if flags.preset is None else {flags.preset: METHODS[flags.preset]}
    costs = {name: method_cost(method.config) for name, method in chosen.items()}
    console = Console()
    if flags.json:
        elsewhere = [asdict(work) for work in ELSEWHERE] if flags.preset is None else []
        found = {"methods": [_as_json(chosen[name], costs[name]) for name in chosen], "elsewhere": elsewhere}
        print(json.dumps(found, indent=1))
    elif flags.preset is None:
        console.print(listed(costs), _others())
    else:
        for words in _in_full(chosen[flags.preset], costs[flags.preset]):
            console.print(words, highlight=False, markup=False, soft_wrap=True)
    return 0


def _as_json(method: Method, cost: MethodCost) -> dict[str, object]:
    return {
        "preset": method.preset.__name__,
        "label": method.label,
        "what": inspect.getdoc(method.preset),
        "source": method.source,
        "differs": method.differs,
        "needs": method.needs,
        "cost": asdict(cost),
        "train": to_dict(method.config),
    }


def listed(costs: Mapping[str, MethodCost]) -> Table:
    """A row per method; what it is from and what it needs stands below its name."""
    figures = (Column(head, no_wrap=True) for head in ("rollout", "training", "cost"))
    named = Column("method, source, needs", overflow="fold")
    table = Table(named, Column("preset", no_wrap=True), *figures, caption=_COSTS, box=SIMPLE)
    for name, cost in costs.items():
        method = METHODS[name]
        needs = f"needs {', '.join(method.needs)}" if method.needs else ""
        words = "\n".join(filter(None, (f"[bold]{escape(method.label)}[/]", escape(method.source), needs)))
        table.add_row(words, name, *(f"{number:.2f}" for number in (cost.rollout, cost.training, cost.against_dance)))
    return table


def _others() -> Table:
    table = Table("without a preset", "state", "what it is, or what it takes", "what can be done instead", box=SIMPLE)
    for work in ELSEWHERE:
        table.add_row(work.name, work.state, escape(work.reason), escape(work.instead))
    return table


def _in_full(method: Method, cost: MethodCost) -> list[str]:
    name = method.preset.__name__
    settings = differences(to_dict(TrainConfig()), to_dict(method.config))
    return [
        f"{method.label}: preset {name}",
        "",
        inspect.getdoc(method.preset) or "",
        "",
        f"source: {method.source}",
        f"differs: {method.differs or 'in nothing that is known'}",
        f"needs: {', '.join(method.needs) or 'any model, reward and prompts'}",
        f"per image: {cost.rollout:.2f} network evaluations in the rollout, {cost.training:.2f} in training; "
        f"{cost.against_dance:.2f} of DanceGRPO's cost",
        "",
        "settings that are not the default:",
        *(f"  {line}" for line in settings),
    ]
