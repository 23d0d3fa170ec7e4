"""A training speaks to the trainer that was queued and to nothing else: not to another browser, tab or workflow."""

import json
from copy import deepcopy

import pytest
from first_story import TRAINER, WORKFLOW, quick
from frontend import QUIET, SETTINGS, load, ready
from graphs import SHORT, training
from playwright.sync_api import expect

LOOKS = f"""() => {{
  const node = app.graph.getNodeById({TRAINER});
  return [...node.size, node.widgets.map((widget) => widget.name), node.imgs?.length ?? 0];
}}"""
INTO_A_SUBGRAPH = f"""() => {{
  const trainer = app.graph.getNodeById({TRAINER});
  const {{ node }} = app.graph.convertToSubgraph(new Set([trainer]));
  return node.id;
}}"""
HOSTS = """(id) => {
  const outer = app.graph.getNodeById(id);
  const [inner] = outer.subgraph.nodes;
  const previews = (node) => [
    node.imgs?.length ?? 0, (node.widgets ?? []).filter((widget) => widget.name.includes("image-preview")).length,
  ];
  return [previews(outer), previews(inner), outer.widgets.some((widget) => widget.name === "$$node-text-preview")];
}"""


@pytest.fixture(scope="module")
def other_browser(host, chromium):
    """A page of a browser that shares nothing with the first one's."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.goto(host.address)
    ready(page)
    page.evaluate(SETTINGS, {**QUIET, "Comfy.VueNodes.Enabled": True})
    yield page
    context.close()


def another(workflow, number, type=None):
    """The same nodes under another workflow's id; the trainer's number may be another node's."""
    made = deepcopy(workflow)
    made["id"] = f"00000000-0000-4000-8000-{number:012}"
    if type:
        [node] = [node for node in made["nodes"] if node["id"] == TRAINER]
        kept = {"id": TRAINER, "pos": node["pos"], "size": [320, 100], "flags": {}, "order": 0, "mode": 0}
        made |= {"nodes": [{**kept, "type": type, "inputs": [], "outputs": [], "properties": {}}], "links": []}
    return made


def press_run(page):
    page.get_by_role("button", name="Run", exact=True).first.click()


def badge(page):
    return page.locator(".mixgrpo-live .mg-badge")


def test_other_browsers_tabs_and_workflows_are_left_alone(open_page, other_browser, host, client):
    page = open_page()
    load(other_browser, another(WORKFLOW, 1))
    elsewhere = other_browser.evaluate(LOOKS)
    load(page, quick(WORKFLOW, "told to one"))
    press_run(page)
    expect(badge(page)).to_have_text("Sampling", timeout=60_000)
    page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_timeout(800)
    load(page, another(WORKFLOW, 2, type="MixGRPO_CombineRewards"))
    tab = page.evaluate(LOOKS)
    client.post("/mixgrpo/runs/told%20to%20one/command", {"command": "stop"})
    page.wait_for_function("async () => !(await (await fetch('/mixgrpo/live')).json()).runs.length", timeout=60_000)
    page.wait_for_timeout(1500)
    assert page.evaluate(LOOKS) == tab
    graph, _ = training("scripted", **SHORT)
    graph[str(TRAINER)] = graph.pop(next(id for id, node in graph.items() if node["class_type"] == "MixGRPO_TrainLora"))
    assert client.run(graph, timeout=300).named("mixgrpo.status")[-1]["state"] == "finished"
    page.wait_for_timeout(1000)
    assert page.evaluate(LOOKS) == tab
    assert other_browser.evaluate(LOOKS) == elsewhere
    expect(badge(other_browser)).to_have_text("Not run yet")


def test_in_a_subgraph_the_host_shows_nothing_under_the_view(open_page, host):
    page = open_page()
    load(page, quick(WORKFLOW, "inside"))
    outer = page.evaluate(INTO_A_SUBGRAPH)
    page.wait_for_timeout(500)
    press_run(page)
    page.wait_for_function(
        "async () => (await (await fetch('/mixgrpo/live')).json()).runs.some((run) => run.run === 'inside')",
        timeout=60_000,
    )
    page.request.post(f"{host.address}/mixgrpo/runs/inside/command", data=json.dumps({"command": "stop"}))
    page.wait_for_function("async () => !(await (await fetch('/mixgrpo/live')).json()).runs.length", timeout=60_000)
    page.wait_for_function("async () => !(await (await fetch('/queue')).json()).queue_running.length", timeout=60_000)
    page.wait_for_timeout(1500)
    assert page.evaluate(HOSTS, outer) == [[0, 0], [0, 0], False]
