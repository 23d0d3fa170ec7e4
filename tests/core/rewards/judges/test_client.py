"""The client of judges against a real server on this machine: well, badly, late, out of order, or not at all."""

import json
import math
import time

import numpy as np
import pytest
import torch
from judge_questions import about, brightness, chat, grey
from judge_server import JudgeServer, Reply, says
from mixgrpo_judge import AnswerCache
from mixgrpo_judge.transport import asked_wait

from mixgrpo_core.rewards.judges import Question

KEY = "sk-local-5f1d7c"


def test_the_request_is_a_chat_completion_with_pictures_first():
    with JudgeServer(brightness) as server:
        asker = chat(server, url=server.url + "/v1/", extra={"chat_template_kwargs": {"enable_thinking": False}})
        (answer,) = asker.ask([Question("Which?", (grey(0.2), grey(0.8, 24)), 33, 5)])
    (asked,) = server.asked
    assert answer.text == "0.20" and answer.problem == "" and answer.first == {}
    assert [round(level, 1) for level in asked.brightness] == [0.2, 0.8]
    assert [picture.format for picture in asked.pictures] == ["JPEG", "JPEG"]
    assert [part["type"] for part in asked.body["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert (asked.body["model"], asked.body["max_tokens"], asked.body["temperature"]) == ("judge", 33, 0)
    assert (asked.body["logprobs"], asked.body["top_logprobs"]) == (True, 5)
    assert asked.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "Authorization" not in asked.headers


def test_answers_keep_the_order_of_the_questions_whatever_the_server_does():
    levels = [n / 8 for n in range(8)]
    with JudgeServer(lambda asked: says(f"{asked.brightness[0]:.2f}", delay=0.2 * (1 - asked.brightness[0]))) as server:
        answers = chat(server).ask(about(levels))
    assert [float(answer.text) for answer in answers] == pytest.approx(levels, abs=0.01)


def test_a_large_picture_is_shrunk_and_a_small_one_is_not():
    with JudgeServer(brightness) as server:
        asker = chat(server, longest_side=20)
        asker.ask([Question("?", (torch.rand(60, 30, 3), grey(0.5, 1), torch.rand(20, 10, 3)), 1)])
    assert [picture.size for picture in server.asked[0].pictures] == [(10, 20), (1, 1), (10, 20)]


def test_as_many_requests_are_in_flight_as_allowed_and_never_more():
    with JudgeServer(lambda asked: says("1", delay=0.1)) as server:
        answers = chat(server, concurrency=3).ask(about([n / 20 for n in range(12)]))
    assert server.most_in_flight == 3
    assert len(server.asked) == 12 and all(answer.text == "1" for answer in answers)


@pytest.mark.parametrize(
    "bad",
    [
        Reply(b"busy", status=429),
        Reply(b"busy", status=429, headers={"Retry-After": "0.01"}),
        Reply(b"<html>down</html>", status=503),
        Reply(b"<html>a proxy's page</html>"),
        Reply(b'{"choices": [{"message": {"content": "0.5'),
        Reply(b'{"choices": []}'),
        Reply(b"[1, 2]"),
        Reply(b'{"choices": [{"message": {"content": "0.5"}}]}', cut=10),
        Reply(b"nothing", cut=7),
        says(None),
        says("  "),
        says("late", delay=1.0),
    ],
    ids=lambda reply: f"{reply.status} {reply.content[:24]!r} cut {reply.cut} {dict(reply.headers) or ''}",
)
def test_what_may_pass_is_asked_again(bad):
    with JudgeServer(lambda asked: bad if asked.number == 0 else brightness(asked)) as server:
        timeout = 0.5 if bad.delay else 20
        (answer,) = chat(server, retries=1, timeout=timeout).ask(about([0.5]))
        assert (answer.text, answer.problem, len(server.asked)) == ("0.50", "", 2)
        server.reply = lambda asked: bad
        (answer,) = chat(server, retries=1, timeout=timeout).ask(about([0.5]))
    assert answer.text == "" and answer.problem and len(server.asked) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422])
