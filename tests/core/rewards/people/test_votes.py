"""People's votes: what they are worth, that none is lost, and that a run never waits for longer than it was told."""

import itertools
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.rewards.people.ballot import BallotError, State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.votes import HumanVote, shown_pictures, votes_at
from mixgrpo_core.rewards.people.voting import Ranking, Thumbs
from mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward
from mixgrpo_core.rewards.port import Context, Reward, RewardBatch, Scores, StatelessReward, about
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.support.spelling import parse, spell

NONE = None
CLASSES = {cls.__name__: cls for cls in (HumanVote, Thumbs, Ranking, PixelReward, Brightness, More)}


def group(count=4, shade=0.0, iteration=3, side=16, place=0):
    """Images of one even colour each, lighter from one to the next."""
    shades = shade + torch.arange(count)[:, None, None, None] / (2 * count)
    images = shades.expand(count, side, side, 3).contiguous()
    context = Context(iteration=iteration)
    return RewardBatch(images=images, prompts=("a red circle",) * count, group=place, context=context)


def asking(folder, **settings):
    """A vote whose ballots are in ``folder``, with a second to vote."""
    return HumanVote(folder=str(folder), **{"seconds": 1.0, **settings})


class Voter:
    """Somebody at the browser: hears of a ballot, and votes through a box of their own."""

    def __init__(self, folder, votes=None, end=None):
        self.folder, self.votes, self.end, self.heard = folder, votes, end, []

    def __call__(self, ballot):
        self.heard.append(ballot)
        if len(self.heard) == 1:
            BallotBox(self.folder).vote(ballot.id, self.votes or {}, self.end)


def voted(folder, votes, end=None, batch=None, **settings):
    """Scores of a group on which somebody votes at once, and the ballot."""
    voter = Voter(folder, votes, end)
    batch = batch or group()
    scores = votes_at(HumanVote(**{"seconds": 20.0, **settings}), folder, voter)(batch)
    return scores, BallotBox(folder).read(voter.heard[0].id)


def values(scores):
    return [
        value if valid else NONE for value, valid in zip(scores.values.tolist(), scores.valid.tolist(), strict=True)
    ]


# What votes are worth


@pytest.mark.parametrize(
    ("votes", "end", "expected"),
    [
        ({0: 1, 1: -1, 2: -1, 3: 1}, None, [1, -1, -1, 1]),  # everybody has a vote: nobody need say so
        ({0: 1, 2: -1}, State.DONE, [1, 0, -1, 0]),  # left out on purpose: neither good nor bad
        ({2: 1}, State.DONE, [0, 0, 1, 0]),
        ({}, State.DONE, [NONE] * 4),
        ({0: 1, 2: -1}, State.SKIPPED, [NONE] * 4),
    ],
)
def test_what_thumbs_are_worth(tmp_path, votes, end, expected):
    scores, _ = voted(tmp_path, votes, end)
    assert values(scores) == expected


@pytest.mark.parametrize(
    ("places", "end", "expected"),
    [
        ({0: 2, 1: 1, 2: 4, 3: 3}, None, [2 / 3, 1, 0, 1 / 3]),
        ({0: 1, 1: 1, 2: 3, 3: 4}, None, [5 / 6, 5 / 6, 1 / 3, 0]),  # two share the first place
        ({0: 1, 1: 1, 2: 1, 3: 1}, None, [0.5] * 4),
        ({2: 1}, State.DONE, [1 / 3, 1 / 3, 1, 1 / 3]),  # the favourite before three that share the rest
        ({2: 1, 0: 2}, State.DONE, [2 / 3, 1 / 6, 1, 1 / 6]),
    ],
)
def test_what_a_ranking_is_worth(tmp_path, places, end, expected):
    scores, _ = voted(tmp_path, places, end, way=Ranking())
    assert values(scores) == pytest.approx(expected)


@pytest.mark.parametrize(("way", "expected"), [(Thumbs(), [1, NONE, NONE, -1]), (Ranking(), [1, NONE, NONE, 0.0])])
def test_when_the_time_is_up_only_what_was_voted_counts(tmp_path, way, expected):
    votes = {0: 1, 3: -1 if way == Thumbs() else 2}
    started = time.monotonic()
    scores, ballot = voted(tmp_path, votes, way=way, seconds=0.5)
    assert time.monotonic() - started < 2
    assert values(scores) == expected
    assert ballot.state is State.OVER and ballot.fallback == ""
    assert group_advantages(scores.values, scores.valid).tolist() == pytest.approx([2**-0.5, 0, 0, -(2**-0.5)])


