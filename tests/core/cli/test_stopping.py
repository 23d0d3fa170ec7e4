"""What asks a command to stop, in a process of its own; and that nothing but the command line listens."""

import ast
import os
import pty
import runpy
import signal
import sys
import threading
from pathlib import Path

import pytest

from mixgrpo_core.cli import dispatch, running

ROOT = Path(__file__).parents[3]
STOPPING = ROOT / "mixgrpo_core/cli/stopping.py"
stopping = runpy.run_path(str(STOPPING))
stopped_by_signals, Stopped = stopping["stopped_by_signals"], stopping["Stopped"]
WAITS = """
import runpy, signal, sys
stopping = runpy.run_path(sys.argv[1])
with stopping["stopped_by_signals"]():
    try:
        print("ready", flush=True)
        signal.pause()
    except stopping["Stopped"] as stop:
        print("said to nobody", flush=True)
        open(sys.argv[2], "w").write(str(stop.status))
"""


@pytest.fixture(autouse=True)
def heard():
    """Who starts the tests under nohup, or in the background of a shell, has them ignore two of the signals."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_terminal_that_is_closed_lets_the_run_be_saved(tmp_path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", WAITS, str(STOPPING), str(tmp_path / "saved")])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "saved").read_text() == "129"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_each_signal_stops_once_and_handlers_are_put_back(name):
    number = getattr(signal, name)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stopped_run():
        with stopped_by_signals():
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 5)

    with pytest.raises(Stopped) as stopped:
        stopped_run()
    assert stopped.value.status == 128 + number
    assert {each: signal.getsignal(each) for each in before} == before


def test_signals_while_it_is_saved_do_not_reach_what_saves():
    saved = []

    def stopped_run():
        with stopped_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.sigtimedwait([], 5)
            finally:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    os.kill(os.getpid(), number)
                    saved.append(number)

    with pytest.raises(Stopped):
        stopped_run()
    assert len(saved) == 3


def test_in_another_thread_nothing_is_listened_to():
    before = signal.getsignal(signal.SIGTERM)

    def listen():
        with stopped_by_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    found = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [before]


def test_only_the_command_line_touches_signals():
    """A node runs in a host whose signals are its own."""
    found = []
    for path in [*ROOT.glob("mixgrpo_core/**/*.py"), *ROOT.glob("nodes/**/*.py"), *ROOT.glob("judge/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if {"signal", "_signal", "atexit"} & {name.split(".")[0] for name in names}:
                found.append(path.relative_to(ROOT).as_posix())
    assert found == ["mixgrpo_core/cli/stopping.py"]


@pytest.mark.parametrize("swallowed", [None, ValueError, RuntimeError])
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_command_is_stopped_outside_of_its_training_too(name, status, swallowed, monkeypatch, capsys):
    """While a model is loaded, or while pictures are made, where compiled code makes another error of it."""

    def loading(words):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            signal.sigtimedwait([], 5)
        except KeyboardInterrupt:
            if not swallowed:
                raise
        raise (swallowed or AssertionError)("Invalid bounding box")

    monkeypatch.setattr(running, "COMMANDS", {"sample": loading})
    assert dispatch.main(["sample"]) == status
    assert capsys.readouterr().err == "mixgrpo sample: stopped\n"
