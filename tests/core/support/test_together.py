"""What goes together is collected from wherever it stands, and handed on in order."""

from itertools import product

import pytest

from mixgrpo_core.support.together import InOrder, collected, filling


def by_letter(words, most):
    return ["".join(each) for each in collected(words, most, lambda letter: letter.lower())]


def test_things_go_as_soon_as_they_are_enough_and_the_rest_at_the_end():
    assert by_letter("aBAbCa", 2) == ["aA", "Bb", "C", "a"]
    assert by_letter("aBAbCa", 9) == ["aAa", "Bb", "C"]
    assert by_letter("abab", 1) == ["a", "b", "a", "b"]
    assert by_letter("", 3) == []


def test_what_is_alone_does_not_wait_to_the_end_of_many():
    found = by_letter("b" + 100 * "a", 2)
    assert found.index("b") == 15 and set(found) == {"b", "aa", "a"} and "".join(found).count("a") == 100


@pytest.mark.parametrize("order", ["0123", "3210", "2031"])
def test_places_are_handed_on_in_order_each_as_soon_as_it_can_be(order):
    places, turns = (3, 5, 6, 9), InOrder((3, 5, 6, 9))
    handed, done = [], set()
    for number in map(int, order):
        done.add(places[number])
        handed += turns.of([(places[number], str(number))])
        assert [place for place, _ in handed] == [p for i, p in enumerate(places) if done >= set(places[: i + 1])]
    assert handed == [(place, str(number)) for number, place in enumerate(places)]


def test_so_many_things_fill_calls_to_the_last_row():
    for rows, batch in product(range(1, 9), range(1, 9)):
        many = filling(rows, batch)
        assert many * rows % batch == 0 and not any(fewer * rows % batch == 0 for fewer in range(1, many))
