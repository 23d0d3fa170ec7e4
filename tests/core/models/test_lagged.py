"""Lagged policies: the published schedules in numbers, and their way through a checkpoint."""

import pytest
import torch

from mixgrpo_core.models.lagged import Lag, Lagged
from mixgrpo_core.objectives import AWM, DGPO, DiffusionNFT
from mixgrpo_core.runs.checkpoint import TrainState, read_checkpoint, write_checkpoint


def weights(value, dtype=torch.float32):
    return {"a": torch.full((2, 3), value, dtype=dtype), "b": torch.full((4,), 10 * value, dtype=dtype)}


@pytest.mark.parametrize(
    ("lag", "expected"),
    [
        (DiffusionNFT().lag, {1: 0.001, 100: 0.1, 499: 0.499, 500: 0.5, 501: 0.5, 9999: 0.5}),
        (AWM().lag, {1: 0.001, 299: 0.299, 300: 0.3, 5000: 0.3}),
        (DGPO().lag, {1: 0.001, 299: 0.299, 300: 0.3, 5000: 0.3}),
        (Lag(flat=75, rate=0.0075, cap=0.999), {1: 0, 74: 0, 75: 0, 76: 0.0075, 175: 0.75, 208: 0.9975, 209: 0.999}),
        (Lag(), {1: 0, 1000: 0}),
        (Lag(start=0.9), {1: 0.9, 1000: 0.9}),
    ],
    ids=["nft", "awm", "dgpo", "nft ocr", "on policy", "constant"],
)
def test_the_published_schedules(lag, expected):
    assert {n: lag.decay(n) for n in expected} == pytest.approx(expected)


def test_an_average_after_each_update_is_its_closed_form():
    policy = Lagged(Lag(rate=0.1, cap=0.25), weights(1.0, torch.float64))
    expected = 1.0
    for n, value in enumerate((2.0, 5.0, -1.0, 3.0), start=1):
        policy.passed("update", weights(value, torch.float64))
        decay = min(0.1 * n, 0.25)
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(policy.weights["a"], torch.full((2, 3), expected, dtype=torch.float64))
    torch.testing.assert_close(policy.weights["b"], torch.full((4,), 10 * expected, dtype=torch.float64))


def test_one_of_iterations_counts_updates_and_blends_after_them():
    """DiffusionNFT's: with three updates an iteration its second blend has n = 6."""
    policy = Lagged(Lag(rate=0.1, cap=0.9, every="iteration"), weights(0.0))
    for _ in range(2):
        before = policy.weights["a"].clone()
        for _ in range(3):
            policy.passed("update", weights(1.0))
            assert torch.equal(policy.weights["a"], before)
        policy.passed("iteration", weights(1.0))
    first = 0.3 * 0 + 0.7 * 1
    torch.testing.assert_close(policy.weights["a"], torch.full((2, 3), 0.6 * first + 0.4 * 1))


def test_one_may_count_iterations_too():
    policy = Lagged(Lag(rate=0.25, per="iteration", every="iteration"), weights(0.0))
    for expected in (0.75, 0.875):  # d = 0.25, 0.5
        for _ in range(5):
            policy.passed("update", weights(1.0))
        policy.passed("iteration", weights(1.0))
        assert float(policy.weights["a"][0, 0]) == expected


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
    ids=str,
)
def test_small_blends_are_not_lost_in_low_precision(dtype, kept):
    policy = Lagged(Lag(start=0.999), weights(1.0, dtype))
    assert policy.weights["a"].dtype == kept
    for _ in range(100):
        policy.passed("update", weights(2.0, dtype))
    assert float(policy.weights["a"][0, 0]) == pytest.approx(2 - 0.999**100, rel=1e-4)  # bfloat16 would stand at 1


def test_it_is_a_copy():
    trained = weights(1.0)
    policy = Lagged(Lag(start=1.0), trained)
    trained["a"].add_(5)
    assert float(policy.weights["a"].max()) == 1
    policy.passed("update", trained)
    assert float(policy.weights["a"].max()) == 1


class Holder:
    """As much of a model and an optimizer as a state needs."""

    def lora_state(self):
        return {}

    def load_lora_state(self, state):
        pass

    def state_dict(self):
        return {"state": {}}

    def load_state_dict(self, state):
        pass


def state_of(policy):
    return TrainState(Holder(), Holder(), {}, lagged={"lagged": policy})


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path):
    lag = Lag(rate=0.07, cap=0.6, every="iteration")

    def some(policy, start, stop):
        for number in range(start, stop):
            policy.passed("update", weights(float(number)))
            policy.passed("update", weights(float(number) ** 0.5))
            policy.passed("iteration", weights(number / 3))

    straight, stopped = (Lagged(lag, weights(0.1)) for _ in range(2))
    some(straight, 0, 6)
    some(stopped, 0, 2)
    write_checkpoint(tmp_path / "state", state_of(stopped).capture())
    some(stopped, 2, 3)  # what happened after it is forgotten
    resumed = Lagged(lag, weights(77.0))
    state_of(resumed).restore(read_checkpoint(tmp_path / "state"))
    assert resumed.count == {"update": 4, "iteration": 2}
    some(resumed, 2, 6)
    for name, weight in straight.weights.items():
        assert torch.equal(resumed.weights[name], weight)
    assert resumed.count == straight.count


@pytest.mark.parametrize("wrong", [{"start": 0.5, "cap": 0.4}, {"rate": -1}, {"flat": -1}, {"start": -0.1}, {"cap": 2}])
def test_lags_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="d is what is kept"):
        Lag(**wrong)
