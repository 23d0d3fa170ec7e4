"""Asks all signs, and tells what keeps the reward from rising."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..runs.folder import RunFolder
from .evidence import Evidence, Trend
from .learning import fallback, held_out, lost_images
from .model_facts import grid, guidance, lora_layers, window
from .port import Finding, Sign
from .signal import failures, flat_groups, ties, tiny_autoencoder
from .update_size import drift, precision, too_large, too_small

SIGNS: Sequence[Sign] = (
    failures,
    precision,
    lora_layers,
    lost_images,
    too_large,
    tiny_autoencoder,
    flat_groups,
    held_out,
    drift,
    too_small,
    guidance,
    grid,
    window,
    ties,
    fallback,
)
"""In the order in which they are told where they weigh the same."""
_GRAVEST = 0.75


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a run folder tells.

    Attributes:
        trend: of the reward, held out where there are two evaluations; None for a run that is too young.
        findings: the gravest first.
    """

    trend: Trend | None
    findings: Sequence[Finding]

    @property
    def causes(self) -> Sequence[Finding]:
        """Findings that ask for a change."""
        return [finding for finding in self.findings if finding.change]

    @property
    def unasked(self) -> Sequence[Finding]:
        """Causes that are told while a run is watched: the grave ones; while the reward rises only the gravest."""
        least = _GRAVEST if self.trend is None or self.trend.rises else 0.0
        return [cause for cause in self.causes if cause.light == "bad" and cause.gravity >= least]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.trend is None:
            return "The run is too young to tell whether the reward rises: ask again after a few iterations."
        moved = f"from {self.trend.before:.3g} to {self.trend.now:.3g}, give or take {self.trend.error:.2g}"
        if self.trend.rises:
            return f"The reward rises, {moved}."
        return f"The reward {'falls' if self.trend.falls else 'does not rise'}: {moved}."


def diagnose(run: RunFolder) -> Diagnosis:
    """Look at all signs of a run.

    Raises:
        RunError: its settings cannot be read.
    """
    return diagnosed(Evidence.of(run))


def diagnosed(evidence: Evidence) -> Diagnosis:
    """Look at all signs of what is known of a run."""
    found = [finding for sign in SIGNS if (finding := sign(evidence)) is not None]
    return Diagnosis(trend=evidence.trend(), findings=sorted(found, key=lambda finding: -finding.gravity))
