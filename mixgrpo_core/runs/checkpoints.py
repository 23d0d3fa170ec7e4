"""The checkpoints of a run: which there are, the newest whole one, and which are kept."""

import warnings
from pathlib import Path

from ..support.files import make_folder
from .checkpoint import CorruptCheckpoint, Snapshot, read_checkpoint, write_checkpoint
from .errors import RunError


class Checkpoints:
    """Of the run at ``run``, in its folder ``checkpoints``."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / "checkpoints"

    @property
    def files(self) -> list[Path]:
        """Newest first."""
        numbered = [path for path in self.folder.glob("*.safetensors") if path.stem.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.stem), reverse=True)

    @property
    def done(self) -> int:
        """Iterations that the newest one holds; 0 where there is none."""
        return next((int(path.stem) for path in self.files), 0)

    def latest(self) -> Snapshot | None:
        """The newest whole one; a corrupt one is passed over with a warning.

        Raises:
            RunError: none can be read.
        """
        files = self.files
        for path in files:
            try:
                return read_checkpoint(path)
            except CorruptCheckpoint as error:
                warnings.warn(f"{error}; falling back to the checkpoint before it", RuntimeWarning, stacklevel=3)
        if files:
            raise RunError(f"none of the {len(files)} checkpoints in {self.run} can be read: start a new run")
        return None

    def save(self, snapshot: Snapshot, keep: int) -> None:
        """Write one, then drop old ones but for the newest ``keep`` and the best, and those ahead of it.

        Ahead are only files that could not be read: they must not count as the newest.
        """
        try:
            make_folder(self.folder)
            write_checkpoint(self.folder / f"{snapshot.iteration:06}.safetensors", snapshot)
        except OSError as error:
            raise RunError(
                f"cannot write a checkpoint to {self.folder} ({error.strerror}): free space or mend the folder, then "
                "resume; the checkpoints that are there are whole"
            ) from error
        best = snapshot.values["notes"].get("best", {}).get("iteration")
        files = self.files
        behind = [path for path in files if int(path.stem) <= snapshot.iteration]
        for path in {*files} - {*behind[:keep]}:
            if int(path.stem) != best:
                path.unlink(missing_ok=True)
