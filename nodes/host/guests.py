"""Classes of other custom nodes, which load in any order and under names that are paths.

A custom node offers them by a function at the top level of its module, which is given this pack's core:

    def mixgrpo_classes(core):
        return [MyObjective]
"""

import logging
import sys
from collections.abc import Callable
from types import ModuleType

from ... import mixgrpo_core
from ...mixgrpo_core.settings.kinds import look_in, register

HOOK = "mixgrpo_classes"
_asked: list[Callable] = []


def welcome_guests() -> None:
    """From now on, look for classes of other custom nodes whenever it matters which there are."""
    look_in(_find)


def _find() -> None:
    """Register what modules offer that were loaded since the last time; what fails is said once and left out."""
    for name, module in list(sys.modules.items()):
        hook = vars(module).get(HOOK) if isinstance(module, ModuleType) else None
        if not callable(hook) or hook in _asked:
            continue
        _asked.append(hook)  # before it is called: what it asks of the core leads here again
        try:
            register(*hook(mixgrpo_core))
        except Exception as error:  # of a stranger: it must not take the pack down
            logging.warning("MixGRPO leaves out classes of %s: %s: %s", name, type(error).__name__, error)
