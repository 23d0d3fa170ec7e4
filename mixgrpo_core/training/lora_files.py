"""The LoRA files that a run writes, and what their headers tell of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..models.lora import export_lora
from ..models.lora_metadata import training_metadata
from ..models.port import LoraState
from ..runs.checkpoint import Notes, TrainState
from ..runs.folder import RunFolder
from ..settings.config import TrainConfig, to_dict


@dataclass(frozen=True)
class LoraFiles:
    """Those of ``run``, trained with ``config``."""

    run: RunFolder
    state: TrainState
    config: TrainConfig

    def write(
        self,
        name: str,
        path: Path,
        weights: LoraState,
        notes: Notes,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write ``weights`` to ``path`` as the run's LoRA ``name``; ``notes`` are the run's at that moment.

        Raises:
            OSError, LoraFileError: it cannot be written.
        """
        metadata = training_metadata(
            config=to_dict(self.config),
            learning_rate=float(self.state.optimizer.param_groups[0]["lr"]),
            seed=self.config.seed,
            steps=notes.get("updates", 0),
            rewards_before=notes.get("before", {}),
            rewards_after=notes.get("after", {}),
            title=f"{self.run.path.name}-{name}",
            started=self.run.started,
            optimizer=type(self.state.optimizer).__name__,
        )
        export_lora(self.state.model, path, {**metadata, **more}, weights)
