"""Voting in the real page: thumbs, rankings, reloads, late votes; and a training that learns what was voted for.

With ``--pictures=docs`` the README's picture is taken.
"""

import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from frontend import PLACE, load, ready, until
from live_page import LIGHT, RENDERINGS, VOTING, View, store, workflow
from playwright.sync_api import expect

from mixgrpo_core.rewards.people.ballot import State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.voting import Ranking, Thumbs

RUN = "voted-in-the-page"
SHADES = (30, 90, 150, 210)


class Asking(View):
    """The live view of a run that waits for votes, with a ballot in the run's folder."""

    def __init__(self, page, host, way, images=SHADES, seconds=300.0):
        super().__init__(page, host, RUN)
        self.box = BallotBox(host.base / "output" / "mixgrpo" / RUN / "votes")
        pictures = [np.full((64, 64, 3), shade, dtype=np.uint8) for shade in images]
        opened = self.box.opened(pictures, "a red circle", way, iteration=3, group=0, seconds=seconds)
        self.id = opened.id

    @property
    def ballot(self):
        return self.box.read(self.id)

    def told(self):
        subfolder = f"mixgrpo/{RUN}/votes/{self.id}"
        pictures = [
            {"filename": path.name, "subfolder": subfolder, "type": "output"} for path in self.box.pictures(self.id)
        ]
        ballot = self.ballot
        return {"id": self.id, **ballot.to_json(), "seconds_left": ballot.seconds_left, "pictures": pictures}

    def ask(self):
        self.status("voting")
        self.tell("ballot", **self.told())
        self.candidate(1).wait_for()
        return self

    def candidate(self, number):
        return self.element.get_by_role("group", name=f"Image {number}", exact=True)

    def press(self, name):
        self.element.get_by_role("button", name=name, exact=True).click()

    def has(self, votes):
        until(lambda: self.ballot.votes == votes, lambda: f"expected {votes}, found {self.ballot.votes}")

    def shows(self, *marks):
        for number, mark in enumerate(marks, start=1):
            expect(self.candidate(number)).to_have_attribute("data-vote", mark, timeout=10_000)


@pytest.fixture
def run_folder(host):
    runs = host.base / "output" / "mixgrpo"
    runs.mkdir(parents=True, exist_ok=True)
    store(runs, RUN, [])
    yield runs / RUN
    shutil.rmtree(runs / RUN)


@pytest.fixture
def asking(open_page, host, run_folder):
    def open_one(way=Thumbs(), vue=False, **about):  # noqa: B008
        kind = {name: about.pop(name) for name in ("palette", "width", "height") & about.keys()}
        page = open_page(vue=vue, **kind)
        load(page, workflow(size=about.pop("size", (520, 1100))))
        view = Asking(page, host, way, **about)
        view.element.wait_for()
        return view

    return open_one


@RENDERINGS
def test_thumbs_are_saved_at_each_press(asking, vue):
    view = asking(vue=vue).ask()
    view.says("badge", "Your vote")
    expect(view.element.locator(".mg-clock")).to_contain_text("left")
    expect(view.element.locator(".mg-reward")).to_be_hidden()
    view.press("Image 2: thumb up")
    view.shows("none", "up", "none", "none")
    view.has({1: 1})
    view.press("Image 4: thumb down")
    view.has({1: 1, 3: -1})
    view.press("Image 2: thumb up")  # again: taken back
    view.has({3: -1})
    view.press("Image 4: thumb up")
    view.has({3: 1})
    view.shows("none", "none", "none", "up")
    view.press("Done")
    until(lambda: view.ballot.state is State.DONE)
    expect(view.candidate(1)).to_be_hidden()
    expect(view.element.locator(".mg-reward")).to_be_visible()


def test_news_that_was_overtaken_takes_no_vote_back(asking):
    view = asking().ask()
    before = view.told()
    view.press("Image 2: thumb up")
    view.has({1: 1})
    view.shows("none", "up", "none", "none")
    view.tell("ballot", **before)
    view.page.wait_for_timeout(300)
    view.shows("none", "up", "none", "none")
    view.press("Image 2: thumb up")  # again: taken back, and not given anew
    view.has({})


