"""Voting in the real page: thumbs, rankings, reloads, late votes; and a training that learns what was voted for.

With ``--pictures=docs`` the README's picture is taken.
"""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from comfy_client import Client
from frontend import load, ready
from graphs import demo_parts
from PIL import Image
from playwright.sync_api import expect
from live_page import RENDERINGS, View, store, workflow

from mixgrpo_core.rewards.ballot import State
from mixgrpo_core.rewards.ballot_box import BallotBox
from mixgrpo_core.rewards.voting import Ranking, Thumbs

RUN = "voted"
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


def until(true, words=lambda: "it did not happen", seconds=10):
    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, words()
        time.sleep(0.05)


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
        load(page, workflow())
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
