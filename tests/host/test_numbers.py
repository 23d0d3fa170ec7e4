"""Every number input of every node, with a number that came by wire: what is not finite is refused by its name."""

import math
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from comfy_api.latest import io
from mixgrpo_pack.nodes import NODES


def numbers() -> Iterator:
    """Node, input, and the dynamic choice that shows the input, where it is behind one."""
    for cls in NODES:
        for item in cls.define_schema().inputs:
            shown = [(item, None)]
            if isinstance(item, io.DynamicCombo.Input):
                shown = [(inner, (item.id, option.key)) for option in item.options for inner in option.inputs]
            for inner, behind in shown:
                if isinstance(inner, io.Float.Input | io.Int.Input):
                    words = "-".join((cls.__name__, *(behind or ()), inner.id))
                    yield pytest.param(cls, inner, behind, id=words)


def usual(item: io.Input) -> object:
    if isinstance(item, io.DynamicCombo.Input):
        first = item.options[0]
        return {item.id: first.key, **{inner.id: usual(inner) for inner in first.inputs}}
    if isinstance(item, io.Combo.Input):
        return item.default if item.default is not None else (item.options or [""])[0]
    return item.default if isinstance(item, io.WidgetInput) else Mock()  # what a wire carries: it is not reached


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("cls, item, behind", numbers())
def test_a_number_that_is_not_finite_is_refused(cls, item, behind, value):
    inputs = [other for other in cls.define_schema().inputs if not other.optional or isinstance(other, io.WidgetInput)]
    values = {other.id: usual(other) for other in inputs}
    if behind is None:
        values[item.id] = value
    else:
        name, key = behind
        [dynamic] = [other for other in inputs if other.id == name]
        [option] = [found for found in dynamic.options if found.key == key]
        values[name] = {name: key, **{inner.id: usual(inner) for inner in option.inputs}, item.id: value}
    with pytest.raises(ValueError, match=item.id):
        cls.execute(**values)
