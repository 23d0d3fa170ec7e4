"""The client of judges: stopping at once, saying what is wrong before work starts, and keeping keys to itself."""

import json
import logging
import re
import signal
import threading
import time

import pytest
from judge_questions import about, brightness, chat
from judge_server import JudgeServer, Reply, says
from mixgrpo_judge import EndpointError

KEY = "sk-local-5f1d7c"

# stopping


@pytest.mark.parametrize("reply", [says("1", delay=20), Reply(b"", status=429, headers={"Retry-After": "20"})])
def test_the_caller_can_stop_at_once(reply):
    class Stop(BaseException):
        pass

    def cancelled():
        if len(server.asked) == 3:  # the third goes out when the first has been answered
            raise Stop

    def answer(asked):
        return says("kept") if asked.number == 0 else reply

    with JudgeServer(answer) as server:
        asker = chat(server, concurrency=2)
        begin = time.monotonic()
        with pytest.raises(Stop):
            asker.ask(about([n / 8 for n in range(8)]), cancelled)
        assert time.monotonic() - begin < 5
        sent = len(server.asked)
        first = server.asked[0].brightness[0]
        assert asker.ask(about([round(8 * first) / 8]))[0].text == "kept"
        assert len(server.asked) == sent == 3  # the eight were never all sent, and none after the stop


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs an alarm to interrupt this thread")
def test_ctrl_c_stops_at_once():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    begin = time.monotonic()
    try:
        with JudgeServer(lambda asked: says("1", delay=20)) as server:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                chat(server).ask(about([0.5]))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 5
    waiting = [thread for thread in threading.enumerate() if thread.name == "mixgrpo-judge"]
    for thread in waiting:
        thread.join(2)
    assert not any(thread.is_alive() for thread in waiting)


def test_more_than_an_answer_is_not_read_on(monkeypatch):
    """An answer without end, or another server's download, must not fill the memory."""
    monkeypatch.setattr("mixgrpo_judge.transport.LARGEST", 1000)
    with JudgeServer(lambda asked: says("1" * 2000), models=Reply(b" " * 2000)) as server:
        (answer,) = chat(server, retries=0).ask(about([0.5]))
        assert answer.problem == "expected a chat completion, found more than 0 MiB"
        with pytest.raises(ConnectionError, match="no judge that can be asked"):
            chat(server).check()


# check


def test_check_finds_the_only_model():
    with JudgeServer(brightness, models=["/models/q.gguf"]) as server:
        asker = chat(server, model="")
        asker.check()
        asker.ask(about([0.5]))
    assert asker.identity == f"/models/q.gguf at {server.url}"
    assert server.asked[0].body["model"] == "/models/q.gguf"


@pytest.mark.parametrize(
    "model,models,words",
    [
        ("mine", ["a", "b"], "expected model 'mine' at .* which offers: a, b"),
        ("", ["a", "b"], "expected one model, or its name .* which offers: a, b"),
        ("mine", [], "which offers: none"),
    ],
)
def test_check_names_the_models_that_are_offered(model, models, words):
    with JudgeServer(brightness, models=models) as server:
        with pytest.raises(EndpointError, match=words):
            chat(server, model=model).check()
        (answer,) = chat(server, model="").ask(about([0.5])) if not model else chat(server).ask(about([0.5]))
    assert bool(answer.problem) == (not model)


@pytest.mark.parametrize(
    "reply", [Reply(b"<html>router</html>"), Reply(b"[]"), Reply(b"", status=500), Reply(b"x", cut=1)]
)
def test_check_of_something_else(reply):
    with JudgeServer(brightness, models=reply) as server, pytest.raises(ConnectionError) as error:
        chat(server).check()
    assert server.url in str(error.value) and "\n" not in str(error.value)


def test_a_server_without_a_list_of_models_is_taken_at_its_word():
    with JudgeServer(brightness, models=Reply(b"", status=404)) as server:
        chat(server).check()
        with pytest.raises(ConnectionError):
            chat(server, model="").check()


# keys


def test_the_key_is_sent_and_shown_nowhere(caplog):
    caplog.set_level(logging.DEBUG)
    with JudgeServer(brightness, key=KEY) as server:
        asker = chat(server, key=KEY)
        asker.check()
        assert asker.ask(about([0.5]))[0].problem == ""
        assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
        server.reply = lambda asked: Reply(f"your key {KEY} is out of tokens".encode(), status=400)
        shown = [asker.ask(about([0.6]))[0].problem, repr(asker), repr(asker.endpoint), asker.identity]
        server.reply = lambda asked: Reply(f"{KEY} {KEY}".encode())
        shown.append(chat(server, key=KEY, retries=0).ask(about([0.7]))[0].problem)
    assert all(shown) and not any(KEY in words for words in shown)
    assert caplog.records and KEY not in caplog.text and not any(KEY in str(record.args) for record in caplog.records)


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("before", range(64, 82))
def test_no_part_of_a_key_is_left_where_an_answer_is_cut(status, before):
    """What a server says is shown to 80 characters, which may end within a key."""
    with JudgeServer(lambda asked: Reply(b"x" * before + f"{KEY} is out of tokens".encode(), status=status)) as server:
        problem = chat(server, key=KEY, retries=0).ask(about([0.5]))[0].problem
    assert problem and KEY[:3] not in problem


@pytest.mark.parametrize(
    "key,words", [("sk-wrong-77aa", "the key of endpoint 'here' is not accepted"), ("", "has none")]
)
def test_a_wrong_key_is_said_without_the_key(key, words):
    with JudgeServer(brightness, key=KEY) as server:  # its refusal quotes the key that it was sent
        (answer,) = chat(server, key=key).ask(about([0.5]))
        with pytest.raises(EndpointError, match=words) as error:
            chat(server, key=key).check()
    assert re.search(words, answer.problem) and "401" in answer.problem
    assert not key or key not in answer.problem + str(error.value)


def test_proxies_of_the_environment_are_not_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with JudgeServer(brightness) as server:
        assert chat(server, retries=0).ask(about([0.5]))[0].text == "0.50"


def test_a_caller_with_an_event_loop_of_its_own_can_ask():
    import asyncio

    async def ask(asker):
        return asker.ask(about([0.5]))

    with JudgeServer(brightness) as server:
        assert asyncio.run(ask(chat(server)))[0].text == "0.50"


def test_the_body_is_json_that_any_server_reads():
    with JudgeServer(brightness) as server:
        chat(server).ask(about([0.5], "Zeichnet “Ä” 雪 \u2028"))
    assert server.asked[0].text == "Zeichnet “Ä” 雪 \u2028" and json.dumps(server.asked[0].body)
