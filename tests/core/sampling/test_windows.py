import random

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mixgrpo_core.sampling.windows import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow, coverage


@st.composite
def runs(draw):
    """Any window that fits any number of steps, and those steps."""
    steps = draw(st.integers(2, 60))
    size = draw(st.integers(1, steps - 1))
    stride, hold = draw(st.integers(1, 70)), draw(st.integers(1, 12))
    wrap, last = draw(st.booleans()), draw(st.none() | st.integers(0, 70))
    shortest, rate = draw(st.integers(1, hold)), draw(st.none() | st.floats(0, 2))
    window = draw(
        st.sampled_from(
            [
                SlidingWindow(size, stride, hold, wrap, last),
                FrozenWindow(size, min(last or 0, steps - 1 - size)),
                RandomWindow(size, stride, last),
                DecayingWindow(size, stride, hold, wrap, last, shortest, rate, threshold=draw(st.integers(0, 20))),
            ]
        )
    )
    return window, steps


@given(runs(), st.integers(0, 10_000))
def test_a_window_has_its_size_and_never_holds_the_last_step(run, iteration):
    window, steps = run
    at = window.at(iteration, steps)
    assert len(at) == window.size and at.step == 1
    assert at.start >= 0 and at.stop <= steps - 1
    if getattr(window, "last", None) is not None:
        assert at.start <= window.last


@given(runs())
def test_progressive_windows_visit_every_start_in_order(run):
    window, steps = run
    assume(isinstance(window, (SlidingWindow, DecayingWindow)))
    furthest = min(steps - 1 - window.size, steps if window.last is None else window.last)
    expected = sorted({*range(0, furthest + 1, window.stride), furthest})
    visited, held = [], []
    for iteration in range(len(expected) * window.hold):
        start = window.at(iteration, steps).start
        if not visited or visited[-1] != start:
            visited.append(start)
            held.append(0)
        held[-1] += 1
    assert visited[: len(expected)] == expected
    shortest = getattr(window, "shortest", window.hold)
    assert all(shortest <= count <= window.hold for count in held[: len(expected) - 1])
    assert all(a >= b for a, b in zip(held, held[1 : len(expected) - 1], strict=False)), "holds never grow"


@given(runs())
def test_wrapped_windows_cycle_and_others_stay(run):
    window, steps = run
    assume(isinstance(window, (SlidingWindow, DecayingWindow)))
    starts = [window.at(iteration, steps).start for iteration in range(1500)]
    last = max(starts)
    if not window.wrap:
        first = starts.index(last)
        assert all(start == last for start in starts[first:])
    elif last > 0:
        period = next(i for i in range(1, 1500) if starts[i] == 0 and starts[i - 1] == last)
        assert all(starts[i] == starts[i % period] for i in range(1500))


def test_golden_paper_setting():
    window = SlidingWindow(size=4, stride=1, hold=25)
    assert [window.at(m, 25).start for m in range(2000)] == [min(m // 25, 20) for m in range(2000)]
    assert window.at(24, 25) == range(4)
    assert window.at(25, 25) == range(1, 5)
    assert window.at(299, 25) == range(11, 15)
    assert window.at(10**9, 25) == range(20, 24)


def test_golden_wrap_and_cap():
    window = SlidingWindow(size=2, stride=2, hold=1, wrap=True)
    assert [window.at(m, 8).start for m in range(8)] == [0, 2, 4, 5, 0, 2, 4, 5]
    window = SlidingWindow(size=4, stride=1, hold=2, wrap=True, last=2)
    assert [window.at(m, 25).start for m in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]


def test_golden_linear_decay():
    # p = l / 8 for 10 steps: floor(8 (1 - p) + 2 p) = 8, 7 (7.25), 6 (6.5), 5 (5.75), ...
    window = DecayingWindow(size=4, stride=1, hold=8, shortest=2)
    starts = [window.at(m, 10).start for m in range(30)]
    assert starts == [0] * 8 + [1] * 7 + [2] * 6 + [3] * 5 + [4] * 4


def test_golden_exponential_decay():
    # 8 exp(-max(0, l - 1) / 2) = 8, 8, 4.85, 2.94, 1.79, 1.08, 0.66, 0.40, rounded up
    window = DecayingWindow(size=2, stride=1, hold=8, rate=0.5, threshold=1)
    assert [window.interval(start, 12) for start in range(8)] == [8, 8, 5, 3, 2, 2, 1, 1]
    starts = [window.at(m, 12).start for m in range(32)]
    assert starts == [0] * 8 + [1] * 8 + [2] * 5 + [3] * 3 + [4] * 2 + [5] * 2 + [6, 7, 8, 9]
    window = DecayingWindow(rate=0.1)
    assert [window.interval(start, 25) for start in (0, 13, 14, 18, 20)] == [25, 25, 23, 16, 13]


def test_random_windows_are_even_pure_and_leave_the_generators_alone():
    window = RandomWindow(size=4, seed=3)
    before = torch.get_rng_state(), random.getstate()
    starts = [window.at(m, 25).start for m in range(21_000)]
    random.seed(1), torch.manual_seed(1)
    assert starts == [RandomWindow(size=4, seed=3).at(m, 25).start for m in range(21_000)]
    torch.set_rng_state(before[0]), random.setstate(before[1])
    counts = [starts.count(start) for start in range(21)]
    assert all(880 < count < 1120 for count in counts), counts  # 1000 +- 31
    other = [RandomWindow(size=4, seed=4).at(m, 25).start for m in range(21_000)]
    assert 800 < sum(a == b for a, b in zip(starts, other, strict=True)) < 1200  # independent: one in 21


def test_golden_random_starts_are_the_same_on_every_machine():
    assert [RandomWindow(seed=7).at(m, 25).start for m in range(8)] == [11, 1, 19, 19, 6, 14, 11, 0]


def test_coverage_counts_iterations_per_step():
    assert coverage(FrozenWindow(2, 1), 5, 5) == [0, 5, 5, 0, 0]
    assert coverage(SlidingWindow(2, 1, 1), 4, 5) == [1, 2, 3, 2, 0]
    paper = coverage(SlidingWindow(), 300, 25)
    assert paper[:5] == [25, 50, 75, 100, 100] and paper[15:] == [0] * 10, "300 iterations train steps 0 to 14 only"


@pytest.mark.parametrize("window", [SlidingWindow(4), FrozenWindow(4), RandomWindow(4), DecayingWindow(4)])
def test_a_window_that_does_not_fit_is_refused_in_words(window):
    assert window.at(0, 5) == range(4)
    with pytest.raises(ValueError, match="4 steps does not fit 4 sampling steps.*at most 3"):
        window.at(0, 4)
    with pytest.raises(ValueError, match="counted from 0"):
        window.at(-1, 25)


def test_frozen_start_beyond_the_end_is_refused():
    assert FrozenWindow(4, 20).at(0, 25) == range(20, 24)
    with pytest.raises(ValueError, match="can start at 20 at most"):
        FrozenWindow(4, 21).at(0, 25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SlidingWindow(size=0),
        lambda: SlidingWindow(stride=0),
        lambda: SlidingWindow(hold=0),
        lambda: SlidingWindow(last=-1),
        lambda: SlidingWindow(size=2.0),
        lambda: FrozenWindow(start=-1),
        lambda: RandomWindow(seed="a"),
        lambda: DecayingWindow(hold=3, shortest=4),
        lambda: DecayingWindow(rate=-0.1),
        lambda: DecayingWindow(threshold=-1),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="found"):
        make()


@given(runs())
def test_repr_is_the_call_that_makes_it(run):
    assert eval(repr(run[0])) == run[0]
