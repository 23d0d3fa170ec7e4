"""Work beside the caller's: on a GPU, streams wait for each other where one reads what the other has made."""

import threading
from contextlib import contextmanager

import pytest
import torch

from mixgrpo_core.support.beside import Beside


class Stream:
    """A stream in words."""

    def __init__(self, name, told):
        self.name, self.told = name, told

    def record_event(self):
        self.told.append(f"{self.name} marks")
        return f"mark of {self.name}"

    def wait_event(self, event):
        self.told.append(f"{self.name} waits for the {event}")


@pytest.fixture
def told(monkeypatch):
    """What is asked of a GPU, in order."""
    told, now = [], threading.local()
    main, own = Stream("main", told), Stream("own", told)

    @contextmanager
    def within(stream):
        now.stream = stream
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: told.append("a stream is made") or own)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: getattr(now, "stream", main))
    monkeypatch.setattr(torch.cuda, "stream", within)
    keeps = lambda tensor, stream: told.append(f"{stream.name} keeps {tensor.tolist()}")  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "record_stream", keeps)
    return told


def test_streams_of_a_gpu_wait_for_each_other(told):
    def work(x):
        told.append(f"computed in {torch.cuda.current_stream(x.device).name}")
        return x + 1, None

    aside = Beside(torch.device("cuda"))
    with aside as beside:
        images, frames = beside.take(beside.begin(work, torch.zeros(1)))
    assert images.tolist() == [1] and frames is None
    with aside as beside:
        assert beside.take(beside.begin(work, torch.ones(1)))[0].tolist() == [2]
    assert told[:1] == ["a stream is made"] and told.count("a stream is made") == 1, "its memory is kept for it alone"
    assert told[1:8] == [
        "main marks",
        "own waits for the mark of main",
        "own keeps [0.0]",
        "computed in own",
        "own marks",
        "main waits for the mark of own",
        "main keeps [1.0]",
    ]


def test_what_fails_is_raised_at_the_next_look_and_nothing_is_begun_after_the_end():
    def fails(x):
        raise OSError("no room")

    asked = []
    with Beside(torch.device("cpu")) as beside:
        piece = beside.begin(fails, torch.zeros(1))
        with pytest.raises(OSError, match="no room"):
            beside.take(piece)
        with pytest.raises(OSError, match="no room"):
            beside.look()
    beside.begin(asked.append, torch.zeros(1))
    assert asked == []