def test_a_mistake_in_the_request_is_not_repeated(status):
    with JudgeServer(lambda asked: Reply(b"no", status=status, headers={"Location": "/elsewhere"})) as server:
        (answer,) = chat(server).ask(about([0.5]))
    assert str(status) in answer.problem and len(server.asked) == 1


def test_later_tries_wait_longer():
    with JudgeServer(lambda asked: says("1", delay=0.5)) as server:
        (answer,) = chat(server, timeout=0.4, retries=3).ask(about([0.5]))
    assert answer.text == "1" and 2 <= len(server.asked) <= 4  # they wait 0.4, 0.6, 0.8 and 1 s


def test_the_servers_own_time_is_kept():
    busy = Reply(b"", status=429, headers={"Retry-After": "0.3"})
    with JudgeServer(lambda asked: busy if asked.number == 0 else says("1")) as server:
        begin = time.monotonic()
        chat(server).ask(about([0.5]))
    assert time.monotonic() - begin > 0.3


@pytest.mark.parametrize(
    "header,seconds",
    [("7", 7), ("3600", 60), ("-5", 0), ("Sat, 21 Nov 2026 12:00:09 GMT", 9), (None, 2), ("soon", 2), ("nan", 2)],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert asked_wait(header, lambda: 1795262400.0, otherwise=2) == seconds  # now: 2026-11-21 12:00:00


def test_half_the_answers_missing_is_half_the_answers():
    def reply(asked):
        return brightness(asked) if asked.brightness[0] > 0.45 else Reply(b"", status=500)

    with JudgeServer(reply) as server:
        answers = chat(server, retries=1).ask(about([n / 8 for n in range(8)]))
    assert [bool(answer.problem) for answer in answers] == [True] * 4 + [False] * 4
    assert "status 500" in answers[0].problem


def test_a_server_that_is_gone_is_not_asked_all_tries_by_every_question():
    with JudgeServer(lambda asked: Reply(b"", status=500)) as server:
        answers = chat(server, retries=4, concurrency=1).ask(about([n / 20 for n in range(10)]))
    assert all(answer.problem for answer in answers) and len(server.asked) == 5 + 9


def test_a_server_that_does_not_answer_at_all():
    with JudgeServer(brightness) as server:
        asker = chat(server, retries=1)
    (answer,) = asker.ask(about([0.5]))
    assert f"{server.url} cannot be reached" in answer.problem
    with pytest.raises(ConnectionError, match=f"nothing answers at {server.url}.*start the server.*'here'"):
        asker.check()


def test_a_picture_that_cannot_be_sent_costs_its_question_only():
    questions = [Question("?", (image,), 1) for image in (grey(math.nan), grey(0.5), torch.zeros(4, 4))]
    with JudgeServer(brightness) as server:
        answers = chat(server).ask([*questions, Question("?", (np.full((8, 8, 3), 0.5, np.float32),), 1)])
    assert [bool(answer.problem) for answer in answers] == [True, False, True, False]
    assert "NaN" in answers[0].problem and "[4, 4]" in answers[2].problem


# log-probs


def test_alternatives_of_the_first_token_come_with_their_log_probs():
    with JudgeServer(lambda asked: says("Yes", {"Yes": -0.5, " yes": -2.0, "Yes.": -9999.0, "No": -1.5})) as server:
        (answer,) = chat(server).ask(about([0.5], alternatives=4))
    assert answer.first == {"Yes": -0.5, " yes": -2.0, "Yes.": -9999.0, "No": -1.5}


@pytest.mark.parametrize("log_probs", [{"Yes": 3.0}, {"Yes": math.nan}, {"Yes": "much"}, {"Yes": None}])
def test_log_probs_that_are_none_are_no_answer(log_probs):
    with JudgeServer(lambda asked: says("Yes", log_probs)) as server:
        (answer,) = chat(server, retries=0).ask(about([0.5], alternatives=4))
    assert "expected a chat completion" in answer.problem


@pytest.mark.parametrize("log_probs", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "Yes"}]}])
def test_an_answer_without_alternatives_is_its_text(log_probs):
    choice = {"message": {"content": "Yes"}, "logprobs": log_probs}
    with JudgeServer(lambda asked: Reply(json.dumps({"choices": [choice]}).encode())) as server:
        (answer,) = chat(server).ask(about([0.5], alternatives=4))
    assert (answer.text, answer.first, answer.problem) == ("Yes", {}, "")


