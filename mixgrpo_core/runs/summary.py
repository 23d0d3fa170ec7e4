"""What came of a run: rewards before and after, what guards said last, how long it took, and where its files are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..settings.config import TrainConfig
from ..support.durations import duration
from .folder import RunFolder
from .gallery import Gallery, result_of
from .metrics import iterations_done
from .model_card import BEFORE_AFTER, REPORT


@dataclass(frozen=True, kw_only=True)
class Change:
    """Mean and spread of a reward ``before`` and ``after``, in words; ``at`` says when that was."""

    label: str
    before: str
    after: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is said of a run.

    Attributes:
        headline: iterations and time.
        changes: of held-out rewards; of those that it trained on where nothing was held out.
        warnings: the last one of every guard.
        stopped: why a guard ended it; empty where none did.
        more: what else there is to say, a sentence each.
        files: labels and places of what it left; the first is its LoRA.
    """

    headline: str
    changes: Sequence[Change]
    warnings: Sequence[str]
    stopped: str
    more: Sequence[str]
    files: Sequence[tuple[str, Path]]

    def text(self) -> str:
        """All of it, a line each."""
        changes = [f"{one.label}: {one.before} before, {one.after} {one.at}" for one in self.changes]
        files = [f"{label}: {path}" for label, path in self.files]
        return "\n".join([self.headline, *changes, *self.warnings, *self.more, *files])


def summary_of(run: RunFolder, metrics: Sequence[Mapping[str, Any]], config: TrainConfig, name: str) -> Summary:
    """Of the run that is called ``name``, with its ``metrics``."""
    seconds = sum(sum(report["seconds"].values()) for report in metrics)
    whole = "" if config.endless else f" of {config.iterations}"
    return Summary(
        headline=f"{name}: {iterations_done(metrics)}{whole} iterations in {duration(seconds)}",
        changes=changes_in(metrics),
        warnings=last_warnings(metrics),
        stopped=stopped_by(metrics),
        more=_more(metrics),
        files=_files(run, metrics, averaged=config.ema is not None),
    )


def changes_in(metrics: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Held-out rewards at the first and the last evaluation, or what training saw at first and at last."""
    points = [evaluation for report in metrics for evaluation in report["evaluations"]]
    if points and points[0]["rewards"]:
        ends, kind, at = (points[0], points[-1]), "held-out {}", f"at iteration {points[-1]['iteration']}"
    elif metrics:
        ends, kind, at = (metrics[0], metrics[-1]), "{} while training", "at the end"
    else:
        return []
    both = ((name, *(one["rewards"][name] for one in ends)) for name in ends[0]["rewards"])
    return [
        Change(label=kind.format(name), before=in_words(first), after=in_words(last), at=at)
        for name, first, last in both
    ]


def in_words(stats: Mapping[str, Any]) -> str:
    """Mean and spread of a line of metrics."""
    mean, spread = stats["mean"], stats["spread"]
    return "no score" if mean is None else f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.3g}"


def last_warnings(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last word of every guard that warned, and when that was."""
    last = {
        alarm["guard"]: f"warning of {alarm['guard']} at iteration {report['iteration'] + 1}: {alarm['sentence']}"
        for report in metrics
        for alarm in report.get("warnings", ())  # runs of older versions have none
    }
    return list(last.values())


def stopped_by(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Why a guard ended the run; empty where none did."""
    return str(metrics[-1].get("stopped") or "") if metrics else ""


def decoding_words(decoded: Mapping[str, Any]) -> list[str]:
    """How rollouts were decoded, where it was not in float32 by the model's own autoencoder."""
    words = []
    if "dtype" in decoded:
        tried = f"moved scores by {decoded['moved']:.2g} of a group's spread" if "moved" in decoded else "was not tried"
        words.append(f"rollouts decoded in {decoded['dtype']}; bfloat16 {tried}")
    if "tiny" in decoded:
        found = ", ".join(f"{name} {share:.2f}" for name, share in sorted(decoded["agreement"].items()))
        words.append(f"rollouts decoded by a tiny autoencoder; rank correlation with the model's own: {found or '-'}")
    return words


def _more(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    said = decoding_words(metrics[-1].get("decoded", {}) if metrics else {})  # runs of older versions told none
    if torch.cuda.is_available() and metrics:
        said.append(f"peak memory: {max(report['peak_memory'] for report in metrics) / 2**30:.1f} GiB")
    return said


def _files(run: RunFolder, metrics: Sequence[Mapping[str, Any]], *, averaged: bool) -> list[tuple[str, Path]]:
    file, kept = result_of(run, averaged=averaged)
    chosen = f"LoRA (of iteration {kept}, which was kept)" if kept is not None else "LoRA"
    judged = "held-out" if any(report["evaluations"] for report in metrics) else "training"
    places = [
        (f"{chosen}, averaged" if file == run.lora("ema") else chosen, file),
        *([] if file == run.lora("last") else [("LoRA of the last iteration", run.lora("last"))]),
        (f"best LoRA by {judged} reward", run.lora("best")),
        ("gallery", Gallery(run).folder),
        ("report", run.path / REPORT),
        ("before and after", run.path / BEFORE_AFTER),
        ("run", run.path),
    ]
    return [(label, path) for label, path in places if path.exists()]