@RENDERINGS
def test_images_are_ranked_by_clicks(asking, vue):
    view = asking(Ranking(), vue=vue).ask()
    for number, place in ((3, 1), (1, 2), (4, 3)):
        view.candidate(number).click()
        expect(view.candidate(number).locator(".mg-place")).to_have_text(str(place))
    view.has({2: 1, 0: 2, 3: 3})
    view.candidate(3).click()  # taken out: the others move up
    view.has({0: 1, 3: 2})
    view.candidate(2).click(modifiers=["Shift"])  # a tie with the last
    view.has({0: 1, 3: 2, 1: 2})
    view.shows("up", "placed", "none", "placed")


def test_everything_can_be_done_with_keys(asking):
    view = asking().ask()
    view.candidate(1).focus()
    for key in ("3", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp"):
        view.page.keyboard.press(key)
    view.has({2: 1, 3: -1, 0: 1})
    view.page.keyboard.press("Tab")
    focused = view.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "Image 1: thumb down"
    view.page.keyboard.press("Enter")
    view.has({2: 1, 3: -1, 0: -1})
    assert view.page.evaluate("app.graph.nodes.length") == 1, "no key of the canvas was pressed"


def test_many_quick_presses_all_arrive_and_in_order(asking):
    view = asking(images=range(10, 250, 20)).ask()
    for turn in range(3):
        for number in range(1, 12):
            view.press(f"Image {number}: thumb {'up' if (turn + number) % 2 else 'down'}")
    view.has({number - 1: 1 if number % 2 else -1 for number in range(1, 12)})
    view.shows(*["up" if number % 2 else "down" for number in range(1, 12)], "none")


def test_the_vote_of_another_browser_is_seen(asking):
    view = asking().ask()
    view.box.vote(view.id, {0: -1})
    view.tell("ballot", **view.told())
    view.shows("down", "none", "none", "none")
    view.box.vote(view.id, {1: 1, 2: 1, 3: -1})
    view.tell("ballot", **view.told())
    expect(view.element.locator(".mg-ballot .mg-hint")).to_contain_text("press Done", timeout=10_000)


def test_a_vote_that_is_not_taken_is_said_and_not_shown(asking, run_folder):
    view = asking().ask()
    (run_folder / "votes" / f"{view.id}.json").write_text("{")
    view.press("Image 2: thumb up")
    expect(view.element.locator(".mg-trouble")).to_contain_text("Your vote was not taken: The ballot is damaged")
    view.shows("none", "none", "none", "none")


def test_late_votes_are_taken_and_said_to_be_late(asking):
    view = asking().ask()
    view.box.close(view.ballot, State.OVER)
    view.box.note(view.ballot, "skipped: the group teaches nothing")
    view.tell("ballot", **view.told())
    line = view.element.locator(".mg-ballot h4")
    expect(line).to_have_text("Time was up for “a red circle”: skipped")
    expect(view.element.locator(".mg-reward")).to_be_visible()
    view.press("Vote late")
    expect(view.element.locator(".mg-trouble")).to_contain_text("They count if this iteration is done again")
    view.press("Image 1: thumb up")
    until(lambda: view.ballot.late == (0,))
    expect(line).to_have_text("“a red circle”: 1 of 4 voted, late")
    view.press("Close")
    expect(view.element.locator(".mg-reward")).to_be_visible()


def test_a_paused_run_takes_votes_for_later(asking):
    view = asking().ask()
    view.status("paused")
    expect(view.element.locator(".mg-ballot h4")).to_have_text("“a red circle” waits for your vote")
    view.press("Vote")
    view.press("Image 1: thumb up")
    view.has({0: 1})


@RENDERINGS
def test_the_images_are_as_large_as_there_is_room(asking, vue):
    view = asking(vue=vue, palette="light" if vue else "dark")
    view.page.wait_for_timeout(500)
    before = view.element.bounding_box()["height"]
    view.ask()
    view.press("Image 1: thumb up")
    view.shows("up")
    view.page.wait_for_timeout(500)
    assert view.element.bounding_box()["height"] == pytest.approx(before, abs=2), "the node does not grow"
    boxes = [view.candidate(number).bounding_box() for number in range(1, 5)]
    assert all(box["width"] == pytest.approx(box["height"], abs=2) and box["width"] > 200 for box in boxes)
    section = view.element.locator(".mg-ballot").bounding_box()
    for box in boxes:
        assert section["x"] <= box["x"] and box["x"] + box["width"] <= section["x"] + section["width"]
        assert section["y"] <= box["y"] and box["y"] + box["height"] <= section["y"] + section["height"]


@RENDERINGS
def test_a_small_node_grows_for_a_vote_and_is_as_small_as_before_after_it(asking, vue):
    view = asking(vue=vue, size=(460, 560))
    view.page.wait_for_timeout(500)
    before = view.page.evaluate(SIZE)
    view.ask()
    view.page.wait_for_timeout(500)
    assert view.page.evaluate(SIZE)[1] > before[1] + 30
    boxes = [view.candidate(number).bounding_box() for number in range(1, 5)]
    assert all(box["width"] == pytest.approx(box["height"], abs=2) and box["width"] > 100 for box in boxes)
    view.press("Skip")
    view.status("scoring")
    view.tell("ballot", **view.told())
    expect(view.element.locator(".mg-reward")).to_be_visible()
    view.page.wait_for_timeout(200)
    assert view.page.evaluate(SIZE)[1] == pytest.approx(before[1], abs=24)  # Vue measures its nodes itself


SIZE = "[...app.graph.getNodeById(12).size]"


# The whole story: a training that learns what somebody presses in the page

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_workflows" / "1_first_lora_on_the_demo_model.json"
ITERATIONS, IMAGES = 3, 6
SHOWN = {"x": 450, "y": 78, "width": 550, "height": 604}


def voted_workflow(run):
    """The first example with a Human Vote for its reward, and brightness that is only watched."""
    found = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in found["nodes"] if node["id"] < 7 and node["type"] != "MarkdownNote"}
    prompts, settings, trainer = nodes[3], nodes[5], nodes[6]
    values = prompts["widgets_values"]
    values[0], values[2] = ("\n".join(text.splitlines()[::40]) for text in (values[0], values[2] * 5))
    settings["widgets_values"][3:7] = [ITERATIONS, IMAGES, 1, 0.005]
    settings["pos"] = [460, 660]
    trainer["widgets_values"][0] = run
    for output in (port for node in nodes.values() for port in node["outputs"]):
        output["links"] = [link for link in output["links"] or [] if link in (1, 2, 3, 4, 6)]
    socket = "MIXGRPO_REWARD"
    nodes[4] = reward_node(4, "MixGRPO_HumanVote", (460, 60), ["thumbs", 120, 0, 1], 5)
    nodes[20] = reward_node(20, "MixGRPO_PixelReward", (460, 280), ["brightness", "more", 0.5, 0], 31)
    nodes[21] = reward_node(21, "MixGRPO_CombineRewards", (460, 480), None, 32)
    nodes[21]["inputs"] = [
        {"name": f"rewards.reward{i}", "type": socket, "link": link} for i, link in enumerate((5, 31))
    ]
    next(port for port in trainer["inputs"] if port["name"] == "rewards")["link"] = 32
    links = [link for link in found["links"] if link[0] in (1, 2, 3, 4, 6)]
    links += [[5, 4, 0, 21, 0, socket], [31, 20, 0, 21, 1, socket], [32, 21, 0, 6, 3, socket]]
    return {
        **found,
        "nodes": list(nodes.values()),
        "links": links,
        "last_node_id": 21,
        "last_link_id": 32,
        "groups": [],
    }