def test_scoring_goes_on_at_once_when_everybody_is_done(tmp_path):
    started = time.monotonic()
    voted(tmp_path, {0: 1, 1: 1, 2: 1, 3: -1}, seconds=60)
    voted(tmp_path, {0: 1}, State.DONE, batch=group(shade=0.3), seconds=60)
    assert time.monotonic() - started < 5


def test_only_some_images_are_shown_and_the_others_have_no_score(tmp_path):
    scores, ballot = voted(tmp_path, {0: 1, 1: -1}, batch=group(6), shown=2)
    assert ballot.images == 2 and len(BallotBox(tmp_path).pictures(ballot.id)) == 2
    assert values(scores) == [1, -1, *[NONE] * 4]


def test_a_vote_is_spelled_as_a_call_and_recognised_without_its_clock_and_its_folder():
    vote = HumanVote(way=Ranking(), shown=8, fallback=PixelReward(Brightness(), More()), seconds=60, folder="votes")
    assert parse(spell(vote), CLASSES) == vote
    assert repr(vote) == repr(replace(vote, seconds=5, folder="elsewhere"))
    assert repr(vote) != repr(replace(vote, way=Thumbs()))


def test_a_vote_is_for_training_images_only_and_a_ranking_is_of_its_group():
    assert not about(HumanVote()).held_out and not about(votes_at(HumanVote(), Path(), print)).held_out
    assert about(HumanVote(way=Ranking())).groupwise and not about(HumanVote()).groupwise


@pytest.mark.parametrize(("settings", "words"), [({"seconds": 0}, "some seconds"), ({"shown": 1}, "two images")])
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        HumanVote(**settings)


def test_outside_of_a_training_people_are_not_asked_without_a_folder():
    with pytest.raises(ValueError, match=r"HumanVote\(folder='votes'\)"):
        HumanVote().prepare(["a red circle"])


# The time limit and the fallback


def test_nobody_votes_and_the_group_teaches_nothing(tmp_path):
    vote = asking(tmp_path, seconds=0.3)
    scores, failures = score({"votes": vote}, group())
    assert not scores["votes"].valid.any() and scores["votes"].abstained and failures == []
    [name] = BallotBox(tmp_path).ids()
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["state"] == "time is up" and found["fallback"] == "skipped: the group teaches nothing"


def test_one_vote_alone_says_nothing(tmp_path):
    scores, ballot = voted(tmp_path, {2: 1}, seconds=0.3)
    assert not scores.valid.any() and ballot.fallback


def test_another_reward_scores_a_group_that_nobody_voted_on(tmp_path):
    fallback = PixelReward(Brightness(), More())
    scores = asking(tmp_path, seconds=0.3, fallback=fallback)(group())
    assert scores.values.tolist() == pytest.approx(fallback(group()).values.tolist())
    [name] = BallotBox(tmp_path).ids()
    assert BallotBox(tmp_path).read(name).fallback == f"scored by {fallback!r}"


def test_who_skips_a_group_wants_no_fallback_either(tmp_path):
    scores, ballot = voted(tmp_path, {0: 1, 1: -1}, State.SKIPPED, fallback=PixelReward(Brightness(), More()))
    assert not scores.valid.any() and ballot.state is State.SKIPPED


def test_the_fallback_is_prepared_and_remembered_with_the_vote(tmp_path):
    @dataclass(frozen=True)
    class Counting(StatelessReward):
        heard: list

        def prepare(self, prompts):
            self.heard.append(list(prompts))

        def state_dict(self):
            return {"heard": list(self.heard)}

        def load_state_dict(self, state):
            self.heard[:] = state["heard"]

    fallback = Counting([])
    vote = votes_at(HumanVote(fallback=fallback), tmp_path, print)
    vote.prepare(["a", "b"])
    state = vote.state_dict()
    fallback.heard.clear()
    vote.load_state_dict(state)
    assert fallback.heard == [["a", "b"]]


def test_a_vote_within_another_reward_is_given_its_place_too(tmp_path):
    @dataclass(frozen=True)
    class Doubled(StatelessReward):
        parts: tuple[Reward, ...]
        factor: float = 2.0

        def __call__(self, batch):
            found = self.parts[0](batch)
            return replace(found, values=self.factor * found.values)

    voter = Voter(tmp_path, {0: 1, 1: -1, 2: 1, 3: 1})
    reward = votes_at(Doubled((HumanVote(seconds=20), PixelReward(Brightness(), More()))), tmp_path, voter)
    assert values(reward(group())) == [2, -2, 2, 2]
    other = PixelReward(Brightness(), More())
    assert votes_at(other, tmp_path, voter) is other


