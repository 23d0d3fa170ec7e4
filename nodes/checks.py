"""Checks of a node's inputs before the queue runs.

ComfyUI leaves the checks of an input to ``validate_inputs`` as soon as that function names it: they are made here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input


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
        if isinstance(item, io.Int.Input | io.Float.Input) and not item.min <= value <= item.max:
            raise ValueError(f"{item.id} lies in {item.min:g}..{item.max:g}, found {value}")


def require_wires(inputs: Iterable[io.Input], received: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a wire of another type than its input takes."""
    kinds = {item.id: item.get_io_type() for item in inputs}
    for name, found in received.items():
        if name in kinds and not validate_node_input(found, kinds[name]):
            raise ValueError(f"{name} takes a wire of type {kinds[name]}, found {found}")
