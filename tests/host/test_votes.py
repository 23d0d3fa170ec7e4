"""Votes on the canvas without a browser: what the live view hears of a ballot, and the votes that it takes."""

import asyncio
import json
import threading
import time
from dataclasses import replace

import aiohttp.web
import comfy.model_management
import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer
from canvas import loaded, prompt_set, short_config
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot import State
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_pack.mixgrpo_core.rewards.people.votes import HumanVote, votes_at
from mixgrpo_pack.mixgrpo_core.rewards.people.voting import Ranking, Thumbs
from mixgrpo_pack.mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward
from mixgrpo_pack.mixgrpo_core.rewards.port import Context, RewardBatch
from mixgrpo_pack.nodes.live import Command
from mixgrpo_pack.nodes.live.board import board
from mixgrpo_pack.nodes.live.routes import LARGEST_BODY, add_routes
from mixgrpo_pack.nodes.live.voting import CutShort
from mixgrpo_pack.nodes.rewards.votes import HumanVoteNode
from mixgrpo_pack.nodes.sockets import Rewards, TrainerSettings
from mixgrpo_pack.nodes.training.fit_check import FitCheck
from mixgrpo_pack.nodes.training.trainer import TrainLora
from PIL import Image
from test_live import ears, live_run, output

__all__ = ["ears", "output"]

UP, DOWN = 1, -1


def group(count=4):
    images = torch.linspace(0, 1, count)[:, None, None, None].expand(count, 16, 16, 3).contiguous()
    return RewardBatch(images=images, prompts=("a red circle",) * count, context=Context(iteration=2))


def waits(live, **settings):
    """A vote whose ballots are told to a live run."""
    return votes_at(HumanVote(**{"seconds": 20.0, **settings}), live.folder / "votes", live.voting)


class InThread:
    """Scores a group in a thread, as the host's worker does, until it has an answer or an error."""

    def __init__(self, reward, batch=None):
        self.scores, self.error = None, None
        self._work = threading.Thread(target=self._run, args=(reward, batch or group()))
        self._work.start()

    def _run(self, reward, batch):
        try:
            self.scores = reward(batch)
        except BaseException as error:
            self.error = error

    def end(self):
        self._work.join(timeout=10)
        assert not self._work.is_alive()
        return self.scores


def until(true, seconds=10):
    stop = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < stop, "it did not happen"
        time.sleep(0.01)
    return found


def ballots(ears):
    return ears.named("mixgrpo.ballot")


# What the browser hears


def test_a_ballot_is_shown_with_its_pictures_and_the_seconds_that_are_left(output, ears):
    with live_run(output) as live:
        work = InThread(waits(live))
        told = until(lambda: ballots(ears))[0]
        assert ears.named("mixgrpo.status")[-1]["state"] == "voting"
        assert (told["state"], told["way"], told["prompt"], told["iteration"]) == ("open", "thumbs", "a red circle", 2)
        assert 15 < told["seconds_left"] <= 20 and told["votes"] == {}
        for shade, picture in zip((0, 85, 170, 255), told["pictures"], strict=True):
            assert picture["type"] == "output" and picture["subfolder"] == f"mixgrpo/my run/votes/{told['id']}"
            path = output / picture["subfolder"] / picture["filename"]
            assert Image.open(path).getpixel((3, 3)) == (shade,) * 3
        snapshot = live.snapshot()["ballot"]
        assert snapshot["id"] == told["id"] and snapshot["seconds_left"] <= told["seconds_left"]
        BallotBox(live.folder / "votes").vote(told["id"], dict.fromkeys(range(4), UP))
        assert work.end().valid.all()
        assert ballots(ears)[-1]["state"] == "done" and ballots(ears)[-1]["seconds_left"] == 0
        assert ears.named("mixgrpo.status")[-1]["state"] == "scoring"


def test_each_vote_is_told_once(output, ears):
    with live_run(output) as live:
        work = InThread(waits(live))
        told = until(lambda: ballots(ears))[0]
        time.sleep(0.5)  # several looks at the file
        assert len(ballots(ears)) == 1
        BallotBox(live.folder / "votes").vote(told["id"], {0: UP})
        until(lambda: len(ballots(ears)) == 2)
        assert ballots(ears)[1]["votes"] == {"0": 1}
        BallotBox(live.folder / "votes").vote(told["id"], {1: DOWN}, State.DONE)
        work.end()


