"""Whether the scores have anything to teach."""

from collections.abc import Mapping
from typing import Any

from .evidence import Evidence, mean_of
from .port import Finding

AGREEMENT = 0.8
"""Least rank correlation of a tiny autoencoder's scores. What the true reward gains in an iteration is about this share
of what it would gain: advantages have the same size whatever they are made of."""


def failures(run: Evidence) -> Finding | None:
    """Images that a reward could not score."""
    worst, share, reason = "", 0.0, ""
    names = {name for report in run.recent for name in report["rewards"] if run.weight(name)}
    for name in sorted(names):
        found = [report["rewards"][name] for report in run.recent if name in report["rewards"]]
        count = sum(stats.get("count", 0) for stats in found)
        failed = 1 - sum(stats.get("valid", 0) for stats in found) / count if count else 0.0
        if failed > share:
            worst, share = name, failed
            reason = next((stats["reason"] for stats in found if stats.get("reason")), "")
    if not run.recent:
        return None
    if not share:
        return Finding(sign="failures", found="every image was scored")
    words = f"{worst} failed on {share:.0%} of the images{f' ({reason})' if reason else ''}"
    change = "mend the reward, or take it out: images without a score teach nothing"
    return Finding(sign="failures", found=words, change=change, gravity=min(1.0, 0.2 + share) if share > 0.1 else 0.1)


def flat_groups(run: Evidence) -> Finding | None:
    """Prompts whose images all score alike."""
    share = mean_of(run.recent, lambda report: report.get("flat_groups"))
    if share is None:
        return None
    found = f"{share:.0%} of the prompts gave images that all score alike (last {len(run.recent)} iterations)"
    if share <= 0.25:
        return Finding(sign="flat groups", found=found)
    if run.reports[0].get("flat_groups", share) <= 0.25:
        change = (
            "they were not at the beginning: it is training that made images alike, or the reward ran out of numbers"
        )
        return Finding(sign="flat groups", found=found, change=change, gravity=0.4)
    change = (
        "they teach nothing: use more images per prompt, a larger eta, harder prompts, or a reward that tells images "
        "of one prompt apart"
    )
    return Finding(sign="flat groups", found=found, change=change, gravity=0.2 + 0.75 * share)


def ties(run: Evidence) -> Finding | None:
    """How much of the reward's spread lies between the images of a prompt, where it can teach."""
    within = mean_of(run.recent, lambda report: _of_trained(run, report, "within_group"))
    spread = mean_of(run.recent, lambda report: _of_trained(run, report, "spread"))
    if within is None or not spread:
        return None
    share = within / spread
    found = f"within a prompt images differ by {within:.2g}, over all prompts by {spread:.2g}"
    if share >= 0.25:
        return Finding(sign="spread", found=found)
    change = (
        "most of the score is the prompt's and not the image's: use a reward that judges the image, or a larger eta"
    )
    return Finding(sign="spread", found=found, change=change, gravity=0.45)


def tiny_autoencoder(run: Evidence) -> Finding | None:
    """Whether rewards rank images by a tiny autoencoder as by the model's own."""
    decoded = run.reports[-1].get("decoded", {}) if run.reports else {}
    if not decoded.get("tiny"):
        return None
    known = {name: found for name, found in decoded.get("agreement", {}).items() if run.weight(name)}
    if not known:
        found = "how the tiny autoencoder ranks images is not known: no group with a spread was scored twice"
        return Finding(sign="tiny autoencoder", found=found)
    worst = min(known, key=lambda name: known[name])
    found = (
        f"{worst} ranks the images of a prompt by the tiny autoencoder as by the model's own with a correlation of "
        f"{known[worst]:.2f}"
    )
    if known[worst] >= AGREEMENT:
        return Finding(sign="tiny autoencoder", found=found)
    change = (
        f"below {AGREEMENT} more than a fifth of what an iteration teaches is about the small decoder's errors: train "
        "without the tiny autoencoder, or with a reward that looks less at detail"
    )
    return Finding(sign="tiny autoencoder", found=found, change=change, gravity=min(1.0, 1.3 - known[worst]))


def _of_trained(run: Evidence, report: Mapping[str, Any], figure: str) -> float | None:
    found = [
        stats[figure] for name, stats in report["rewards"].items() if run.weight(name) and stats.get(figure) is not None
    ]
    return max(found) if found else None