def test_tokens_that_read_the_same_are_joined():
    alternatives = [{"token": token, "logprob": math.log(0.25)} for token in ("Yes", "Yes", "No")]
    choice = {"message": {"content": "Yes"}, "logprobs": {"content": [{"top_logprobs": alternatives}]}}
    with JudgeServer(lambda asked: Reply(json.dumps({"choices": [choice]}).encode())) as server:
        (answer,) = chat(server).ask(about([0.5], alternatives=4))
    assert answer.first == pytest.approx({"Yes": math.log(0.5), "No": math.log(0.25)})


def test_a_server_that_refuses_log_probs_is_asked_without_them_from_then_on():
    def reply(asked):
        return Reply(b"logprobs are not supported", status=400) if "logprobs" in asked.body else says("yes")

    with JudgeServer(reply) as server:
        asker = chat(server)
        first, second = asker.ask(about([0.1], alternatives=4)) + asker.ask(about([0.2], alternatives=4))
    assert (first.text, first.first, second.text) == ("yes", {}, "yes")
    assert ["logprobs" in asked.body for asked in server.asked] == [True, False, False]


def test_a_question_that_is_refused_for_another_reason_does_not_end_log_probs():
    def reply(asked):
        if asked.brightness[0] < 0.5:
            return Reply(b"too long", status=400)
        return says("yes", {"yes": 0.0} if "logprobs" in asked.body else None)

    with JudgeServer(reply) as server:
        asker = chat(server)
        answers = asker.ask(about([0.1], alternatives=4)) + asker.ask(about([0.9], alternatives=4))
    assert "too long" in answers[0].problem and answers[1].first == {"yes": 0.0}


# cache


def test_the_same_question_is_sent_once(tmp_path):
    with JudgeServer(lambda asked: says("0.5", {"0": -0.25})) as server:
        for _ in range(2):  # the second one finds the file of the first
            asker = chat(server, AnswerCache(tmp_path / "deep/answers.sqlite"), key=KEY)
            for _ in range(2):
                answers = asker.ask(about([0.5, 0.5, 0.5], alternatives=2))
                assert {(answer.text, answer.first["0"]) for answer in answers} == {("0.5", -0.25)}
        assert len(server.asked) == 1
        for different in (
            about([0.6], alternatives=2),
            about([0.5], "How dark?", alternatives=2),
            about([0.5], max_tokens=9, alternatives=2),
            about([0.5], alternatives=3),
        ):
            asker.ask(different)
        chat(server, AnswerCache(tmp_path / "deep/answers.sqlite"), temperature=0.5).ask(about([0.5], alternatives=2))
        assert len(server.asked) == 6
    assert KEY.encode() not in b"".join(file.read_bytes() for file in (tmp_path / "deep").iterdir())


def test_problems_are_not_remembered(tmp_path):
    with JudgeServer(lambda asked: Reply(b"", status=500)) as server:
        asker = chat(server, AnswerCache(tmp_path / "answers.sqlite"), retries=0)
        assert asker.ask(about([0.5]))[0].problem
        server.reply = brightness
        assert asker.ask(about([0.5]))[0].text == "0.50"


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.sqlite").write_text("no database at all, but text" * 100)
    with pytest.raises(ValueError, match=r"a\.sqlite cannot be used.*name another file"):
        AnswerCache(tmp_path / "a.sqlite")


def test_a_file_that_goes_away_costs_no_answer(tmp_path, caplog):
    with JudgeServer(brightness) as server:
        asker = chat(server, AnswerCache(tmp_path / "answers.sqlite"))
        (tmp_path / "answers.sqlite").unlink()
        assert [answer.text for answer in asker.ask(about([0.25, 0.5]))] == ["0.25", "0.50"]
        assert asker.ask(about([0.5]))[0].text == "0.50" and len(server.asked) == 2, "memory is left"
    assert "answers.sqlite" in caplog.text
