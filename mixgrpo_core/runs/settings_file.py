"""``config.json``: what a run was asked to do. Each checkpoint holds a copy, so that a damaged file costs nothing."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..settings.config import TrainConfig, differences, from_dict, to_dict
from ..settings.kinds import guests_of
from ..support.setting import settings_of
from .checkpoint import CorruptCheckpoint, read_checkpoint
from .older import READABLE, present_settings

MAY_CHANGE = tuple(name for name, told in settings_of(TrainConfig) if told.may_change)
"""Settings that may differ when a run is gone on with."""

FREE_OF_MODEL = ("offload", "sharded")
"""The same of a model's settings, which only the command line knows."""


class NewerFormat(ValueError):
    """Settings that a newer version wrote."""


def read_settings(file: Path) -> dict[str, Any]:
    """The settings of a run. Raises ``OSError``, or ``ValueError`` that says what is wrong with them."""
    try:
        return checked_settings(json.loads(file.read_text(encoding="utf-8")))
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def settings_of_newest(checkpoints: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that holds settings, and these; None where none does."""
    for path in checkpoints:
        try:
            copy = read_checkpoint(path).settings
            return None if copy is None else (path, checked_settings(copy))
        except (CorruptCheckpoint, ValueError) as error:
            warnings.warn(f"{error}; looking into the checkpoint before it", RuntimeWarning, stacklevel=3)
    return None


def checked_settings(found: object) -> dict[str, Any]:
    """``found`` itself where it has every part of the settings. Raises ``ValueError`` otherwise."""
    if not isinstance(found, dict):
        raise ValueError(f"expected a table of settings, found {str(found)[:40]!r}")
    number = found.get("format")
    if number not in READABLE:
        words = f"it is of format {number!r}; this version reads {' and '.join(map(str, READABLE))}"
        raise NewerFormat(words) if type(number) is int and number > max(READABLE) else ValueError(words)
    for name in ("train", "setup"):
        if not isinstance(found.get(name), Mapping):
            raise ValueError(f"it has no table {name!r}")
    guests = found.get("guests", {})
    if not isinstance(guests, dict) or not all(isinstance(module, str) for module in guests.values()):
        raise ValueError("its guests are no names of modules")
    try:
        datetime.fromisoformat(found["started"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("it does not say when the run was started") from error
    return found


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Sentences for what differs between two ``config.json`` and may not, under its present name."""
    free = dict.fromkeys(MAY_CHANGE)
    found = differences({**_present_train(old), **free}, {**_present_train(new), **free})
    return found + differences(_fixed(old["setup"]), _fixed(json.loads(json.dumps(new["setup"]))))


def _fixed(setup: Mapping[str, Any]) -> dict[str, Any]:
    """What of a setup may not change."""
    model = setup.get("model")
    if not isinstance(model, Mapping):
        return dict(setup)
    return {**setup, "model": {name: value for name, value in model.items() if name not in FREE_OF_MODEL}}


def _present_train(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they would be written today. Classes that are not registered are left as they were spelled:
    in Python a run may use one without, though no command can then open it."""
    present = present_settings(config)
    try:
        return to_dict(from_dict(present))
    except ValueError:
        return {**to_dict(TrainConfig()), **present}


def asked(config: TrainConfig, setup: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a run is asked to do, and the modules of the registered classes that it uses."""
    train, setup = to_dict(config), dict(setup or {})
    guests = guests_of([*_texts(train), *_texts(setup.get("rewards"))])
    return {"train": train, "setup": setup, **({"guests": guests} if guests else {})}


def _texts(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
