"""Why does the reward not rise? What a run folder tells, a finding per sign, the likeliest cause first."""

from .doctor import Diagnosis, diagnose, diagnosed
from .evidence import Evidence
from .port import Finding, Sign

__all__ = ["Diagnosis", "Evidence", "Finding", "Sign", "diagnose", "diagnosed"]
