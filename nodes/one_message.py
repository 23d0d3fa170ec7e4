"""One mistake is one message, beside the input at fault.

The host repeats what a ``validate_inputs`` says for every input that it hands to that function. The answer to a
queued workflow is read once more on its way out (`live.routes`): of the copies of a sentence about one of this pack's
nodes the one stays whose input the sentence names first (``steps: ...``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checks import named_first

OURS = "MixGRPO_"
_KIND = "custom_validation_failed"
_Error = dict[str, Any]


def without_copies(said: Mapping[str, Any]) -> dict[str, Any]:
    """An answer with ``node_errors`` in which every sentence about a node of this pack stands once.

    A refusal sums them up in ``error``; where some outputs are right, the workflow is queued and there is none.
    """
    nodes, dropped = {}, []
    for node, about in said["node_errors"].items():
        nodes[node] = about
        if about["class_type"].startswith(OURS):
            nodes[node] = {**about, "errors": list(_once(about["errors"]))}
            dropped += [error for error in about["errors"] if error not in nodes[node]["errors"]]
    kept = {**said, "node_errors": nodes}
    return {**kept, "error": _without(said["error"], dropped)} if "error" in said else kept


def _once(errors: Sequence[_Error]) -> Iterator[_Error]:
    """The errors, of those with one sentence the one at the input at fault."""
    places: dict[str, list[str]] = {}
    for error in errors:
        if error["type"] == _KIND:
            places.setdefault(_sentence(error), []).append(error["extra_info"]["input_name"])
    for error in errors:
        inputs = places[_sentence(error)] if error["type"] == _KIND else []
        if not inputs or error["extra_info"]["input_name"] == (named_first(_sentence(error), inputs) or inputs[0]):
            yield error


def _sentence(error: _Error) -> str:
    return error["details"].removeprefix(f"{error['extra_info']['input_name']} - ")


def _without(error: Any, dropped: Sequence[_Error]) -> Any:
    """The summary of all errors without the lines of some."""
    if not isinstance(error, dict):
        return error
    lines = [f"{one['message']}: {one['details']}" for one in dropped]
    return {**error, "details": "\n".join(line for line in error["details"].split("\n") if line not in lines)}
