"""The list of methods and the list of works without a preset."""

import pytest

from mixgrpo_core.settings.elsewhere import ELSEWHERE
from mixgrpo_core.settings.presets import METHODS, PRESETS


def test_no_work_is_listed_twice():
    names = [*(method.name for method in METHODS.values()), *(work.name for work in ELSEWHERE)]
    assert len({*names}) == len(names) > 70
    assert METHODS.keys() == PRESETS.keys()
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert all(method.preset is PRESETS[name] for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_how_near_it_is_and_what_differs(name):
    method = METHODS[name]
    beginnings = {"as published": method.name, "after": "after ", "inspired by": "inspired by ", "our own": method.name}
    beginning = beginnings[method.likeness]
    assert method.label.startswith(beginning) and method.label.endswith(method.name)
    assert method.source
    if method.likeness != "as published":
        assert method.differs.endswith("."), "the label says that something differs"


def test_a_preset_of_our_own_is_no_publication():
    own = {name for name, method in METHODS.items() if method.likeness == "our own"}
    assert own == {"quick_look"} and METHODS["quick_look"].label == "Quick look"
    assert METHODS["quick_look"].source.startswith("our own, not published")


def test_the_parts_of_a_method_are_not_nearer_than_the_method():
    """A class says in its label what it follows; a preset of the same name must not claim more."""
    for method in METHODS.values():
        told = getattr(method.config.objective, "label", "")
        if told.endswith(method.name) and told != method.name:
            assert method.label == told, f"{method.name} is {told!r} as a loss and {method.label!r} as a preset"
