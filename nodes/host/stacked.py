"""Conditionings of several prompts in one call of the network.

What the host has prepared for one row is stacked row by row where it is alike in shape. Conditionings of unequal length
stay apart, as do those with an area, a mask, a time or a control of their own: their prompts have a call each.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from comfy.conds import CONDConstant, CONDList, CONDRegular
from torch import Tensor

Prepared = list[dict[str, Any]]
"""What the host makes of a conditioning before it samples."""

_PARTIAL = frozenset(
    {"area", "mask", "strength", "timestep_start", "timestep_end", "control", "gligen", "hooks", "default"}
)


def kind(conditioning: object) -> Hashable:
    """What conditionings that can be stacked have in common: the shapes of their tensors, and all else."""
    if isinstance(conditioning, Tensor):
        return tuple(conditioning.shape)
    if isinstance(conditioning, Mapping):
        return tuple((str(name), kind(value)) for name, value in sorted(conditioning.items(), key=_named))
    if isinstance(conditioning, list | tuple):
        return tuple(map(kind, conditioning))
    return conditioning if isinstance(conditioning, str | int | float | bool | None) else id(conditioning)


def _named(item: tuple[object, object]) -> str:
    return str(item[0])


def stacked(rows: Sequence[Prepared]) -> Prepared | None:
    """The conditioning of a batch whose rows have those of ``rows``; None where these need calls of their own."""
    if any(len(row) != 1 or not _PARTIAL.isdisjoint(row[0]) for row in rows):
        return None
    parts = [row[0]["model_conds"] for row in rows]
    if any(part.keys() != parts[0].keys() for part in parts):
        return None
    made = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return None if None in made.values() else [{**rows[0][0], "model_conds": made}]


def _joined(conds: Sequence[CONDRegular]) -> CONDRegular | None:
    first = conds[0]
    if any(type(cond) is not type(first) for cond in conds):
        return None
    if isinstance(first, CONDConstant):
        return first if all(first.can_concat(cond) for cond in conds) else None
    lists = [cond.cond if isinstance(first, CONDList) else [cond.cond] for cond in conds]
    shapes = {tuple(_shape(tensor) for tensor in tensors) for tensors in lists}
    if len(shapes) != 1 or any(shape is None or shape[:1] != (1,) for shape in shapes.pop()):
        return None
    made = [torch.cat(tensors) for tensors in zip(*lists, strict=True)]
    return type(first)(made if isinstance(first, CONDList) else made[0])


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
