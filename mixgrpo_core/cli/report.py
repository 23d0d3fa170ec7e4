"""What a finished run leaves to look at: ``report.png`` with its before/after grid, and where everything is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..evaluation.shown import shown_prompts
from ..rewards.port import Reward
from ..runs.folder import RunFolder
from ..runs.metrics import iterations_done
from ..runs.model_card import BEFORE_AFTER, REPORT, write_card
from ..runs.summary import summary_of
from ..settings.config import TrainConfig
from ..support.paths import in_shell
from ..views.before_after import before_after
from ..views.figures import report_figure
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


def finish(
    settings: RunConfig, run: RunFolder, model: "PipelineModel", rewards: Mapping[str, Reward], console: Console
) -> None:
    """Draw the grid and the report, write the model card, and print where they are."""
    prompts = settings.make_prompts()
    grid = before_after(model, run, shown_prompts(prompts.train, prompts.held_out), settings.train)
    grid.save(run.path / BEFORE_AFTER)
    metrics = run.metrics()  # of fewer iterations than were asked for, where a guard stopped the run
    report_figure(metrics, settings.train, run.path / REPORT, grid)
    card = run.lora("last").with_name("README.md")
    write_card(
        run, card, rewards=rewards, prompts=list(map(str, prompts.train)), held_out=list(map(str, prompts.held_out))
    )
    print_summary(run, metrics, settings.train, console)
    console.print(f"{'model card:':<30} {card}", highlight=False, soft_wrap=True)


def print_summary(run: RunFolder, metrics: Sequence[Mapping[str, Any]], config: TrainConfig, console: Console) -> None:
    """Rewards as a table, and what else there is to say and to see, a line each."""
    found = summary_of(run, metrics, config, run.path.name)
    if found.changes:
        table = Table("reward", "before", found.changes[0].at, title=None)
        for one in found.changes:
            table.add_row(*map(escape, (one.label, one.before, one.after)))
        console.print(table)
    for words in found.warnings:
        console.print(words, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if found.stopped:
        console.print(
            f"stopped by a guard after {iterations_done(metrics)} iterations; to go on all the same, ask for more "
            f"than before, or than these where there was no number: mixgrpo resume {in_shell(run.path)} --iterations N",
            style="bold red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for words in (found.headline, *found.more):
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    for label, path in found.files:
        console.print(f"{label + ':':<30} {path}", highlight=False, markup=False, soft_wrap=True)