def test_the_last_vote_can_be_taken_back_and_changed(tmp_path):
    """Each look at the full ballot finds it open; a change opens it for the whole time again."""
    heard, box = [], BallotBox(tmp_path)
    turns = iter(({0: 1, 1: -1, 2: 1, 3: 1}, {3: None}, {3: -1}))

    def voter(ballot):
        heard.append((ballot.open, len(ballot.votes), ballot.seconds_left))
        box.vote(ballot.id, next(turns, {}))

    scores = votes_at(HumanVote(seconds=60, second_thoughts=0.5), tmp_path, voter)(group())
    assert values(scores) == [1, -1, 1, -1]
    assert [full for _, full, _ in heard[:4]] == [0, 4, 3, 4]
    assert heard[1][2] <= 0.5 < 50 < heard[2][2] and heard[3][2] <= 0.5, "what people see of the time that is left"
    with pytest.raises(ValueError, match="second thoughts"):
        HumanVote(second_thoughts=-1.0)


# Nothing is lost


def test_votes_survive_and_the_same_pictures_are_not_asked_for_again(tmp_path):
    first, ballot = voted(tmp_path, {0: 1, 1: -1, 2: 1, 3: -1})
    before = ballot.to_json()
    again = asking(tmp_path, seconds=60)(group())  # a process that starts anew has nothing but the folder
    assert values(again) == values(first)
    assert BallotBox(tmp_path).read(ballot.id).to_json() == before


@pytest.mark.parametrize(
    "other",
    [group(shade=0.2), group(iteration=4), group(place=1), group(side=20), replace(group(), prompts=("blue",) * 4)],
    ids=["pictures", "iteration", "group", "size", "prompt"],
)
def test_votes_are_never_counted_for_other_pictures(tmp_path, other):
    voted(tmp_path, {0: 1, 1: -1, 2: 1, 3: -1})
    scores = asking(tmp_path, seconds=0.3)(other)
    assert not scores.valid.any()
    assert len(BallotBox(tmp_path).ids()) == 2


def test_an_update_that_rounds_anew_does_not_lose_the_votes(tmp_path):
    voted(tmp_path, {0: 1, 1: -1, 2: 1, 3: -1})
    rounded = replace(group(), images=group().images + 2 / 255)
    assert values(asking(tmp_path, seconds=0.3)(rounded)) == [1, -1, 1, -1]
    assert len(BallotBox(tmp_path).ids()) == 1


def test_a_wait_that_was_broken_off_goes_on_with_its_votes(tmp_path):
    class Pause(BaseException):
        pass

    def leave(ballot):
        BallotBox(tmp_path).vote(ballot.id, {0: 1, 1: -1})
        raise Pause

    with pytest.raises(Pause):
        score({"votes": votes_at(HumanVote(seconds=60), tmp_path, leave)}, group())
    [name] = BallotBox(tmp_path).ids()
    assert BallotBox(tmp_path).read(name).open
    scores, ballot = voted(tmp_path, {2: 1, 3: 1})
    assert ballot.id == name and values(scores) == [1, -1, 1, 1]


def test_late_votes_are_marked_and_count_when_the_iteration_is_done_again(tmp_path):
    vote = asking(tmp_path, seconds=0.3)
    assert not vote(group()).valid.any()
    [name] = BallotBox(tmp_path).ids()
    late = BallotBox(tmp_path).vote(name, {0: 1, 2: -1})
    assert late.late == (0, 2) and late.state is State.OVER and not late.open
    assert values(vote(group())) == [1, NONE, -1, NONE]
    assert BallotBox(tmp_path).read(name).fallback == ""


def test_a_vote_can_be_taken_back(tmp_path):
    box = BallotBox(tmp_path)
    ballot = opened(box)
    box.vote(ballot.id, {0: 1, 1: 1})
    assert box.vote(ballot.id, {0: None}).votes == {1: 1}
    assert box.vote(ballot.id, {1: -1}).votes == {1: -1}


def test_a_text_editor_may_vote_and_break_the_file_meanwhile(tmp_path):
    def edit(ballot):
        path = tmp_path / f"{ballot.id}.json"
        if not seen:
            path.write_text("{")  # half of an edit
        elif len(seen) == 2:
            found = ballot.to_json() | {"votes": {"1": 1, "2": -1}, "state": "done"}
            path.write_text(json.dumps(found))
        seen.append(ballot)

    seen = []
    scores = votes_at(HumanVote(seconds=20), tmp_path, edit)(group())
    assert values(scores) == [0, 1, -1, 0]


