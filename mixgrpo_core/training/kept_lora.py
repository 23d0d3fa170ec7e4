"""The LoRA of a training that is no run: its file stands from the first look on, and however the training ends."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol, TypeVar

from ..models.lora import export_lora
from ..models.lora_metadata import training_metadata
from ..models.port import FlowModel


class Updated(Protocol):
    """A report of one update."""

    @property
    def update(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def looked_at(self) -> bool:
        """Whether it was time for a look at how it goes."""
        ...


R = TypeVar("R", bound=Updated)


@dataclass(frozen=True, kw_only=True)
class KeptLora:
    """Writes the LoRA of ``model`` to ``path``.

    Attributes:
        config: what the training was asked to do, for the file's header.
        more: more strings for the header.
    """

    model: FlowModel
    path: Path
    config: Mapping[str, object]
    learning_rate: float
    seed: int
    more: Mapping[str, str] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def following(
        self, reports: Iterable[R], ended_early: Callable[[int], None] = lambda update: None
    ) -> Generator[R, None, None]:
        """The reports, with the file written at each look, and where the training breaks off.

        ``ended_early`` then hears the number of its last update.
        """
        done = written = 0
        try:
            for report in reports:
                done = report.update
                if report.looked_at:
                    self.write(done)
                    written = done
                yield report
        finally:
            if done > written:
                self.write(done)
                ended_early(done)

    def write(self, updates: int) -> None:
        """Write the LoRA as it is after so many updates."""
        metadata = training_metadata(
            title=self.path.stem,
            config=self.config,
            learning_rate=self.learning_rate,
            seed=self.seed,
            steps=updates,
            rewards_before={},
            rewards_after={},
            started=self.started,
            optimizer="AdamW",
        )
        export_lora(self.model, self.path, {**metadata, **self.more})