def reward_node(id, kind, place, values, link):
    output = {"name": "reward", "type": "MIXGRPO_REWARD", "links": [link]}
    about = {"id": id, "type": kind, "pos": list(place), "size": [320, 120], "flags": {}, "order": 0, "mode": 0}
    return {
        **about,
        "inputs": [],
        "outputs": [output],
        "properties": {},
        **({"widgets_values": values} if values else {}),
    }


@dataclass
class Told:
    """What the voter saw and pressed in the training of :func:`voted_workflow`.

    ``seen`` is the mean brightness of each group; ``pressed`` the votes when the page was reloaded in the middle of a
    ballot, ``back`` whether the same ballot came back, and ``marks`` what its images then showed; ``back_again`` the
    votes when the last one was taken back.
    """

    seen: list[float]
    pressed: dict[int, int] | None = None
    back: bool = False
    marks: list[str] | None = None
    back_again: dict[int, int] | None = None


@pytest.fixture(scope="module")
def by_hand(request, host, show):
    """A training whose brighter images got a thumb up, its reports, and what was told to the voter."""
    folder = request.config.getoption("--pictures", default=None)
    page = show(**({} if folder is None else {"width": 1500, "height": 1150}))
    load(page, voted_workflow("by-hand"), x=-360, y=60)
    page.get_by_role("button", name="Run", exact=True).first.click()
    former, told = "", Told(seen=[])
    for iteration in range(ITERATIONS):
        former = page.wait_for_function(VOTING, arg=former, timeout=120_000).json_value()
        light = page.evaluate(LIGHT)
        told.seen.append(statistics.mean(light))
        middle = statistics.median(light)
        for image, value in enumerate(light):
            if image == 3 and iteration == 1:
                reload_meanwhile(page, host, former, told)
            name = f"Image {image + 1}: thumb {'up' if value > middle else 'down'}"
            page.get_by_role("button", name=name, exact=True).click()
            if image == IMAGES - 1 and iteration == 0:
                told.back_again = change_the_last(page, host, former, name)
            if image == 4 and iteration == ITERATIONS - 1 and folder is not None:
                page.evaluate("app.canvas.deselectAll()")
                page.screenshot(path=Path(folder) / "votes.png", clip=SHOWN)
        page.get_by_role("button", name="Done", exact=True).click()
    expect(page.locator(".mixgrpo-live .mg-badge")).to_have_text("Finished", timeout=120_000)
    lines = (host.base / "output/mixgrpo/by-hand/metrics.jsonl").read_text().splitlines()
    return told, [json.loads(line) for line in lines]