def test_a_folder_that_is_removed_meanwhile_freezes_nothing(tmp_path):
    def remove(ballot):
        for path in (tmp_path / "votes").rglob("*"):
            if path.is_file():
                path.unlink()

    started = time.monotonic()
    assert not votes_at(HumanVote(seconds=0.5), tmp_path / "votes", remove)(group()).valid.any()
    assert time.monotonic() - started < 5


def test_pictures_of_old_ballots_go_and_their_votes_stay(tmp_path):
    box = BallotBox(tmp_path, kept=3)
    for iteration in range(6):
        opened(box, group(iteration=iteration))
    assert len(box.ids()) == 6
    assert [len(box.pictures(name)) for name in box.ids()] == [0, 0, 0, 4, 4, 4]


def opened(box, batch=None, way=Thumbs()):  # noqa: B008
    batch = batch or group()
    about = {"iteration": batch.context.iteration, "group": batch.group, "seconds": 60}
    return box.opened(shown_pictures(batch.images), batch.prompts[0], way, **about)


# What is no vote


@pytest.mark.parametrize("votes", [{0: 2}, {0: 0}, {9: 1}, {-1: 1}, {"0": 1}])
def test_what_cannot_be_a_vote_changes_nothing(tmp_path, votes):
    box = BallotBox(tmp_path)
    ballot = opened(box)
    with pytest.raises(ValueError, match="thumb is 1|has images 0..3"):
        box.vote(ballot.id, {1: 1, **votes})
    assert box.read(ballot.id).votes == {}


@pytest.mark.parametrize("place", [0, 5, -1])
def test_places_lie_within_the_group(tmp_path, place):
    box = BallotBox(tmp_path)
    with pytest.raises(ValueError, match=r"1\.\.4"):
        box.vote(opened(box, way=Ranking()).id, {0: place})


