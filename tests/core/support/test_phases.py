"""Seconds by phase: on a CPU, and on a GPU that works behind, in a time that the test makes."""

from dataclasses import dataclass

import pytest
import torch

from mixgrpo_core.support import phases
from mixgrpo_core.support.phases import PhaseClock


@dataclass
class Queue:
    """What a GPU has been asked for. Asking takes a thousandth of a second, and the work begins when all before it is
    done."""

    now: float = 0.0
    done: float = 0.0
    waits: int = 0

    def ask(self, seconds):
        self.now += 0.001
        self.done = max(self.done, self.now) + seconds

    def synchronize(self):
        self.waits += 1
        self.now = max(self.now, self.done)

    def event(self, *, enable_timing):
        assert enable_timing
        return Event(self)


@dataclass
class Event:
    queue: Queue
    when: float | None = None

    def record(self, stream):
        assert stream is self.queue
        self.when = max(stream.now, stream.done)

    def elapsed_time(self, later):
        assert later.when <= self.queue.now, "asked for before the GPU came to it"
        return 1000 * (later.when - self.when)


@pytest.fixture
def queue(monkeypatch):
    made = Queue()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("other streams are waited for, too"))
    monkeypatch.setattr(torch.cuda, "Event", made.event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: made)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    monkeypatch.setattr(phases.time, "perf_counter", lambda: made.now)
    return made


def test_inner_phases_wait_for_no_gpu_and_pay_for_what_it_did(queue):
    rows = iter(range(1000))
    clock = PhaseClock(lambda: next(rows), torch.device("cuda", 0))
    queue.ask(3.0)  # before the phase: nobody's
    with clock.phase("train"):
        for _ in range(5):
            queue.ask(1.0)
            with clock.phase("reference"):
                queue.ask(0.25)
        queue.now += 20.0  # of the CPU alone, beside which the GPU gets done
    assert queue.waits == 2, "where the outermost phase begins and ends"
    assert clock.seconds == pytest.approx({"train": 20.01 - 1.25, "reference": 1.25}, abs=1e-6)
    assert clock.evaluations == {"train": 6, "reference": 5}


def test_a_phase_that_fails_is_closed(queue):
    clock = PhaseClock(lambda: 0, torch.device("cuda", 0))
    with pytest.raises(ZeroDivisionError), clock.phase("train"), clock.phase("reference"):
        queue.ask(2.0 / 0)
    with clock.phase("reward"):
        queue.ask(1.0)
    assert clock.seconds == pytest.approx({"train": 0.0, "reference": 0.0, "reward": 1.001})


def test_on_a_cpu_each_phase_pays_its_own(queue):
    clock = PhaseClock(lambda: 0)
    with clock.phase("train"):
        queue.now += 1.0
        with clock.phase("reference"):
            queue.now += 0.5
        queue.now += 2.0
    queue.now += 7.0
    with clock.phase("reference"):
        queue.now += 0.25
    assert clock.seconds == {"train": 3.0, "reference": 0.75}
    assert queue.waits == 0
