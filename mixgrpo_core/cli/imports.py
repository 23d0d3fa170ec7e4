"""``--import MODULE``: classes of yours, which run files and flags can then spell."""

import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

from ..settings.kinds import classes_in, of_no_port, register
from .flags import IMPORT


def take_imports(arguments: Sequence[str]) -> list[str]:
    """Import what ``arguments`` ask for, and return the others.

    Raises:
        ValueError: there is no such module, it fails, or it defines nothing that can be spelled.
    """
    rest, words = [], iter(arguments)
    for word in words:
        if word == IMPORT:
            word = f"{IMPORT}={next(words, '')}"
        if word.startswith(f"{IMPORT}="):
            _import(word.removeprefix(f"{IMPORT}="))
        else:
            rest.append(word)
    return rest


def _import(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"expected the name of a Python module after {IMPORT}, such as my_module, found {name!r}")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python` itself does; the `mixgrpo` command does not
        sys.path.insert(0, here)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{IMPORT} {name}: it imports {error.name}, which is not installed") from error
        raise ValueError(f"{IMPORT} {name}: there is no such module in {here} and none is installed") from error
    except Exception as error:
        raise ValueError(f"{IMPORT} {name}: it fails with {type(error).__name__}: {error}") from error
    classes = classes_in(module)
    if not classes:
        own = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
        lacking = "".join(f"; {of_no_port(cls)}" for cls in own if is_dataclass(cls))
        raise ValueError(
            f"{IMPORT} {name}: it defines no class that can be spelled, such as a frozen dataclass that derives from "
            f"Objective, Reward or Window{lacking}"
        )
    register(*classes)