@pytest.mark.parametrize("name", ["", "..", "../config", "000003-000-zzzzzzzz", "000003-000-00000000", "a/b"])
def test_only_ballots_are_read(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    for ask in (BallotBox(tmp_path / "votes").read, lambda name: BallotBox(tmp_path / "votes").vote(name, {})):
        with pytest.raises(FileNotFoundError):
            ask(name)


@pytest.mark.parametrize("change", [{"format": 2}, {"way": "dice"}, {"votes": {"7": 1}}, {"state": 5}, {"images": "4"}])
def test_a_damaged_ballot_is_a_sentence(tmp_path, change):
    box = BallotBox(tmp_path)
    ballot = opened(box)
    (tmp_path / f"{ballot.id}.json").write_text(json.dumps(ballot.to_json() | change))
    with pytest.raises(BallotError, match=ballot.id):
        box.read(ballot.id)


# Several at once


def _vote_many(folder, name, images, times):
    box = BallotBox(Path(folder))
    for turn, image in itertools.product(range(times), images):
        box.vote(name, {image: 1 if turn % 2 else -1})


def test_two_browsers_and_two_processes_never_tear_the_file_or_lose_a_vote(tmp_path):
    box = BallotBox(tmp_path)
    ballot = opened(box, group(8))
    start = multiprocessing.get_context("spawn").Process
    parties = [threading.Thread(target=_vote_many, args=(tmp_path, ballot.id, [i], 12)) for i in range(4)]
    parties += [start(target=_vote_many, args=(str(tmp_path), ballot.id, [4, 5, 6, 7], 6))]
    for party in parties:
        party.start()
    while any(party.is_alive() for party in parties):
        box.read(ballot.id)  # raises if it is torn
        time.sleep(0.001)
    assert box.read(ballot.id).votes == dict.fromkeys(range(8), 1)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_no_lock_is_held_while_a_run_waits(tmp_path):
    slowest = []

    def vote(ballot):
        if ballot.open:
            started = time.monotonic()
            BallotBox(tmp_path).vote(ballot.id, {0: 1})
            slowest.append(time.monotonic() - started)

    votes_at(HumanVote(seconds=1.0), tmp_path, vote)(group())
    assert len(slowest) >= 3 and max(slowest) < 1


# In a training

CONFIG = TrainConfig(
    iterations=6,
    seed=3,
    steps=6,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.05,
    updates=2,
    eval_every=0,
    checkpoint_every=2,
)
PROMPTS = ["a red circle", "a blue square", "green"]


def test_a_run_that_nobody_votes_on_neither_freezes_nor_fails(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    model = ToyModel()
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    vote = votes_at(HumanVote(seconds=0.05), run.path / "votes", lambda ballot: None)
    reports = list(train(model, PROMPTS, {"votes": vote}, CONFIG, run=run))
    assert [report.flat_groups for report in reports] == [1.0] * 6
    assert all(report.rewards["votes"].valid == 0 and report.rewards["votes"].count == 8 for report in reports)
    assert all(report.failures == [] for report in reports)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.lora_state().items())
    box = BallotBox(run.path / "votes")
    assert [box.read(name).state for name in box.ids()] == [State.OVER] * 12
    assert {box.read(name).fallback for name in box.ids()} == {"skipped: the group teaches nothing"}


def test_other_rewards_go_on_teaching_while_nobody_votes(tmp_path):
    vote = votes_at(HumanVote(seconds=0.05), tmp_path, lambda ballot: None)
    reports = list(train(ToyModel(), PROMPTS, {"votes": vote, "red": Red()}, replace(CONFIG, iterations=2)))
    assert all(report.flat_groups == 0 and report.update.steps for report in reports)


class Likes:
    """Votes for the redder half of a group, once per ballot."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []

    def __call__(self, ballot):
        if not ballot.open or ballot.id in self.asked:
            return
        self.asked.append(ballot.id)
        box = BallotBox(self.folder)
        red = [_redness(path) for path in box.pictures(ballot.id)]
        middle = sorted(red)[len(red) // 2]
        box.vote(ballot.id, {image: 1 if value >= middle else -1 for image, value in enumerate(red)})


def _redness(path):
    from PIL import Image

    red, green, blue = Image.open(path).convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return red - (green + blue) / 2


def test_a_training_learns_what_the_votes_ask_for(tmp_path):
    voter = Likes(tmp_path)
    vote = votes_at(HumanVote(seconds=60), tmp_path, voter)
    reward, config = Red(), replace(CONFIG, iterations=20, eval_every=20, reward_weights={"red": 0.0})
    reports = list(train(ToyModel(), PROMPTS, {"votes": vote, "red": reward}, config, held_out=["a yellow star"]))
    first, last = (e.rewards["red"].mean for report in (reports[0], reports[-1]) for e in report.evaluations[:1])
    assert last > first + 0.05, f"redness of held-out images went from {first:.3f} to {last:.3f}"
    assert len(voter.asked) == 40, "every group once, and no held-out image"


def test_a_resumed_iteration_finds_its_votes_and_ends_where_an_undisturbed_run_does(tmp_path):
    class Enough(BaseException):
        pass

    def go(run, waiting):
        model = ToyModel()
        vote = votes_at(HumanVote(seconds=60), run.path / "votes", waiting)
        list(train(model, PROMPTS, {"votes": vote}, CONFIG, run=run))
        return model.lora_state()

    undisturbed = RunFolder.create(tmp_path / "undisturbed", CONFIG)
    expected = go(undisturbed, Likes(undisturbed.path / "votes"))
    run = RunFolder.create(tmp_path / "run", CONFIG)
    voter = Likes(run.path / "votes")

    def leave_after(ballot):
        voter(ballot)
        if len(voter.asked) == 8 and not ballot.open:
            raise Enough

    with pytest.raises(Enough):
        go(run, leave_after)
    cast = {name: BallotBox(run.path / "votes").read(name) for name in BallotBox(run.path / "votes").ids()}
    found = go(RunFolder.open(run.path), voter)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert len(voter.asked) == len(set(voter.asked)) == 12, "no group was voted on twice"
    assert all(BallotBox(run.path / "votes").read(name) == ballot for name, ballot in cast.items())


WAITS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
sys.path[:0] = sys.argv[1:3]
from test_votes import group, votes_at, HumanVote, Path
votes_at(HumanVote(seconds=60), Path(sys.argv[3]), lambda ballot: print("waiting", flush=True))(group())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_killed_while_it_waits_leaves_the_votes(tmp_path, number):
    places = [str(Path(__file__).parent), str(Path(__file__).parents[3]), str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, *places], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout.readline() == "waiting\n"
        [name] = BallotBox(tmp_path).ids()
        BallotBox(tmp_path).vote(name, {0: 1, 1: -1})
        started = time.monotonic()
        process.send_signal(number)
        process.wait(timeout=10)
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    scores, ballot = voted(tmp_path, {2: 1, 3: 1})
    assert ballot.id == name and values(scores) == [1, -1, 1, 1]


def test_a_reward_that_abstains_hides_no_failure_of_another(tmp_path):
    class Broken(StatelessReward):
        def __call__(self, batch):
            raise RuntimeError("no connection")

    vote = asking(tmp_path, seconds=0.1)
    found, failures = score({"votes": vote, "broken": Broken()}, group())
    assert [failure.reward for failure in failures] == ["broken"]
    assert found["votes"].abstained and not found["broken"].abstained
    assert isinstance(found["votes"], Scores)
