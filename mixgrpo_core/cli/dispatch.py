"""Dispatch: one word chooses the command; every foreseen mistake is one sentence and exit status 2."""

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
from .imports import WORDS, take_imports
from .memory import OutOfMemory
from .stopping import Listener, status_of, stopped_by_signals

COMMANDS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = MappingProxyType(
    {
        "demo": (demo.demo, "train a LoRA on the shipped demo model, from nothing, in minutes on a CPU"),
        "train": (training.train_command, "train RUN.toml: a new run; every setting is also a flag"),
        "resume": (training.resume_command, "resume RUN: go on with a run, or extend it by more iterations"),
        "keep": (keep.keep_command, "keep RUN: its gallery; keep RUN ITERATION: which LoRA is the run's"),
        "doctor": (doctor.doctor_command, "why does the reward of a run not rise? The likeliest cause first"),
        "methods": (methods.methods_command, "the published methods that are here, what each needs and costs"),
        "plan": (plan.plan_command, "what is trained when, and what it costs, before anything runs"),
        "sample": (sampling.sample_command, "images of prompts: with a LoRA, without, and hybrid"),
        "score": (score.score_command, "score and rank pictures by rewards"),
        "probe-reward": (probe.probe_command, "before a run: can rewards be learned from, with these prompts?"),
        "align": (align.align_command, "a LoRA from votes that are there, without rollouts and without a reward"),
        "merge-loras": (merge.merge_command, "one LoRA of several, by training without a reward, or exactly"),
        "taste": (taste.taste_command, "learn a person's taste from votes, score pictures by it, say what it knows"),
        "verify-rewards": (verify.verify_command, "do the weights of rewards that you have behave as they should?"),
        "evaluate": (compare.evaluate_command, "two LoRAs (or none) on the same prompts and seeds"),
        "eval": (standard_sets.eval_command, "base and LoRA on GenEval, DPG-Bench, HPDv2 or T2I-CompBench"),
    }
)

_SPELLING = ("train", "resume", "doctor", "plan", "score", "probe-reward", "verify-rewards", "evaluate", "eval")
"""Commands that read spelled objects, and so take ``--import``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mixgrpo``. Returns the exit status: 0, 2 for a mistake in what was asked, 1 for a run that failed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"mixgrpo: unknown command {name!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    listener: Listener | None = None
    try:
        with stopped_by_signals() as listener:  # while a model is loaded and at the report, too
            return COMMANDS[name][0](take_imports(rest) if name in _SPELLING else rest)
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
        "eval": "lower --batch, or a smaller --model.height and --model.width",
    }
)
"""What to do when memory runs out outside of an iteration of training."""


def _usage() -> str:
    lines = [f"  {name:<14} {words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join(
        ["usage: mixgrpo COMMAND ... (each has --help)", "", *lines, "", f"{', '.join(_SPELLING)}:", f"  {WORDS}"]
    )
