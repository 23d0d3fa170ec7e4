"""The first example workflow, as an artist meets it: load it, press Run, watch, reload, sample, stop and keep.

With ``--pictures=docs`` its screenshots become the README's.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from first_story import TRAINER, WORKFLOW, quick
from frontend import PLACE, load, ready
from playwright.sync_api import Page, expect

X, Y = -360, 60
POINTS = f"() => app.graph.getNodeById({TRAINER}).mixgrpo.view.parts[1].chart.data[0].length"


LOADERS = """() => app.graph.nodes.filter(({ type }) => type === "LoraLoaderModelOnly").map((node) => ({
  file: node.widgets[0].value,
  from: node.getInputNode(0)?.type,
  covered: app.graph.nodes.some((other) => other !== node && other.pos[0] < node.pos[0] + node.size[0] &&
    node.pos[0] < other.pos[0] + other.size[0] && other.pos[1] < node.pos[1] + node.size[1] &&
    node.pos[1] < other.pos[1] + other.size[1]),
}))"""


@dataclass(frozen=True)
class Story:
    """A page in one of the ways it draws nodes, and the name of the run that is trained in it."""

    page: Page
    run: str
    vue: bool


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "vue"])
def story(request, show):
    """The example, loaded into a page."""
    run = f"story-{'vue' if request.param else 'classic'}"
    page = show(vue=request.param)
    load(page, quick(WORKFLOW, run), x=X, y=Y)
    expect(page.locator(".mixgrpo-live .mg-badge")).to_have_text("Not run yet")
    return Story(page, run, request.param)


@pytest.fixture(scope="module")
def running(story):
    """The same, after Run was pressed and the first iterations came."""
    page = story.page
    page.get_by_role("button", name="Run", exact=True).first.click()
    wait_for_points(page, 3)
    return story


@pytest.fixture(scope="module")
def reloaded(running):
    """The same, after the page was reloaded in the middle; and how many points it showed before."""
    page = running.page
    before = page.evaluate(POINTS)
    page.wait_for_timeout(2500)  # the frontend keeps the workflow
    page.reload()
    ready(page)
    page.evaluate(PLACE, {"x": X, "y": Y, "scale": 1})
    return before


@pytest.fixture
def view(story, open_page):
    """The live view; errors of our scripts fail the test."""
    return open_page(vue=story.vue).locator(".mixgrpo-live")


def test_a_training_is_shown_as_it_goes(running, view):
    page = running.page
    expect(view.locator(".mg-tile")).not_to_have_count(0)
    expect(view.locator(".mg-where")).to_contain_text("next shift in")
    before = page.evaluate(POINTS)
    chart = view.locator(".mg-chart").screenshot()
    wait_for_points(page, before + 2)
    assert view.locator(".mg-chart").screenshot() != chart


def test_a_page_that_is_reloaded_goes_on_with_it(reloaded, story, view):
    wait_for_points(story.page, reloaded + 2)
    expect(view.locator(".mg-run")).to_have_text(story.run)


def test_pictures_that_are_asked_for_come_into_the_gallery(reloaded, view):
    view.locator("[data-command=sample]").click()
    expect(view.locator(".mg-side").last.locator("b")).to_contain_text("asked for", timeout=60_000)
    expect(view.locator(".mg-side").last.locator(".mg-shown img")).to_have_count(1)
    view.locator("[data-section=gallery]").click()
    expect(view.locator(".mg-gallery")).to_be_hidden()


def test_a_run_that_is_stopped_keeps_its_lora(reloaded, story, view, host):
    view.locator("[data-command=stop]").click()
    expect(view.locator(".mg-badge")).to_have_text("Stopped", timeout=120_000)
    expect(view.locator("[data-command=stop]")).to_be_disabled()
    assert (host.base / "output" / "loras" / "mixgrpo" / f"{story.run}-last.safetensors").stat().st_size > 0
    kept = story.page.evaluate(POINTS)
    stored = (host.base / "output" / "mixgrpo" / story.run / "metrics.jsonl").read_text().splitlines()
    assert len(stored) in (kept, kept - 1)  # the held-out point before the first iteration has its own place


def test_its_lora_is_loaded_by_a_node_that_a_click_adds(reloaded, story, view):
    """After the end: the file, held-out rewards before and after, and the model that was trained at the loader."""
    page = story.page
    file = f"mixgrpo/{story.run}-last.safetensors"
    expect(view.locator(".mg-files option").first).to_have_text(file)
    expect(view.locator(".mg-gains")).to_contain_text("→")
    view.locator(".mg-load").click()
    found = page.evaluate(LOADERS)
    assert [(made["file"], made["from"]) for made in found] == [(file, "MixGRPO_DemoModel")]
    assert not found[0]["covered"]
    asked = page.evaluate("async () => Object.values((await app.graphToPrompt()).output)")
    [loader] = [node for node in asked if node["class_type"] == "LoraLoaderModelOnly"]
    assert loader["inputs"]["lora_name"] == file
    page.evaluate(PLACE, {"x": X, "y": Y, "scale": 1})
    if not view.locator(".mg-pictures").is_visible():
        view.locator("[data-section=pictures]").click()
    view.get_by_text("Before and after", exact=True).click()
    expect(view.locator("img.mg-shot")).to_be_visible()


def test_a_training_that_fails_before_it_has_a_run_says_why(open_page):
    page = open_page()
    graph = quick(WORKFLOW, "never")
    next(node for node in graph["nodes"] if node["type"] == "MixGRPO_DemoReward")["widgets_values"][1] = 0.0
    load(page, graph, x=X, y=Y)
    view = page.locator(".mixgrpo-live")
    page.get_by_role("button", name="Run", exact=True).first.click()
    expect(view.locator(".mg-badge")).to_have_text("Failed", timeout=60_000)
    page.evaluate("app.loadGraphData(app.graph.serialize())")  # as after a reload: the server remembers
    expect(view.locator(".mg-badge")).to_have_text("Failed", timeout=10_000)
    expect(view.locator(".mg-note")).to_contain_text("every reward has weight 0")


def test_pictures_for_the_readme(request, open_page):
    """The first example as it ships, in both renderings: minutes on a quiet machine, twenty on a busy one."""
    folder = request.config.getoption("--pictures", default=None)
    if folder is None:
        pytest.skip("asked for by --pictures=docs")
    page = open_page(vue=False, width=1500, height=1150)
    load(page, WORKFLOW, x=X, y=Y)
    page.get_by_role("button", name="Run", exact=True).first.click()
    wait_for_points(page, 24, seconds=1200)
    page.locator(".mixgrpo-live [data-section=pictures]").click()
    page.evaluate("app.canvas.deselectAll()")
    for vue, name in ((False, "live_view"), (True, "live_view_vue")):
        open_page(vue=vue, width=1500, height=1150)
        page.evaluate(PLACE, {"x": -290, "y": 185, "scale": 1})
        page.wait_for_timeout(2500)
        page.screenshot(path=Path(folder) / f"{name}.png", clip={"x": 60, "y": 125, "width": 1080, "height": 870})
    page.locator(".mixgrpo-live [data-command=stop]").click()
    expect(page.locator(".mixgrpo-live .mg-badge")).to_have_text("Stopped", timeout=240_000)


def wait_for_points(page, count, seconds=280):
    page.wait_for_function(f"({POINTS})() >= {count}", timeout=1000 * seconds)
