"""Example workflows as they open: large enough to be read, first things first, and no wire behind a node."""

import json

import pytest
from frontend import DESK, LAPTOP, PLACE
from workflows.page import EXAMPLES
from workflows.stories import STORIES

LEAST = 0.6  # below it, classic rendering draws no text in its widgets
OPEN = "(workflow) => app.loadGraphData(workflow, true, true, null, { openSource: 'template' })"
SCALE = "() => app.canvas.ds.scale"
BEHIND = """() => {
  const inside = ([x, y], node) => {
    const [left, top, width, height] = node.getBounding();
    return x > left + 2 && x < left + width - 2 && y > top + 2 && y < top + height - 2;
  };
  const found = [];
  for (const link of app.graph.links.values()) {
    const [from, to] = [app.graph.getNodeById(link.origin_id), app.graph.getNodeById(link.target_id)];
    const [x0, y0] = from.getConnectionPos(false, link.origin_slot);
    const [x3, y3] = to.getConnectionPos(true, link.target_slot);
    const bow = 0.25 * Math.hypot(x3 - x0, y3 - y0); // as the canvas draws its splines
    const [x1, x2] = [x0 + bow, x3 - bow];
    for (let step = 1; step < 60; step++) {
      const [t, s] = [step / 60, 1 - step / 60];
      const x = s * s * s * x0 + 3 * s * s * t * x1 + 3 * s * t * t * x2 + t * t * t * x3;
      const y = (s * s * s + 3 * s * s * t) * y0 + (3 * s * t * t + t * t * t) * y3;
      const node = app.graph.nodes.find((each) => inside([x, y], each));
      if (node && !(node === from && x < x0 + 20) && !(node === to && x > x3 - 20)) {
        found.push(`${from.title} - ${to.title} behind ${node.title} at ${Math.round(x)}, ${Math.round(y)}`);
        break;
      }
    }
  }
  return found;
}"""
OVERLAPS = """() => app.graph.nodes.flatMap((one, place) => app.graph.nodes.slice(place + 1).filter((other) => {
  const [a, b] = [one.getBounding(), other.getBounding()];
  return a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];
}).map((other) => `${one.title} and ${other.title}`))"""

FIRST = json.loads((EXAMPLES / f"{STORIES[0].name}.json").read_text(encoding="utf-8"))
SHOWN = """() => Object.fromEntries(app.graph.nodes.map((node) => {
  const { scale, offset: [x, y] } = app.canvas.ds;
  const [left, top, width, height] = node.getBounding();
  return [node.title, [(left + x) * scale, (top + y) * scale, (left + x + width) * scale, (top + y + height) * scale]];
}))"""
LIFT = """() => {
  const node = app.graph.nodes.find((each) => each.type === "MixGRPO_PromptSet");
  node.pos = [node.pos[0], node.pos[1] - 90];
  app.canvas.setDirty(true, true);
}"""


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_workflow_opens_large_enough_to_be_read_and_no_wire_is_behind_a_node(on_screen, story, vue):
    page = on_screen(DESK, vue=vue)
    page.evaluate(OPEN, json.loads((EXAMPLES / f"{story.name}.json").read_text(encoding="utf-8")))
    page.wait_for_timeout(900)
    assert page.evaluate(SCALE) >= LEAST
    assert page.evaluate(BEHIND) == []
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_on_a_laptop_it_opens_at_its_start_and_then_stays_where_it_is_moved_to(on_screen, vue):
    page = on_screen(LAPTOP, vue=vue)
    page.evaluate(OPEN, FIRST)
    page.wait_for_timeout(900)
    assert page.evaluate(SCALE) >= LEAST
    shown = {title for title, box in page.evaluate(SHOWN).items() if inside(box)}
    assert shown >= {"Demo Model", "Read me", "Prompt Set", "Demo Reward", "MixGRPO Train"}
    page.evaluate(PLACE, {"x": 300, "y": 200, "scale": 0.4})
    page.evaluate("app.loadGraphData(app.graph.serialize())")
    page.wait_for_timeout(300)
    assert page.evaluate(SCALE) == 0.4


def inside(box):
    """Whether a box of the page lies below the host's buttons, besides its bar and on the screen."""
    left, top, right, bottom = box
    return left >= 58 and top >= 90 and right <= LAPTOP["width"] and bottom <= LAPTOP["height"]


def test_every_file_opens_like_that():
    for story in STORIES:
        extra = json.loads((EXAMPLES / f"{story.name}.json").read_text(encoding="utf-8"))["extra"]
        assert extra["mixgrpo_example"] and extra["ds"]["scale"] >= LEAST


def test_what_lies_behind_a_node_is_seen(on_screen):
    page = on_screen(DESK)
    page.evaluate(OPEN, FIRST)
    page.wait_for_timeout(900)
    page.evaluate(LIFT)
    page.wait_for_timeout(700)
    assert any("behind Prompt Set" in words for words in page.evaluate(BEHIND))


def test_files_are_named_in_the_notes():
    for story in STORIES:
        [note] = [node["values"][""] for node in story.nodes if node["type"] == "MarkdownNote"]
        files = {
            value
            for node in story.nodes
            for value in node["values"].values()
            if isinstance(value, str) and value.endswith((".safetensors", ".pt"))
        }
        assert all(file in note for file in files), (story.name, files)
