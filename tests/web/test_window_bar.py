"""The bar of the Window node in the real frontend, in both ways it draws nodes."""

import uuid

import pytest
from frontend import PLACE
from playwright.sync_api import expect

ADD_NODE = """async (id) => {
  await app.loadGraphData({ id, nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4 });
  const node = LiteGraph.createNode("MixGRPO_Window");
  node.pos = [300, 150];
  app.graph.add(node);
  window.node = node;
  app.canvas.setDirty(true, true);
}"""
SET = """([name, value]) => {
  const widget = node.widgets.find((widget) => widget.name === name);
  widget.value = value;
  widget.callback?.(value);
}"""


@pytest.fixture(params=[False, True], ids=["classic", "vue"])
def bar(request, open_page):
    """A page with one Window node, in the classic or the Vue rendering."""
    page = open_page(vue=request.param)
    page.evaluate(ADD_NODE, str(uuid.uuid4()))  # the page keeps values by workflow and node
    page.evaluate(PLACE, {"x": 0, "y": 0, "scale": 1})
    page.locator(".mixgrpo-bar").wait_for()
    return Bar(page, request.param)


class Bar:
    """What a user sees of the bar and does to it."""

    def __init__(self, page, vue):
        self.page, self.vue = page, vue

    def values(self):
        return self.page.evaluate("['start', 'size'].map((name) => node.widgets.find((w) => w.name === name).value)")

    def set(self, name, value):
        self.page.evaluate(SET, [name, value])

    def says(self, words):
        expect(self.page.locator(".mixgrpo-bar-text")).to_have_text(words, timeout=5000)

    def drag(self, grip, steps, of=25):
        track = self.page.locator(".mixgrpo-bar-track").bounding_box()
        box = self.page.locator(f"[data-grip={grip}]").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        by = steps * track["width"] / of
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for part in (0.3, 0.7, 1):
            self.page.mouse.move(x + part * by, y)
        self.page.mouse.up()


def test_dragging_sets_the_integers_and_never_takes_the_last_step(bar):
    bar.says("steps 0 to 3 of 25 first, at most 20 to 23")
    bar.drag("end", 3)
    assert bar.values() == [0, 7]
    bar.says("steps 0 to 6 of 25 first, at most 17 to 23")
    assert bar.page.locator("[data-grip=start]").count() == 0  # a window that moves begins at 0
    bar.set("strategy", "fixed")
    bar.says("steps 0 to 6 of 25")
    bar.drag("window", 5)
    assert bar.values() == [5, 7]
    bar.drag("start", -2)
    assert bar.values() == [3, 9]
    bar.drag("start", 20)
    assert bar.values() == [11, 1]
    bar.drag("window", 24)
    assert bar.values() == [23, 1]
    bar.drag("end", 5)
    assert bar.values() == [23, 1]


def test_the_arrow_keys_move_an_end(bar):
    handle = bar.page.locator("[data-grip=end]")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):  # the focus outlives the redraw
        handle.focus() if key == "ArrowRight" else None
        bar.page.keyboard.press(key)
    assert bar.values() == [0, 5]
    assert handle.get_attribute("aria-valuenow") == "4"


def test_the_bar_follows_the_numbers(bar):
    if bar.vue:
        field = bar.page.locator("[data-node-id]").get_by_role("textbox").or_(bar.page.get_by_role("spinbutton")).nth(1)
        field.fill("6")
        field.press("Enter")
    else:
        x, y = bar.page.evaluate(
            "(() => { const w = node.widgets[1], s = app.canvas.ds.scale, o = app.canvas.ds.offset;"
            " const box = app.canvas.canvas.getBoundingClientRect();"
            " return [box.x + (node.pos[0] + node.size[0] - 24 + o[0]) * s,"
            " box.y + (node.pos[1] + w.last_y + 10 + o[1]) * s]; })()"
        )
        bar.page.mouse.click(x, y)  # the arrow: one more
        bar.page.wait_for_timeout(400)
        bar.page.mouse.click(x, y)
    bar.says("steps 0 to 5 of 25 first, at most 18 to 23")
    bar.set("strategy.last_start", 3)
    bar.says("steps 0 to 5 of 25 first, at most 3 to 8")
    bar.set("steps", 5)
    bar.says("does not fit 5 steps: size can be 4 at most")
    bar.set("steps", 10)
    bar.set("start", 2)
    bar.says("a window that moves begins at 0: set start to 0")


def test_a_saved_workflow_brings_the_bar_back_and_does_not_hold_it(bar):
    bar.set("strategy", "fixed")
    bar.set("start", 8)
    saved = bar.page.evaluate(
        "async () => { const saved = app.graph.serialize(); await app.loadGraphData(saved); "
        "window.node = app.graph.nodes[0]; return saved.nodes[0].widgets_values; }"
    )
    assert saved == [8, 4, 25, "fixed"]
    bar.says("steps 8 to 11 of 25")
    sent = bar.page.evaluate("async () => Object.values((await app.graphToPrompt()).output)[0].inputs")
    assert sent == {"start": 8, "size": 4, "steps": 25, "strategy": "fixed"}
