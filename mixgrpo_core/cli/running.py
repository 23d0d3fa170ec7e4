"""One command: what it raises that was foreseen is one sentence and an exit status."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ..objectives.update import NonFiniteLoss
from ..runs.folder import RunError
from ..support.micro_batches import ran_out
from ..support.quoting import cause
from ..training.ranks import RankFailed
from ..training.taught import RewardsFailed
from . import (
    align,
    compare,
    demo,
    doctor,
    keep,
    merge,
    methods,
    plan,
    probe,
    sampling,
    score,
    standard_sets,
    taste,
    training,
    verify,
)
from .imports import take_imports
from .memory import OutOfMemory
from .stopping import Listener, status_of, stopped_by_signals

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType(
    {
        "demo": demo.demo,
        "train": training.train_command,
        "resume": training.resume_command,
        "keep": keep.keep_command,
        "doctor": doctor.doctor_command,
        "methods": methods.methods_command,
        "plan": plan.plan_command,
        "sample": sampling.sample_command,
        "score": score.score_command,
        "probe-reward": probe.probe_command,
        "align": align.align_command,
        "merge-loras": merge.merge_command,
        "taste": taste.taste_command,
        "verify-rewards": verify.verify_command,
        "evaluate": compare.evaluate_command,
        "eval": standard_sets.eval_command,
    }
)


def run(name: str, arguments: Sequence[str], *, spelling: bool) -> int:
    """The exit status of the command ``name``; ``spelling``: it takes ``--import``."""
    listener: Listener | None = None
    try:
        with stopped_by_signals() as listener:  # while a model is loaded and at the report, too
            return COMMANDS[name](take_imports(arguments) if spelling else arguments)
    except (RewardsFailed, NonFiniteLoss, OutOfMemory, RankFailed) as error:
        print(f"mixgrpo {name}: {error}", file=sys.stderr)
        return 1
    except (ValueError, RunError, OSError, ImportError) as error:  # the last: an optional package is not there
        if listener is not None and listener.stop is not None:  # compiled code made another error of it
            return _stopped(name, listener.stop)
        print(f"mixgrpo {name}: {cause(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if listener is not None and listener.stop is not None:
            return _stopped(name, listener.stop)
        if not ran_out(error):
            raise
        print(f"mixgrpo {name}: out of memory: {_ROOM.get(name, _ROOM['train'])}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        return _stopped(name, stop)


def _stopped(name: str, stop: KeyboardInterrupt) -> int:
    print(f"mixgrpo {name}: stopped", file=sys.stderr)
    return status_of(stop)


_ROOM: Mapping[str, str] = MappingProxyType(
    {
        "train": "use a smaller model or a smaller height and width, or close what else uses the memory",
        "sample": "lower --batch, or a smaller --model.height and --model.width",
        "evaluate": "lower --batch, or a smaller --model.height and --model.width",
    }
)
"""What to do when memory runs out outside of an iteration of training."""
