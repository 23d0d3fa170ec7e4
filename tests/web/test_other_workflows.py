"""A training speaks to the trainer that was queued and to nothing else: not to another browser, tab or workflow."""

from copy import deepcopy
from urllib.parse import quote

import pytest
from comfy_client import Client
from first_story import TRAINER, WORKFLOW, quick
from frontend import QUIET, SETTINGS, load, ready, until
from graphs import SHORT, training

pytestmark = pytest.mark.long("users")
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


def state(client, run):
    """What a run that is on does now, None for a run that is not."""
    return next((told["state"] for told in client.get("/mixgrpo/live")["runs"] if told["run"] == run), None)


def stop(client, run):
    """Stop a run, and wait until the queue is empty: what a test leaves behind would slow the next ones down."""
    client.post(f"/mixgrpo/runs/{quote(run)}/command", {"command": "stop"})
    until(lambda: state(client, run) is None and not client.get("/queue")["queue_running"])


def test_in_a_subgraph_the_host_shows_nothing_under_the_view(open_page, client):
    page = open_page()
    load(page, quick(WORKFLOW, "inside"))
    outer = page.evaluate(INTO_A_SUBGRAPH)
    page.wait_for_timeout(500)
    press_run(page)
    until(lambda: state(client, "inside") == "sampling")
    stop(client, "inside")
    page.wait_for_timeout(1500)
    assert page.evaluate(HOSTS, outer) == [[0, 0], [0, 0], False]


@pytest.fixture(scope="module")
def seen(show, host, chromium):
    """What a tab with another workflow and another browser look like: before, after a run, after a scripted one."""
    context = chromium.new_context(viewport={"width": 640, "height": 480})  # it shares nothing with the first one
    page, other = show(), context.new_page()
    other.goto(host.address)
    ready(other)
    other.evaluate(SETTINGS, QUIET)
    load(other, another(WORKFLOW, 1))
    load(page, quick(WORKFLOW, "told to one"))
    looks = {"tab": [], "browser": []}

    def look():
        looks["tab"].append(page.evaluate(LOOKS))
        looks["browser"].append([*other.evaluate(LOOKS), badge(other).text_content()])

    with Client(host.address) as client:
        press_run(page)
        until(lambda: state(client, "told to one") == "sampling")
        page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
        page.wait_for_timeout(800)
        load(page, another(WORKFLOW, 2, type="MixGRPO_CombineRewards"))
        look()
        stop(client, "told to one")
        page.wait_for_timeout(500)
        look()
        run = client.run(scripted(), timeout=120)
        page.wait_for_timeout(500)
        look()
    context.close()
    page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")  # or a reload would open these tabs again
    page.goto(host.address)
    ready(page)
    assert run.named("mixgrpo.status")[-1]["state"] == "finished"
    return looks


def scripted():
    """A graph whose trainer has the number of the open workflow's."""
    graph, _ = training("scripted", **{**SHORT, "iterations": 1})
    graph[str(TRAINER)] = graph.pop(next(id for id, node in graph.items() if node["class_type"] == "MixGRPO_TrainLora"))
    return graph


def test_a_tab_with_another_workflow_is_left_alone(seen):
    before, after_a_run, after_a_scripted_one = seen["tab"]
    assert before == after_a_run == after_a_scripted_one


def test_another_browser_with_the_same_workflow_is_left_alone(seen):
    before, after_a_run, after_a_scripted_one = seen["browser"]
    assert before == after_a_run == after_a_scripted_one
    assert before[-1] == "Not run yet"
