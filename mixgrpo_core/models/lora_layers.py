"""Which layers of a network carry a LoRA: choices by name, the same in every home.

attention and MLP     those of a family's row, or of a host's blocks: what is usual
attention             of these the projections of queries, keys, values and outputs
all linear            every linear layer of these blocks, those of their modulation too
"""

import re
from collections.abc import Collection, Iterable
from typing import Literal, get_args

Layers = Literal["attention and MLP", "attention", "all linear"]
USUAL: Layers = "attention and MLP"
ATTENTION: Layers = "attention"
ALL: Layers = "all linear"
LAYERS: tuple[Layers, ...] = get_args(Layers)

_ATTENTION = re.compile(r"(^|\.)(?!attentions\.)\w*(attn|attention)\w*\.")  # a UNet's transformers are ``attentions``
_LIST = re.compile(r"(.+?)\.\d+\.")


def is_attention(name: str) -> bool:
    """Whether a layer, by its name in LoRA files, is a projection of an attention."""
    return _ATTENTION.search(name) is not None


def list_of(name: str) -> str:
    """The list of blocks that a layer is in; empty where it is in none."""
    found = _LIST.match(name)
    return "" if found is None else found[1]


def chosen(layers: Layers, usual: Collection[str], linear: Iterable[str]) -> list[str]:
    """The names of the layers that carry the LoRA, in the order of ``linear``.

    Args:
        usual: the names of the layers that it usually sits on.
        linear: those of all linear layers, in order.

    Raises:
        ValueError: there are none of that kind.
    """
    lists = {list_of(name) for name in usual} - {""}
    if layers == ALL:
        found = [name for name in linear if name in usual or list_of(name) in lists]
    else:
        found = [name for name in linear if name in usual and (layers == USUAL or is_attention(name))]
    if not found:
        raise ValueError(f"expected layers of the kind {layers!r} for a LoRA, found none in this model: take {USUAL!r}")
    return found


def covering(usual: Collection[str], names: Iterable[str]) -> Layers:
    """The usual layers where they hold all of ``names``, the layers of a file; else every linear one."""
    return USUAL if all(name in usual for name in names) else ALL
