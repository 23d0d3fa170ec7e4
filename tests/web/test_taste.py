"""A taste in the real page: three groups are voted on, it goes on alone, one click corrects it, its LoRA is used.

With ``--pictures=FOLDER`` there are screenshots of it.
"""

import json
from pathlib import Path

import pytest
from frontend import PLACE, load, until
from live_page import LIGHT, RENDERINGS, VOTING, View, workflow
from playwright.sync_api import expect

from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.taste.taste import Taste

EXAMPLE = Path(__file__).resolve().parents[2] / "example_workflows" / "8_train_by_a_learnt_taste.json"
RUN, GROUPS, ASKED = "by-taste", 3, 4


def short(run):
    """The example: one prompt an iteration until it is stopped, and it asks about three groups."""
    found = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    for node in found["nodes"]:
        values = node.get("widgets_values")
        if node["type"] == "MixGRPO_TasteReward":
            values[6] = GROUPS
        if node["type"] == "MixGRPO_PromptSet":
            values[0], values[2] = ("\n".join(text.splitlines()[:4]) for text in (values[0], values[2]))
        if node["type"] == "MixGRPO_TrainerSettings":
            values[3:6] = [300, 6, 1]
        if node["type"] == "MixGRPO_TrainLora":
            values[0] = run
            x, y = node["pos"]
    return found, {"x": 40 - x, "y": 60 - y}


def vote(page, former):
    """Thumbs up for the brighter half of the group that is asked about; its ballot."""
    ballot = page.wait_for_function(VOTING, arg=former, timeout=60_000).json_value()
    light = page.evaluate(LIGHT)
    middle = sorted(light)[len(light) // 2]
    for image, value in enumerate(light):
        name = f"Image {image + 1}: thumb {'up' if value >= middle else 'down'}"
        page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("button", name="Done", exact=True).click()
    return ballot


@pytest.mark.long("users")
def test_three_groups_are_voted_on_it_goes_on_alone_is_corrected_and_its_lora_is_used(request, open_page, host):
    page = open_page()
    graph, place = short(RUN)
    load(page, graph, **place)
    view, run = page.locator(".mixgrpo-live"), host.base / "output/mixgrpo" / RUN
    expect(view.locator("[data-section=taste]")).to_be_hidden()
    page.get_by_role("button", name="Run", exact=True).first.click()
    ballot = ""
    for _ in range(GROUPS):
        ballot = vote(page, ballot)
    view.locator("[data-section=taste]").click()
    tiles = view.locator(".mg-taste .mg-belief")
    expect(tiles).to_have_count(6, timeout=60_000)  # it goes on alone
    expect(view.locator(".mg-taste small")).to_contain_text("12 votes", timeout=60_000)
    expect(view.locator(".mg-knows")).to_contain_text("that it had not seen")
    assert len(BallotBox(run / "votes").ids()) == GROUPS
    tiles.first.scroll_into_view_if_needed()
    tiles.first.locator(".mg-wrong").click()
    expect(tiles.first.locator(".mg-wrong")).to_have_text("✓ Noted")
    box = BallotBox(run / "taste")
    until(lambda: len(box.ids()) == 1 and box.read(box.ids()[0]).heard is not None)
    assert box.read(box.ids()[0]).votes == {0: -1}, "it liked that image best"
    page.mouse.move(5, 5)
    expect(view.locator(".mg-taste small")).to_contain_text("13 votes", timeout=60_000)
    view.locator("[data-command=stop]").click()
    expect(view.locator(".mg-badge")).to_have_text("Stopped", timeout=120_000)
    assert len(Taste.load(run / "taste/taste.safetensors").opinions) == 13
    view.locator(".mg-load").click()
    loaders = "app.graph.nodes.filter(({ type }) => type === 'LoraLoaderModelOnly').map((n) => n.widgets[0].value)"
    assert page.evaluate(loaders) == [f"mixgrpo/{RUN}-last.safetensors"]
    page.evaluate("() => app.loadGraphData(app.graph.serialize())")  # as after a reload: what it believes is there
    expect(tiles).to_have_count(6, timeout=10_000)
    if folder := request.config.getoption("--pictures", default=None):
        page.evaluate(PLACE, {**place, "scale": 1})
        page.wait_for_timeout(800)
        page.screenshot(path=Path(folder) / "taste-story.png")


@RENDERINGS
def test_images_stay_while_somebody_points_at_them(request, open_page, host, vue):
    page = open_page(vue=vue)
    load(page, workflow(size=(480, 640)))
    view = View(page, host, "shown")
    view.status("sampling")
    view.tell("taste", **believed("a"))
    view.section("taste").click()
    tiles = view.element.locator(".mg-belief")
    expect(tiles).to_have_count(6)
    boxes = [tile.bounding_box() for tile in tiles.all()]
    section = view.element.locator(".mg-taste").bounding_box()
    assert all(box["width"] > 55 and box["y"] + box["height"] <= section["y"] + section["height"] for box in boxes)
    buttons = view.element.locator(".mg-wrong")
    for button in buttons.all():
        assert button.evaluate("(button) => button.scrollWidth <= button.clientWidth"), "its word is whole"
    knows = view.element.locator(".mg-knows")
    assert knows.evaluate("(words) => words.scrollHeight <= words.clientHeight + 1"), "so are the sentences"
    buttons.first.hover()
    view.tell("taste", **believed("b", waiting=1))
    expect(view.element.locator(".mg-taste small")).to_contain_text("1 correction noted")
    label = "That is wrong: “a disc {}”, liked: 90 %"
    expect(buttons.first).to_have_attribute("aria-label", label.format("a0"))
    if folder := request.config.getoption("--pictures", default=None):
        page.screenshot(path=Path(folder) / f"taste-{'vue' if vue else 'classic'}.png")
    page.mouse.move(5, 5)
    expect(buttons.first).to_have_attribute("aria-label", label.format("b0"))


def believed(mark, waiting=0):
    """As the server tells it, with pictures that are lost."""
    sides = [
        [
            {
                "id": f"{mark}{i + 3 * worst}",
                "prompt": f"a disc {mark}{i}",
                "liked": abs(worst - 0.9 + i / 50),
                "picture": None,
            }
            | {"said": ("heard" if i == 2 else None)}
            for i in range(3)
        ]
        for worst in (0, 1)
    ]
    sentences = [
        "of 64 thumbs that it had not seen it says 72% right, more than the 61% of always saying the majority",
        "of 84 pairs within a group it orders 74% right (a coin: 50 %)",
        "its percentages can be taken at their word: they are 9% off",
    ]
    figures = {"iteration": 17, "votes": 64, "questions": 16, "refreshed": 11, "waiting": waiting}
    return {**figures, "sentences": sentences, "best": sides[0], "worst": sides[1]}
