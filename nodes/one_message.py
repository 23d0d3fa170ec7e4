"""One mistake is one message, beside the input at fault.

The host repeats what a ``validate_inputs`` says for every input that it hands to that function. The answer to a
queued workflow is read once more on its way out (`live.routes`): of the copies of a sentence about one of this pack's
nodes the one stays whose input the sentence names first (``steps: ...``). A sentence that begins with an input which
the host did not hand over, because it makes nothing of its value, is put beside that input.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checks import named_first

OURS = "MixGRPO_"
_KIND = "custom_validation_failed"
_BEGINS = re.compile(r"([a-z_]+(?:\.[a-z_]+)?): ")
_Error = dict[str, Any]


def without_copies(said: Mapping[str, Any]) -> dict[str, Any]:
    """An answer with ``node_errors`` in which every sentence about a node of this pack stands once.

    A refusal sums them up in ``error``; where some outputs are right, the workflow is queued and there is none.
    """
    nodes, dropped, moved = {}, [], []
    for node, about in said["node_errors"].items():
        nodes[node] = about
        if about["class_type"].startswith(OURS):
            errors = list(_once(about["errors"]))
            nodes[node] = {**about, "errors": errors}
            dropped += [error for error in about["errors"] if error not in errors]
            moved += [error for error in errors if error not in about["errors"]]
    kept = {**said, "node_errors": nodes}
    return {**kept, "error": _summed_up(said["error"], dropped, moved)} if "error" in said else kept


def _once(errors: Sequence[_Error]) -> Iterator[_Error]:
    """The errors, of those with one sentence the one at the input at fault."""
    places: dict[str, list[str]] = {}
    for error in errors:
        if error["type"] == _KIND:
            places.setdefault(_sentence(error), []).append(error["extra_info"]["input_name"])
    for error in errors:
        inputs = places[_sentence(error)] if error["type"] == _KIND else []
        if not inputs or error["extra_info"]["input_name"] == (named_first(_sentence(error), inputs) or inputs[0]):
            yield _at_its_input(error, inputs)


def _at_its_input(error: _Error, inputs: Sequence[str]) -> _Error:
    """The error beside the input that its sentence begins with, where the host has put it beside others only."""
    begins = _BEGINS.match(_sentence(error)) if inputs else None
    if begins is None or begins[1] in (name for input in inputs for name in (input, input.rpartition(".")[2])):
        return error
    about = {**error["extra_info"], "input_name": begins[1]}
    return {**error, "details": f"{begins[1]} - {_sentence(error)}", "extra_info": about}


def _sentence(error: _Error) -> str:
    return error["details"].removeprefix(f"{error['extra_info']['input_name']} - ")


def _summed_up(error: Any, dropped: Sequence[_Error], moved: Sequence[_Error]) -> Any:
    """The summary of all errors without the lines of some, and with those of others."""
    if not isinstance(error, dict):
        return error
    lines = [f"{one['message']}: {one['details']}" for one in dropped]
    kept = [line for line in error["details"].split("\n") if line not in lines]
    return {**error, "details": "\n".join([*kept, *(f"{one['message']}: {one['details']}" for one in moved)])}