def test_a_time_limit_is_told_with_what_was_done_instead(output, ears):
    with live_run(output) as live:
        assert not waits(live, seconds=0.3)(group()).valid.any()
    assert ballots(ears)[-1]["state"] == "time is up"
    assert ballots(ears)[-1]["fallback"] == "skipped: the group teaches nothing"


def test_the_hosts_interrupt_ends_the_wait(output, ears):
    def training():
        with live_run(output) as live:
            threading.Timer(0.3, comfy.model_management.interrupt_current_processing).start()
            waits(live)(group())

    started = time.monotonic()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        training()
    assert time.monotonic() - started < 3
    assert ears.named("mixgrpo.status")[-1]["state"] == "interrupted"


@pytest.mark.parametrize("command", list(Command))
def test_pause_and_stop_end_the_wait_and_other_commands_do_not(output, ears, command):
    with live_run(output) as live:
        work = InThread(waits(live, seconds=2))
        until(lambda: ballots(ears))
        live.ask(command)
        work.end()
        assert isinstance(work.error, CutShort) == (command in (Command.PAUSE, Command.STOP))


def test_a_view_that_fails_ends_no_wait(output, ears, monkeypatch):
    with live_run(output) as live:
        monkeypatch.setattr(live.voting._line, "send", lambda *told, **more: 1 / 0)
        assert not waits(live, seconds=0.3)(group()).valid.any()


# Over HTTP


def over_http(*calls):
    """Answers (status, JSON) to ``(method, path, body)`` calls, over a real connection to the pack's handlers."""

    async def ask():
        routes = aiohttp.web.RouteTableDef()
        add_routes(routes)
        app = aiohttp.web.Application()
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            answers = []
            for method, path, body in calls:
                async with client.request(method, path, data=body) as answer:
                    answers.append((answer.status, json.loads(await answer.text())))
            return answers

    return asyncio.run(ask())


def post(id, body, run="my run"):
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    [answer] = over_http(("POST", f"/mixgrpo/runs/{run}/ballots/{id}/votes", text))
    return answer


@pytest.fixture
def asked(output, ears):
    """A live run that waits for votes, its work, and the id of its ballot."""
    with live_run(output) as live:
        work = InThread(waits(live))
        yield live, work, until(lambda: ballots(ears))[0]["id"]
        live.ask(Command.STOP)
        work.end()


def test_votes_over_http_reach_the_run(asked, ears):
    _, work, id = asked
    status, told = post(id, {"votes": {"0": 1, "1": -1}})
    assert (status, told["votes"], told["state"]) == (200, {"0": 1, "1": -1}, "open")
    status, told = post(id, {"votes": {"1": None, "3": 1}})
    assert told["votes"] == {"0": 1, "3": 1}
    [(status, read)] = over_http(("GET", f"/mixgrpo/runs/my run/ballots/{id}", None))
    assert status == 200 and read["votes"] == told["votes"] and len(read["pictures"]) == 4
    status, told = post(id, {"end": "done"})
    assert told["state"] == "done"
    assert work.end().values.tolist() == [1, 0, 0, 1]


def test_a_group_can_be_skipped(asked):
    _, work, id = asked
    assert post(id, {"votes": {"0": 1}, "end": "skipped"})[1]["state"] == "skipped"
    assert not work.end().valid.any()


