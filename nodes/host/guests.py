"""Classes of other custom nodes, which load in any order and under names that are paths.

A custom node offers them by a function at the top level of its module, which is given this pack's core:

    def mixgrpo_classes(core):
        return [MyObjective]
"""

import logging
import sys
from collections.abc import Callable
from types import FrameType, ModuleType

from ... import mixgrpo_core
from ...mixgrpo_core.settings.kinds import look_in, register

HOOK = "mixgrpo_classes"
_asked: list[Callable] = []
_looked_at: dict[int, object] = {}
"""Modules that were looked at when they had run to their end, by ``id``: a host has thousands, and is asked often."""


def welcome_guests() -> None:
    """From now on, look for classes of other custom nodes whenever it matters which there are."""
    look_in(_find)


def _find() -> None:
    """Register what modules offer that were loaded since the last time; what fails is said once and left out."""
    if not {*map(id, sys.modules.values())} - _looked_at.keys():
        return
    new = {name: module for name, module in [*sys.modules.items()] if id(module) not in _looked_at}
    running = _running()
    for name, module in new.items():
        if name == "__main__" or id(getattr(module, "__dict__", None)) not in running:
            _looked_at[id(module)] = module
        _welcome(name, vars(module).get(HOOK) if isinstance(module, ModuleType) else None)


def _running() -> set[int]:
    """The namespaces of the modules that some thread is just loading, by ``id``."""
    found: set[int] = set()
    for frame in sys._current_frames().values():
        here: FrameType | None = frame
        while here is not None:
            if here.f_code.co_name == "<module>":
                found.add(id(here.f_globals))
            here = here.f_back
    return found


def _welcome(name: str, hook: object) -> None:
    if not callable(hook) or hook in _asked:
        return
    _asked.append(hook)  # before it is called: what it asks of the core leads here again
    try:
        register(*hook(mixgrpo_core))
    except Exception as error:  # of a stranger: it must not take the pack down
        logging.warning("MixGRPO leaves out classes of %s: %s: %s", name, type(error).__name__, error)
