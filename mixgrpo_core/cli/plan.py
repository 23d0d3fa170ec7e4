"""``mixgrpo plan``: what is trained when, and what it costs; without a model, unless a step of it is to be timed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..settings.config import TrainConfig
from ..settings.pictures import References
from ..settings.prompts import Prompts
from ..support.sized import typical
from ..training.cost import IterationCost, iteration_cost, stretches
from ..training.forecast import UNKNOWN, Forecast, foretold, from_earlier
from ..training.run_cost import RunCost, run_cost
from ..training.workload import Workload
from ..views.figures import plan_figure
from . import plan_ranks
from .memory import memory_words
from .settings import RunConfig, parse_flags, read_toml
from .training import workload


def plan_command(arguments: Sequence[str]) -> int:
    """``plan [RUN.toml] [flags]``: a table on the terminal and ``plan.png``."""
    with_file = bool(arguments) and not arguments[0].startswith("-")
    default = read_toml(arguments[0]) if with_file else RunConfig(out=".")
    ranks, rest = plan_ranks.taken(arguments[int(with_file) :])
    timed, rest = _TIMED in rest, [word for word in rest if word != _TIMED]
    settings = parse_flags(
        default,
        rest,
        "mixgrpo plan [RUN.toml]",
        "Show what a run would train, and its cost; --ranks N: what N processes would share; --timed: where no run of "
        "this model is beside it, load the model and time one step (the demo's is timed anyway).",
    )
    console = Console()
    target = Path(settings.out).with_suffix("") if settings.out != "." else Path(".")
    picture = Path(f"{target}-plan.png") if settings.out != "." else Path("plan.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    costs = count_costs(settings.train, 2 if settings.model.guidance > 1 else 1)
    plan_figure(settings.train, picture, caption=costs.caption)
    console.print(costs.table())
    if settings.train.endless:
        console.print(f"it goes on until it is stopped; this is of its first {settings.train.foreseen} iterations")
    console.print(f"picture: {picture}", highlight=False)
    known = _known(settings, ranks, timed)
    console.print(UNKNOWN if known is None else known.words, highlight=False, soft_wrap=True)
    for words in filter(None, (plan_ranks.words(settings.train, ranks), memory_words(settings, ranks))):
        console.print(words, highlight=False, soft_wrap=True)
    return 0


_TIMED = "--timed"


def _known(settings: RunConfig, ranks: int, timed: bool) -> Forecast | None:
    """How long the run will take: by earlier runs beside its folder, else by a step of the model, where that is asked
    for or the model is the demo's."""
    beside = Path(settings.out).absolute().parent
    try:
        setup, prompts = settings.setup(), settings.make_prompts()
        work, runs = workload(settings, prompts, ranks), beside.iterdir() if beside.is_dir() else ()
        known = from_earlier(work, runs, setup)
        if known is not None or not (timed or settings.model.shipped):
            return known
        return _timed(settings, prompts, work, setup)
    except (ValueError, OSError):  # no prompts or rewards yet, or none that fit: a plan needs none
        if timed:
            raise
        return None


def _timed(settings: RunConfig, prompts: Prompts, work: Workload, setup: Mapping[str, Any]) -> Forecast:
    """By a step of the model, which is loaded for it."""
    rewards, model = settings.make_rewards(), settings.make_model()
    usual = typical(prompts.train, model.resolution)
    for reward in rewards.values():
        reward.prepare([usual])
    model.take_pictures(References(prompts.contexts))
    model.prepare([usual])
    return foretold(work, model, usual, (), setup, rewards=rewards)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Iterations ``first`` to ``last``, which train the same ``steps`` (None: changing ones) at the same ``cost``."""

    first: int
    last: int
    steps: tuple[int, ...] | None
    cost: IterationCost


@dataclass(frozen=True, kw_only=True)
class PlanCosts:
    """What a run costs, counted: in stretches for a table, and as a whole."""

    stretches: Sequence[Stretch]
    run: RunCost

    @property
    def whole(self) -> float:
        """Cost of the run, DanceGRPO's is 1."""
        return self.run.share

    @property
    def caption(self) -> str:
        """The figures of the run in one line."""
        return (
            f"network evaluations per image: rollout {self.run.span('rollout')}, training {self.run.span('train')}; "
            f"cost of the run: {self.whole:.2f} of DanceGRPO's"
        )

    def table(self) -> Table:
        """A row per stretch."""
        table = Table("iterations", "trained steps", "NFE rollout", "NFE train", "cost, DanceGRPO = 1")
        for part in self.stretches:
            nfe = [f"{part.cost.nfe.get(phase, 0):.2f}" for phase in ("rollout", "train")]
            steps = "changing" if part.steps is None else _words(part.steps)
            table.add_row(f"{part.first}-{part.last}", steps, *nfe, f"{part.cost.units / self.run.dance:.2f}")
        table.caption = f"whole run: {self.whole:.2f} of DanceGRPO's network cost"
        return table


def count_costs(config: TrainConfig, evaluations_per_call: int = 1) -> PlanCosts:
    """Count the network evaluations of a run, one iteration per stretch."""
    parts = []
    for first, last, steps in stretches(config):
        same = config.plan(last, 0, config.sigmas()).trained == steps
        cost = iteration_cost(config, first, evaluations_per_call=evaluations_per_call)
        parts.append(Stretch(first=first, last=last, steps=steps if same else None, cost=cost))
    return PlanCosts(stretches=parts, run=run_cost(config, guided=evaluations_per_call > 1))


def _words(steps: tuple[int, ...]) -> str:
    if not steps:
        return "none"
    whole = steps == tuple(range(steps[0], steps[-1] + 1))
    return f"{steps[0]}-{steps[-1]}" if whole else ", ".join(map(str, steps))