def test_late_votes_are_taken_and_said_to_be_late(output, ears):
    with live_run(output) as live:
        waits(live, seconds=0.2)(group())
        id = ballots(ears)[-1]["id"]
        status, told = post(id, {"votes": {"0": 1, "1": -1}})
        assert (status, told["late"], told["state"]) == (200, [0, 1], "time is up")
        assert ballots(ears)[-1]["late"] == [0, 1], "other browsers hear of it"
    assert post(id, {"votes": {"2": 1}})[1]["late"] == [0, 1, 2], "and when the run is over, too"
    with live_run(output) as live:
        assert waits(live)(group()).values.tolist() == [1, -1, 1, 0]


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "{",
            "5",
            "[]",
            "null",
            "\xff",
            "[" * 9000,
            '{"votes": 5}',
            '{"votes": {"a": 1}}',
            '{"votes": {"0": 1.5}}',
        ),
        *('{"votes": {"0": true}}', '{"votes": {"0": "1"}}', '{"votes": {"0": 2}}', '{"votes": {"7": 1}}'),
        *('{"votes": {"-1": 1}}', '{"end": "open"}', '{"end": 5}', '{"end": {}}', '{"votes": {"0": 1e400}}'),
    ],
)
def test_what_is_no_vote_is_a_sentence_and_changes_nothing(asked, body):
    live, _, id = asked
    status, answer = post(id, body)
    assert status == 400 and answer["error"].endswith(".")
    assert BallotBox(live.folder / "votes").read(id).votes == {}


def test_a_body_that_never_ends_is_not_read(asked):
    status, answer = post(asked[2], "x" * (LARGEST_BODY + 1))
    assert status == 413 and "bytes" in answer["error"]


@pytest.mark.parametrize(
    "place",
    [
        "/mixgrpo/runs/none/ballots/000002-000-00000000",
        "/mixgrpo/runs/my run/ballots/000002-000-00000000",
        "/mixgrpo/runs/my run/ballots/..%2Fconfig",
        "/mixgrpo/runs/my run/ballots/config",
        "/mixgrpo/runs/..%2F..%2Fmy run/ballots/000002-000-00000000",
    ],
)
def test_only_ballots_of_runs_are_found(asked, place):
    for method, path, body in (("GET", place, None), ("POST", f"{place}/votes", "{}")):
        [(status, answer)] = over_http((method, path, body))
        assert status == 404 and answer["error"].endswith(".")


def test_a_damaged_ballot_is_told(asked):
    live, _, id = asked
    (live.folder / "votes" / f"{id}.json").write_text("{")
    assert post(id, {"votes": {"0": 1}})[0] == 409


# The node and the trainer


def node(**values):
    given = {"way": "thumbs", "time_limit": 60, "images_shown": 0, "weight": 1.0, **values}
    return HumanVoteNode.execute(**given).args[0]


def brightness(weight=1.0):
    return Rewards(rewards={"brightness": PixelReward(Brightness(), More())}, weights={"brightness": weight})


def test_the_node_makes_the_vote_that_it_shows():
    made = node(way="ranking", images_shown=8, weight=2.0, fallback=brightness())
    assert made.weights == {"votes": 2.0}
    fallback = PixelReward(Brightness(), More())
    expected = HumanVote(Ranking(), shown=8, fallback=fallback, seconds=60.0, second_thoughts=6.0)
    assert made.rewards == {"votes": expected}
    assert node().rewards["votes"].way == Thumbs()


def test_inputs_that_cannot_be_are_sentences():
    for values in ({"way": "dice"}, {"time_limit": 1}, {"weight": 0.0}):
        with pytest.raises(ValueError, match="expected one of|lies in"):
            node(**values)
    assert HumanVoteNode.validate_inputs(images_shown=0) is True
    assert "two or more" in HumanVoteNode.validate_inputs(images_shown=1)
    both = Rewards(rewards={"a": PixelReward(Brightness(), More()), "b": brightness()}, weights={"a": 1.0, "b": 1.0})
    for fallback in (both, brightness(weight=0.0)):
        with pytest.raises(ValueError, match="expected one reward"):
            node(fallback=fallback)


class Queued(TrainLora):
    """The node as the host calls it."""

    class hidden:
        unique_id = "12"
        extra_pnginfo = None
        prompt = None


@pytest.fixture(scope="module")
def parts():
    return loaded()


def queue(parts, vote, name="voted", **changes):
    model, clip, vae = parts
    train = short_config(**{"iterations": 2, "eval_every": 0, "prompts_per_iteration": 1, **changes})
    settings = TrainerSettings(train=train, width=64, height=64, rank=2, alpha=4, checkpointing=False)
    given = Rewards(rewards={"votes": vote}, weights={"votes": 1.0})
    with torch.inference_mode():
        return Queued.execute(model, vae, prompt_set(clip), given, settings, name, "none")


