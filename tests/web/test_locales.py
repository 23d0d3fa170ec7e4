"""The page finds every text of ``locales/en`` that it shows on a node: it would find a translation, too."""

import json

import pytest
from frontend import ready

MARK = "["
SHOWN = """() => {
  const shown = {}
  for (const type of Object.keys(LiteGraph.registered_node_types).filter((name) => name.startsWith('MixGRPO_'))) {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    const details = node.widgets?.find((widget) => widget.name === 'details')
    if (details) details.value = 'set by hand'
    const texts = [node.constructor.nodeData.display_name, node.constructor.nodeData.description]
    const inputs = new Set(node.inputs.map((input) => input.name))
    texts.push(...(node.widgets ?? []).filter((widget) => inputs.has(widget.name)).map((widget) => widget.label))
    for (const slot of [...node.inputs, ...node.outputs]) texts.push(slot.localized_name ?? slot.name)
    shown[type] = texts
  }
  return shown
}"""


def marked(texts):
    """The same with a mark before every text."""
    return {key: marked(text) if isinstance(text, dict) else MARK + text for key, text in texts.items()}


@pytest.fixture
def page(host, chromium):
    page = chromium.new_page()

    def translate(route):
        found = route.fetch().json()
        assert found["en"]["nodeCategories"]["MixGRPO"] == "MixGRPO"
        route.fulfill(body=json.dumps({"en": marked(found["en"])}), content_type="application/json")

    page.route("**/i18n", translate)
    page.goto(host.address)
    ready(page)
    yield page
    page.close()


def test_every_text_of_a_node_can_be_translated(page):
    shown = page.evaluate(SHOWN)
    assert len(shown) > 10
    assert len(shown["MixGRPO_TrainerSettings"]) > 60
    assert {node: [text for text in texts if not text.startswith(MARK)] for node, texts in shown.items()} == {
        node: [] for node in shown
    }
