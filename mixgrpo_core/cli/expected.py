"""How long a run will take, before it begins."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..rewards.port import Reward
from ..runs.folder import RunFolder
from ..support.micro_batches import ran_out
from ..training.forecast import Forecast, foretold
from ..training.workload import Workload

if TYPE_CHECKING:
    from ..models.diffusers.model import PipelineModel


def expected(
    work: Workload, model: "PipelineModel", prompt: str, run: RunFolder, rewards: Mapping[str, Reward], done: int
) -> Forecast | None:
    """What the run will take; None where even the timed step lacks memory, which the training itself then tells."""
    try:
        beside, setup = run.path.parent.iterdir(), run.config["setup"]
        return foretold(work, model, prompt, beside, setup, rewards=rewards, done=done)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        return None
