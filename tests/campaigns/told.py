"""Errors that the command line prints as one sentence (``mixgrpo_core/cli/dispatch.py``)."""

from mixgrpo_core.cli.memory import OutOfMemory
from mixgrpo_core.objectives.update import NonFiniteLoss
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.training.taught import RewardsFailed

TOLD = (RewardsFailed, NonFiniteLoss, OutOfMemory, ValueError, RunError, OSError, ImportError)
