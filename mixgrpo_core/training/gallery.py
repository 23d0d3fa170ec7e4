"""When a run looks at itself: pictures of a few prompts by the policy as it stands, and its LoRA, for the gallery.

They change nothing of the run: their noise is that of seeds of their own, and no generator is drawn from.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from ..evaluation.shown import PROMPTS, shown_together
from ..models.lora_names import LoraFileError
from ..runs.checkpoint import TrainState
from ..runs.folder import RunFolder
from ..runs.gallery import ITERATION, Gallery
from ..runs.reports import Observer, Pictured, Progress
from ..settings.config import TrainConfig
from ..support.pixels import to_image
from .lora_files import LoraFiles

_ENTRIES = 8
"""About so many in a run, besides that of its start."""
_SHARE = 20
"""Images that are trained on for each picture of an entry, at least."""
_FIRST = 8
"""The first iteration after the start that an endless run is looked at."""


def is_due(config: TrainConfig, iteration: int) -> bool:
    """Whether a run is looked at after ``iteration`` iterations: before the first, every few, and after the last.

    About eight times in all. Where an iteration is small, less often: the pictures of an entry are at most a twentieth
    of the images trained on since the last. A run that goes on until it is stopped is looked at twice as its iterations
    double.
    """
    if iteration in (0, config.iterations):
        return True
    if not config.endless:
        return iteration % spacing(config) == 0
    first = max(_FIRST, _least(config))
    return iteration >= first and iteration % 2 ** max(iteration.bit_length() - 2, 0) == 0


def spacing(config: TrainConfig) -> int:
    """Iterations from one entry to the next in a run that has an end."""
    return max(round(config.iterations / _ENTRIES), _least(config))


def _least(config: TrainConfig) -> int:
    """Iterations from one entry to the next, at least."""
    return math.ceil(_SHARE * PROMPTS / (config.prompts_per_iteration * config.images_per_prompt))


class GalleryKeeper:
    """Gives the gallery of ``run`` its entries.

    Args:
        prompts: that are shown.
        asked: whether somebody wants an entry now; asked before each iteration and after the last.
    """

    def __init__(
        self,
        run: RunFolder,
        state: TrainState,
        config: TrainConfig,
        prompts: Sequence[str],
        observer: Observer,
        asked: Callable[[], bool],
    ) -> None:
        self.gallery, self.state, self.config = Gallery(run), state, config
        self.prompts, self.observer, self.asked = prompts, observer, asked
        self._files = LoraFiles(run, state, config)
        self._begun_at = state.iteration

    def visit(self, *, over: bool = False) -> None:
        """Look at the policy where it is due, or asked for; ``over``: the run ends here.

        What a killed run had of iterations that are done again is made again when it comes to them, and stands until
        then. An entry that cannot be written costs a warning, and no run.
        """
        iteration = self.state.iteration
        asked = self.asked()
        if not (asked or over or is_due(self.config, iteration)):
            return
        there = iteration == self._begun_at and self.gallery.entry(iteration) is not None
        if there and not asked:  # asked for, it is made again, as one that was asked for
            return
        begun = time.monotonic()
        problem = self._made(iteration, asked=asked)
        self.observer(Pictured(iteration=iteration, seconds=time.monotonic() - begun, problem=problem))

    def _made(self, iteration: int, *, asked: bool) -> str:
        """Why there is no entry now; empty where there is."""
        try:
            self._make(iteration, asked=asked)
        except (OSError, LoraFileError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            place = self.gallery.place(iteration)
            problem = f"iteration {iteration} is not in the gallery: {place} cannot be written ({why})"
            warnings.warn(f"{problem}; the training goes on", RuntimeWarning, stacklevel=3)
            return problem
        return ""

    def _make(self, iteration: int, *, asked: bool) -> None:
        state, config, gallery = self.state, self.config, self.gallery
        averaged = None if state.ema is None else state.ema.average
        self._tell(0)
        with nullcontext() if averaged is None else state.model.with_weights(averaged):
            images = shown_together(
                state.model,
                self.prompts,
                config.eval_sigmas,
                batch=config.rollout_batch,
                decode_batch=config.decode_batch,
            )
        self._tell(len(self.prompts))
        gallery.begin(iteration)
        weights = state.model.lora_state() if averaged is None else averaged
        told = {ITERATION: str(iteration)}
        self._files.write(f"{iteration:06}", gallery.lora(iteration), weights, state.notes, told)
        gallery.add(iteration, list(zip(self.prompts, map(to_image, images), strict=True)), asked=asked)

    def _tell(self, done: int) -> None:
        total = len(self.prompts)
        self.observer(Progress(iteration=self.state.iteration, phase="gallery", done=done, total=total))
