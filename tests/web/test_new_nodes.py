"""Nodes as they come onto the canvas: found by the words people have for them, and large enough to be read."""

import pytest
from frontend import PLACE, load, ready, until

TRAINER, VOTE = "MixGRPO Train", "Human Vote"
WORDS = {
    "mixgrpo": ([TRAINER], 1),
    "fine-tune": ([TRAINER], 1),
    "dpo": ([VOTE, TRAINER], 8),  # behind six nodes of the host that have the letters in their names
}
"""What is typed, what it finds, and among how many results from the first on."""
FOUND = "(all) => all.slice(0, 8).map((result) => result.innerText)"
EMPTY = {"nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}
ADD = """(name) => {
  const node = LiteGraph.createNode(name);
  app.graph.add(node);
  node.pos = [0, 0];
}"""
WIDTHS = """() => app.graph.nodes[0].widgets.filter(({ name, element }) => element && name.match(/mixgrpo|window_bar/))
  .map(({ element }) => element.clientWidth)"""
TITLE = """() => {
  const [node] = app.graph.nodes;
  const context = document.createElement("canvas").getContext("2d");
  context.font = node.titleFontStyle;
  return [context.measureText(node.title).width, node.size[0] - 2 * LiteGraph.NODE_TITLE_HEIGHT];
}"""


def open_search(page):
    """By double clicks on the empty canvas; one that comes while the last search still fades is not heard."""

    def typing():
        page.mouse.dblclick(600, 600)
        page.wait_for_timeout(400)
        return page.evaluate("document.activeElement.tagName") == "INPUT"

    until(typing, seconds=20)


def test_the_hosts_search_finds_the_nodes_by_what_people_call_them(open_page):
    page = open_page()
    page.set_viewport_size({"width": 1100, "height": 1240})
    page.reload()  # a list that another test left open would take the clicks
    ready(page)
    load(page, EMPTY)
    for typed, (wanted, among) in WORDS.items():
        open_search(page)
        page.keyboard.type(typed)
        results = page.get_by_test_id("result-item").or_(page.get_by_role("option"))
        results.first.wait_for()
        page.wait_for_timeout(500)
        names = [text.split("\n")[0] for text in results.evaluate_all(FOUND)]
        assert set(wanted) <= set(names[:among]), (typed, names)
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)
        page.keyboard.press("Escape")


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_titles_are_whole_and_boxes_of_prompts_show_several_lines(open_page, vue):
    page = open_page(vue=vue)
    for name, boxes in (("DemoModel", 0), ("FitCheck", 0), ("PromptSet", 2), ("Judge", 1), ("ScoreImages", 1)):
        load(page, EMPTY)
        page.evaluate(ADD, f"MixGRPO_{name}")
        page.evaluate(PLACE, {"x": 200, "y": 160, "scale": 1})
        page.wait_for_timeout(300)
        needed, there = page.evaluate(TITLE)
        assert needed <= there, name
        shown = page.locator("textarea:visible").evaluate_all("(all) => all.map((one) => one.clientHeight)")
        assert len(shown) >= boxes and all(height >= 60 for height in shown), (name, shown)


def test_the_hosts_side_panel_leaves_what_the_pack_draws_as_wide_as_its_node(open_page):
    page = open_page()
    panel = page.get_by_role("button", name="Toggle properties panel")
    panel.first.click()
    for name in ("TrainLora", "TrainerSettings", "Window"):
        load(page, EMPTY)
        page.evaluate(ADD, f"MixGRPO_{name}")
        page.evaluate(PLACE, {"x": 200, "y": 160, "scale": 1})
        page.wait_for_timeout(300)
        before = page.evaluate(WIDTHS)
        page.evaluate("app.canvas.selectNode(app.graph.nodes[0])")
        page.wait_for_timeout(500)
        assert page.evaluate(WIDTHS) == before and before[-1] > 200, name
    panel.first.click()
