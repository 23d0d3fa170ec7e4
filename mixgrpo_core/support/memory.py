"""What something remembers between iterations without keeping state of its own: JSON values, handed in and back.

A guard, a planner or a prompt source that learns gets its memory with each call and returns the new one; the run keeps
it in its checkpoints, so a resumed run remembers what the uninterrupted one would.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Memory = Mapping[str, Any]
"""JSON values without NaN; never changed in place, for snapshots hold it too."""
NOTHING: Memory = MappingProxyType({})
"""What is remembered at first."""
