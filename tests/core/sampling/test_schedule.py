import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixgrpo_core.sampling.schedule import check_sigmas, flash_sigmas, flow_sigmas

# T = 25, shift 3: the schedule of the published FLUX runs
GOLDEN = [
    1, .9863, .9718, .9565, .9403, .9231, .9048, .8852, .8644, .8421, .8182, .7925, .7647, .7347, .7021, .6667, .6279,
    .5854, .5385, .4865, .4286, .3636, .2903, .2069, .1111, 0,
]  # fmt: skip


def test_golden_schedule_of_the_published_runs():
    sigmas = flow_sigmas(25, 3.0)
    assert sigmas.dtype == torch.float32
    torch.testing.assert_close(sigmas, torch.tensor(GOLDEN, dtype=torch.float32), atol=5.1e-5, rtol=0)


def test_without_shift_the_levels_are_even():
    torch.testing.assert_close(flow_sigmas(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]), atol=0, rtol=0)


@given(steps=st.integers(1, 200), shift=st.floats(0.1, 20))
def test_every_schedule_falls_from_one_to_zero(steps, shift):
    sigmas = flow_sigmas(steps, shift)
    check_sigmas(sigmas)
    assert sigmas[0] == 1 and sigmas[-1] == 0 and len(sigmas) == steps + 1
    assert (flow_sigmas(steps, shift + 1)[1:-1] > sigmas[1:-1]).all(), "a larger shift keeps more noise"


def test_levels_are_rounded_once():
    exact = [3 * u / (1 + 2 * u) for u in (1 - i / 1000 for i in range(1001))]
    assert torch.equal(flow_sigmas(1000, 3.0), torch.tensor(exact, dtype=torch.float64).float())


@pytest.mark.parametrize("arguments", [(0,), (2.0,), (4, 0.0), (4, -1.0), (4, math.nan), (4, math.inf)])
def test_schedules_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="found"):
        flow_sigmas(*arguments)


@pytest.mark.parametrize(
    "sigmas, complaint",
    [
        ([1.0], "at least 2"),
        ([[1.0, 0.0]], "at least 2"),
        ([1, 0], "floating"),
        ([1000.0, 0.0], "within"),
        ([1.0, math.nan, 0.0], "within"),
        ([1.0, 0.5, 0.5, 0.0], r"sigmas\[1\] = 0.5"),
        ([0.0, 1.0], "decreasing"),
        ([1.0, 0.1], "exactly 0"),
    ],
)
def test_check_sigmas_says_what_is_wrong(sigmas, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_sigmas(torch.tensor(sigmas))


def test_partial_schedule_is_one():
    assert check_sigmas(torch.tensor([0.6, 0.3, 0.0])) is None, "it need not start at 1"


def test_flash_golden():
    # 12 steps after index 4 thinned to ceil(12 * 0.25) = 3: the indices 4, 8, 12, 16 of the even grid of 16
    thinned = flash_sigmas(flow_sigmas(16), 4, 0.25)
    even = [1, 15 / 16, 14 / 16, 13 / 16, 12 / 16, 8 / 16, 4 / 16, 0]
    torch.testing.assert_close(thinned, torch.tensor(even), atol=0, rtol=0)
    # 21 steps after index 4 thinned to 5: indices 8.2, 12.4, 16.6, 20.8 lie between levels
    thinned = flash_sigmas(torch.tensor(GOLDEN), 4, 0.2)
    between = [0.8644 - 0.2 * 0.0223, 0.7647 - 0.4 * 0.03, 0.6279 - 0.6 * 0.0425, 0.4286 - 0.8 * 0.065, 0]
    torch.testing.assert_close(thinned[5:], torch.tensor(between), atol=1e-6, rtol=0)


@pytest.mark.parametrize("ratio, evaluations", [(0.2, 9), (0.3, 11), (0.4, 13), (1.0, 25), (0.0, 5)])
def test_flash_star_steps(ratio, evaluations):
    assert len(flash_sigmas(flow_sigmas(25, 3.0), 4, ratio)) - 1 == evaluations


@given(st.data(), st.integers(1, 60), st.floats(0.0, 1.0), st.sampled_from([1.0, 3.0, 7.0]))
def test_flash_for_every_stop_and_ratio(data, steps, ratio, shift):
    sigmas = flow_sigmas(steps, shift)
    if data.draw(st.booleans()):
        sigmas = sigmas[min(2, steps - 1) :]  # partial run
    steps = len(sigmas) - 1
    stop = data.draw(st.integers(0, steps - 1))
    thinned = flash_sigmas(sigmas, stop, ratio)
    check_sigmas(thinned)  # strictly decreasing, ends at exactly 0
    assert torch.equal(thinned[: stop + 1], sigmas[: stop + 1])
    assert len(thinned) - 1 - stop == min(max(math.ceil((steps - stop) * ratio), 1), steps - stop)
    assert len(flash_sigmas(sigmas, stop, ratio / 2)) <= len(thinned)
    assert torch.equal(flash_sigmas(sigmas, stop, 1.0), sigmas)
    assert torch.equal(flash_sigmas(sigmas.double(), stop, 1.0), sigmas.double())


@pytest.mark.parametrize("stop, ratio", [(-1, 0.5), (25, 0.5), (2.0, 0.5), (4, -0.1), (4, math.nan)])
def test_flash_refuses(stop, ratio):
    with pytest.raises(ValueError, match="found"):
        flash_sigmas(flow_sigmas(25), stop, ratio)