def metrics(output, run):
    lines = (output / "mixgrpo" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_training_without_any_votes_comes_to_its_end(parts, output, ears):
    queue(parts, HumanVote(seconds=0.2))
    assert [report["rewards"]["votes"]["valid"] for report in metrics(output, "voted")] == [0, 0]
    box = BallotBox(output / "mixgrpo" / "voted" / "votes")
    assert [box.read(id).state for id in box.ids()] == [State.OVER, State.OVER]
    assert [data["state"] for data in ears.named("mixgrpo.status")][-1] == "finished"


def test_the_fit_check_asks_nobody(parts, output):
    model, clip, vae = parts
    settings = TrainerSettings(train=short_config(), width=64, height=64, rank=2, alpha=4, checkpointing=False)
    rewards = Rewards(rewards={"votes": HumanVote(seconds=600)}, weights={"votes": 1.0})
    with torch.inference_mode():
        [report] = FitCheck.execute(model, vae, prompt_set(clip), rewards, settings).args
    assert "everything fitted" in report and "nothing to train on" not in report
    assert not list(output.rglob("votes"))


def test_stop_while_it_waits_keeps_what_is_whole_and_the_votes(parts, output, ears):
    def person():
        first = until(lambda: ballots(ears), 60)[0]
        box = BallotBox(output / "mixgrpo" / "stopped" / "votes")
        box.vote(first["id"], {0: 1, 1: -1, 2: 1, 3: -1})
        second = until(lambda: [b for b in ballots(ears) if b["iteration"] == 1], 60)[0]
        box.vote(second["id"], {0: 1})
        board.find("stopped").ask(Command.STOP)

    helper = threading.Thread(target=person)
    helper.start()
    queue(parts, HumanVote(seconds=60), "stopped")
    helper.join()
    assert [data["state"] for data in ears.named("mixgrpo.status")][-1] == "stopped"
    assert [report["iteration"] for report in metrics(output, "stopped")] == [0]
    box = BallotBox(output / "mixgrpo" / "stopped" / "votes")
    voted = [box.read(id) for id in box.ids()]
    assert [(ballot.iteration, ballot.open, len(ballot.votes)) for ballot in voted] == [(0, False, 4), (1, True, 1)]
    box.vote(voted[1].id, {1: -1, 2: -1, 3: 1})  # while nothing runs
    queue(parts, HumanVote(seconds=60), "stopped")
    assert [report["iteration"] for report in metrics(output, "stopped")] == [0, 1]
    assert [box.read(id) for id in box.ids()][1] == replace(
        box.read(voted[1].id), state=State.DONE, votes={0: 1, 1: -1, 2: -1, 3: 1}, late=()
    )
    assert len(box.ids()) == 2, "the same pictures are not asked for again"


def test_the_next_groups_are_made_while_somebody_votes_and_the_view_says_how_many_wait(parts, output, ears):
    def person():
        box = BallotBox(output / "mixgrpo" / "beside" / "votes")
        first = until(lambda: [b for b in ballots(ears) if b["behind"] == 2], 60)[0]
        until(lambda: board.find("beside").snapshot()["state"] == "voting")
        made.append((first["group"], first["state"], board.find("beside").snapshot()["ballot"]["behind"]))
        for place in range(3):
            shown = until(lambda place=place: [b for b in ballots(ears) if b["group"] == place], 60)[-1]
            box.vote(shown["id"], {0: 1, 1: -1, 2: 1, 3: -1}, State.DONE)

    made = []
    helper = threading.Thread(target=person)
    helper.start()
    queue(parts, HumanVote(seconds=60), "beside", iterations=1, prompts_per_iteration=3, rollout_batch=4, steps=4)
    helper.join()
    assert made == [(0, "open", 2)], "all is rolled out, and nobody has voted"
    assert [b["group"] for b in ballots(ears) if b["state"] == "done"] == [0, 1, 2]
    assert ballots(ears)[-1]["behind"] == 0
    assert metrics(output, "beside")[0]["rewards"]["votes"]["valid"] == 12
