"""``mixgrpo doctor``: why does the reward of a run not rise?"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..diagnosis import Diagnosis, diagnose
from ..runs.folder import RunFolder
from ..support.paths import user_path

_COLOURS = {"bad": "red", "watch": "yellow", "good": "default"}


@dataclass(frozen=True, kw_only=True)
class DoctorFlags:
    """Attributes:
    run: a run folder.
    json: as JSON, for programs.
    """

    run: Annotated[Path, tyro.conf.Positional]
    json: bool = False


def doctor_command(arguments: Sequence[str]) -> int:
    """``doctor RUN [--json]``."""
    flags = tyro.cli(
        DoctorFlags,
        args=arguments,
        prog="mixgrpo doctor",
        description="Why does the reward of a run not rise? What its folder tells, the likeliest cause first.",
    )
    found = diagnose(RunFolder.open(user_path(flags.run)))
    if flags.json:
        told = {"verdict": found.verdict, "findings": [asdict(finding) for finding in found.findings]}
        print(json.dumps(told, indent=1))
    else:
        _show(found, Console())
    return 0


def _show(found: Diagnosis, console: Console) -> None:
    console.print(found.verdict, highlight=False, markup=False, soft_wrap=True)
    for number, cause in enumerate(found.causes, 1):
        table = Table.grid(Column(width=4), Column())
        table.add_row(f"{number}.", f"[{_COLOURS[cause.light]}]{cause.sign}[/]: {escape(cause.found)}")
        table.add_row("", escape(f"{cause.change[0].upper()}{cause.change[1:]}."))
        console.print("", table, sep="\n", highlight=False)
    well = [finding for finding in found.findings if not finding.change]
    console.print("\nLooked at, and nothing to change:" if well else "", highlight=False)
    for finding in well:
        console.print(f"  {finding.sign}: {finding.found}", highlight=False, markup=False)
