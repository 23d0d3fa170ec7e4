"""What `mixgrpo doctor` would say of a run, for the live view."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...mixgrpo_core.diagnosis import Diagnosis, Evidence, diagnosed
from ...mixgrpo_core.runs.folder import RunError, RunFolder

_DAMAGED = (RunError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a folder that somebody else wrote may come to: the view then tells no signs."""


def diagnosis_payload(folder: Path, reports: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any] | None:
    """The verdict, all findings and those that are told unasked; None where the folder cannot be read.

    The layers of the LoRA, which stand in a checkpoint, are looked at by the command line only.
    """
    try:
        run = RunFolder.open(folder)
        known = run.metrics() if reports is None else reports
        return _json(diagnosed(Evidence(train=run.settings, setup=run.config["setup"], reports=known, lora={})))
    except _DAMAGED:
        return None


def _json(found: Diagnosis) -> dict[str, Any]:
    findings = [finding.to_json() for finding in found.findings]
    return {"verdict": found.verdict, "findings": findings, "told": [cause.to_json() for cause in found.unasked]}
