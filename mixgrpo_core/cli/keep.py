"""``mixgrpo keep``: what the gallery of a run has, and which of its LoRAs is the run's."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..runs.folder import RunFolder
from ..runs.gallery import Gallery

_USE = "mixgrpo keep RUN [ITERATION | last]"
_HELP = f"""usage: {_USE}

Without an iteration: what the gallery of the run has. With one: its LoRA becomes RUN/lora/kept.safetensors, the run's
LoRA from now on; "last" takes that back. The training goes on from its newest checkpoint either way."""


def keep_command(arguments: Sequence[str]) -> int:
    """``keep RUN [ITERATION | last]``."""
    console = Console()
    if "-h" in arguments or "--help" in arguments:
        console.print(_HELP, highlight=False, markup=False, soft_wrap=True)
        return 0
    if len(arguments) not in (1, 2) or not all(_is_choice(word) for word in arguments[1:]):
        raise ValueError(f"expected a run folder, and perhaps a number of iterations or 'last': {_USE}")
    gallery = Gallery(RunFolder.open(arguments[0]))
    if len(arguments) == 2:
        _keep(gallery, None if arguments[1] == "last" else int(arguments[1]), console)
    else:
        _list(gallery, console)
    return 0


def _is_choice(word: str) -> bool:
    return word == "last" or (word.isascii() and word.isdecimal())


def _keep(gallery: Gallery, iteration: int | None, console: Console) -> None:
    path = gallery.keep(iteration)
    words = (
        f"the run's LoRA is that of its last iteration: {gallery.run.lora('last')}"
        if path is None
        else f"the run's LoRA is that of iteration {iteration}: {path}"
    )
    console.print(words, highlight=False, markup=False, soft_wrap=True)


def _list(gallery: Gallery, console: Console) -> None:
    entries, kept = gallery.entries(), gallery.kept
    table = Table("iteration", "made", "kept", "pictures in")
    for entry in entries:
        made = "when asked" if entry.asked else "when due"
        table.add_row(str(entry.iteration), made, "yes" if entry.iteration == kept else "", str(entry.lora.parent))
    console.print(table)
    size = sum(entry.bytes for entry in entries) / 2**20
    console.print(f"{len(entries)} LoRAs with their pictures, {size:.1f} MiB", highlight=False)