def change_the_last(page, host, ballot, name):
    """The last thumb is taken back and given again; the votes without it."""
    box = BallotBox(host.base / "output/mixgrpo/by-hand/votes")
    until(lambda: box.read(ballot).full)
    press = page.get_by_role("button", name=name, exact=True)
    press.click()
    until(lambda: not box.read(ballot).full)
    found = box.read(ballot)
    press.click()
    return found.votes if found.open else None


def reload_meanwhile(page, host, ballot, told):
    """In the middle of a vote."""
    box = BallotBox(host.base / "output/mixgrpo/by-hand/votes")
    until(lambda: len(box.read(ballot).votes) == 3)
    told.pressed = dict(box.read(ballot).votes)
    page.wait_for_timeout(2500)  # the frontend keeps the workflow
    page.reload()
    ready(page)
    page.evaluate(PLACE, {"x": -360, "y": 60, "scale": 1})
    told.back = page.wait_for_function(VOTING, arg="", timeout=60_000).json_value() == ballot
    images = [page.get_by_role("group", name=f"Image {image + 1}", exact=True) for image in range(IMAGES)]
    marked = {image: {1: "up", -1: "down"}[vote] for image, vote in told.pressed.items()}
    for image, mark in marked.items():
        expect(images[image]).to_have_attribute("data-vote", mark, timeout=10_000)
    told.marks = [image.get_attribute("data-vote") for image in images]


def test_a_reload_in_the_middle_of_a_vote_brings_back_what_was_pressed(by_hand, open_page):
    told, _ = by_hand
    open_page()  # errors of our scripts fail the test
    assert told.back and len(told.pressed) == 3
    assert told.marks == [{1: "up", -1: "down", None: "none"}[told.pressed.get(image)] for image in range(IMAGES)]


def test_every_vote_counts_and_the_last_can_be_taken_back(by_hand):
    told, reports = by_hand
    assert len(told.back_again) == IMAGES - 1
    assert [report["rewards"]["votes"]["valid"] for report in reports] == [IMAGES] * ITERATIONS


def test_a_training_becomes_what_was_voted_for(by_hand):
    told, reports = by_hand
    before, after = (
        [made["rewards"]["brightness"]["mean"] for made in report["evaluations"]]
        for report in (reports[0], reports[-1])
    )
    assert after[-1] > before[0] + 0.03, f"held-out brightness: {before[0]:.3f} before, {after[-1]:.3f} after"
    assert told.seen[-1] > told.seen[0], f"what the voter saw: {told.seen}"
