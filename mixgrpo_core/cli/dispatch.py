"""Dispatch: one word chooses the command, which is imported with all that it needs: torch alone takes seconds."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..support.collector import uncollected
from .flags import IMPORT_WORDS

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "demo": "train a LoRA on the shipped demo model, from nothing, in minutes on a CPU",
        "train": "train RUN.toml: a new run; every setting is also a flag",
        "resume": "resume RUN: go on with a run, or extend it by more iterations",
        "keep": "keep RUN: its gallery; keep RUN ITERATION: which LoRA is the run's",
        "doctor": "why does the reward of a run not rise? The likeliest cause first",
        "methods": "the published methods that are here, what each needs and costs",
        "plan": "what is trained when, and what it costs, before anything runs",
        "sample": "images of prompts: with a LoRA, without, and hybrid",
        "score": "score and rank pictures by rewards",
        "probe-reward": "before a run: can rewards be learned from, with these prompts?",
        "align": "a LoRA from votes that are there, without rollouts and without a reward",
        "merge-loras": "one LoRA of several, by training without a reward, or exactly",
        "taste": "learn a person's taste from votes, score pictures by it, say what it knows",
        "verify-rewards": "do the weights of rewards that you have behave as they should?",
        "evaluate": "two LoRAs (or none) on the same prompts and seeds",
        "eval": "base and LoRA on GenEval, DPG-Bench, HPDv2 or T2I-CompBench",
    }
)

SPELLING = ("train", "resume", "doctor", "plan", "score", "probe-reward", "verify-rewards", "evaluate", "eval")
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
    with uncollected():
        from .running import run

    return run(name, rest, spelling=name in SPELLING)


def _usage() -> str:
    lines = [f"  {name:<14} {words}" for name, words in COMMANDS.items()]
    return "\n".join(
        ["usage: mixgrpo COMMAND ... (each has --help)", "", *lines, "", f"{', '.join(SPELLING)}:", f"  {IMPORT_WORDS}"]
    )
