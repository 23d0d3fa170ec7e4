"""Checks of a node's inputs before the queue runs.

ComfyUI leaves the checks of an input to ``validate_inputs`` as soon as that function names it: they are made here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input

from ..mixgrpo_core.support.setting import require_number

LARGEST_SEED = 2**64 - 1
"""As of the host's samplers: a seed for a whole graph is wired into all nodes."""


def require_in_range(inputs: Iterable[io.Input], values: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` when a number lies outside of its input's range or a choice is none of those offered.

    Inputs that ``values`` lacks come by wire and are passed over.
    """
    for item in inputs:
        value = values.get(item.id)
        if value is None:
            continue
        if isinstance(item, io.Combo.Input) and value not in item.options:
            raise ValueError(f"{item.id}: expected one of {', '.join(map(str, item.options))}, found {value!r}")
        if isinstance(item, io.Int.Input | io.Float.Input):
            _require_between(item.id, item.min, value, item.max)


def require_chosen(item: io.DynamicCombo.Input, chosen: Mapping[str, Any] | None) -> None:
    """Raise ``ValueError`` unless one of the choices is made, with values of its own inputs in their ranges.

    The host checks neither: it hands on None for a choice that it does not know.
    """
    inputs = {option.key: option.inputs for option in item.options}
    key = (chosen or {}).get(item.id)
    if key not in inputs:
        raise ValueError(f"{item.id}: expected one of {', '.join(inputs)}, found none of them")
    require_in_range(inputs[key], chosen or {})


def _require_between(name: str, least: float | None, value: float, most: float | None) -> None:
    """An input of somebody else's class may have no bounds: a number is finite all the same."""
    if least is None or most is None:
        require_number(name, value)
    elif not least <= value <= most:
        raise ValueError(f"{name} lies in {least:g}..{most:g}, found {value}")


def require_wires(inputs: Iterable[io.Input], received: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a wire of another type than its input takes."""
    kinds = {item.id: item.get_io_type() for item in inputs}
    for name, found in received.items():
        if name in kinds and not validate_node_input(found, kinds[name]):
            raise ValueError(f"{name}: expected a wire of type {kinds[name]}, found {found}")


def verdict(
    check: Callable[[Mapping[str, Any]], object], values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> bool | str:
    """What ``validate_inputs`` answers: True, or a sentence that names the input at fault.

    Args:
        check: of all values together; raises ``ValueError``.
        defaults: by which the input is found: one that, put back to its default, leaves nothing wrong.
    """
    try:
        check(values)
    except ValueError as error:
        sentence = str(error)
        mended = [name for name in values if _mended(check, values, name, defaults)]
        return sentence if not mended or named_first(sentence, values) in mended else f"{mended[0]}: {sentence}"
    return True


def named_first(sentence: str, inputs: Iterable[str]) -> str:
    """Which of ``inputs`` stands first in a sentence; empty where none does.

    An input of a group (``details.steps``) goes by its own name.
    """
    places = {name: re.search(rf"(?<![\w.]){re.escape(name.rpartition('.')[2])}(?!\w)", sentence) for name in inputs}
    found = {name: place.start() for name, place in places.items() if place}
    return min(found, key=lambda name: found[name], default="")


def _mended(
    check: Callable[[Mapping[str, Any]], object], values: Mapping[str, Any], name: str, defaults: Mapping[str, Any]
) -> bool:
    if name not in defaults or values[name] == defaults[name]:
        return False
    try:
        check({**values, name: defaults[name]})
    except ValueError:
        return False
    return True


def defaults_of(inputs: Iterable[io.Input]) -> dict[str, Any]:
    """What widgets hold at first."""
    return {item.id: item.default for item in inputs if isinstance(item, io.WidgetInput) and item.default is not None}
