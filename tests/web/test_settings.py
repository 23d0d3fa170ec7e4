"""The widgets of Trainer Settings in the real frontend: what they show, what a person sets by hand, own presets."""

import json
import uuid

import pytest
from frontend import DESK, LAPTOP, PLACE
from playwright.sync_api import expect
from settings_page import NODE, Settings

EMPTY = """async (id) => {
  await app.loadGraphData({ id, nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4 });
}"""
ADD = """([kind, x, y]) => {
  const node = LiteGraph.createNode(kind);
  node.pos = [x, y];
  app.graph.add(node);
  app.canvas.setDirty(true, true);
  return node.id;
}"""


DEMO = f"""() => {{
  const [trainer, demo] = ["MixGRPO_TrainLora", "MixGRPO_DemoModel"].map((kind) => {{
    const node = LiteGraph.createNode(kind);
    node.pos = [700, 500];
    app.graph.add(node);
    return node;
  }});
  {NODE}.connect(0, trainer, "settings");
  demo.connect(0, trainer, "model");
  app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
}}"""


def kept(host):
    """The file of the one user's own settings."""
    return host.base / "user" / "default" / "mixgrpo.trainer_settings.json"


IN_BOTH = pytest.mark.parametrize("settings", [False, True], ids=["classic", "vue"], indirect=True)


@pytest.fixture
def settings(request, on_screen, host):
    """A page with one Trainer Settings node."""
    kept(host).unlink(missing_ok=True)
    page = on_screen(LAPTOP, vue=request.param)
    page.evaluate(EMPTY, str(uuid.uuid4()))
    page.evaluate(ADD, ["MixGRPO_TrainerSettings", 100, 50])
    page.evaluate(PLACE, {"x": 0, "y": 60, "scale": 0.8})
    page.locator(".mixgrpo-settings").wait_for()
    return Settings(page, request.param)


@IN_BOTH
def test_widgets_show_what_the_choices_come_to_and_what_is_set_by_hand(settings, request):
    settings.shows("learning_rate", 0, "learning_rate (sets itself)")
    settings.shows("rank", 32)
    settings.shows("prompts_per_iteration", 0, "prompts_per_iteration (the model's)")
    low = settings.height()
    settings.choose("memory", "16 GB")
    settings.shows("rank", 16)
    settings.choose("model_family", "SD3.5")
    settings.shows("prompts_per_iteration", 4)
    settings.shows("images_per_prompt", 12)
    assert settings.sent()["rank"] == 0 and settings.sent()["learning_rate"] == 0, "nothing is set by hand yet"

    settings.more("rank")  # by mouse
    settings.shows("rank", 17, "● rank")
    expect(settings.button("hand rank")).to_have_text("● rank 17 ✕")
    assert settings.button("hand rank").get_attribute("title") == "rank is set by hand to 17: back to 16"
    assert settings.sent()["rank"] == 17 and settings.saved()[7] == 17
    settings.choose("memory", "12 GB")
    settings.shows("images_per_prompt", 8)
    settings.shows("rank", 17, "● rank")  # a person's value stays
    settings.button("hand rank").focus()  # back by keyboard
    settings.page.keyboard.press("Enter")
    settings.shows("rank", 16)
    expect(settings.button("hand rank")).to_have_count(0)
    assert settings.sent()["rank"] == 0

    settings.page.set_viewport_size(DESK)
    settings.choose("details", "set by hand")
    settings.shows("width", 512)
    folded = settings.height()
    assert folded - low < 100, "the groups are folded"
    settings.button("group learning").click()
    expect(settings.button("group learning")).to_have_attribute("aria-expanded", "true")
    settings.shows("kl", 0.001)
    assert folded < settings.height() < 900
    settings.more("updates")
    settings.more("epochs")
    settings.shows("epochs", 2, "● epochs")
    expect(settings.button("group learning")).to_have_text("▾ learning ●2")
    pictures = request.config.getoption("--pictures")
    if pictures:
        settings.page.screenshot(path=f"{pictures}/settings-{'vue' if settings.vue else 'classic'}-1600.png")
    settings.button("all").click()
    settings.shows("epochs", 1)
    settings.button("group learning").focus()
    settings.page.keyboard.press("Enter")  # folded by keyboard
    expect(settings.button("group learning")).to_have_attribute("aria-expanded", "false")
    settings.page.wait_for_function(f"{NODE}.size[1] < {folded + 12}")
    assert settings.sent()["details.epochs"] == 0
    assert set(settings.saved()) <= {"MixGRPO-Flash", "SD3.5", "12 GB", "set by hand", "from preset", 0, -1, ""}


CHANGE = f"""([name, value]) => {{
  const widget = {NODE}.widgets.find((one) => one.name.replace("details.", "") === name);
  widget.value = value;
  widget.callback?.(value);
}}"""
RELOAD = "async () => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))"
COPY = f"""() => {{
  const copy = {NODE}.clone();
  app.graph.add(copy);
  const value = (name) => copy.widgets.find((one) => one.name === name).value;
  const found = [value("rank"), value("iterations"), value("details.steps"), value("details.kl")];
  app.graph.remove(copy);
  return found;
}}"""
OLD = ["MixGRPO", "FLUX.1-dev", "8 GB", 0, 0, 3, 0, 0, 7, "set by hand", 0, 256, 0, -1, 9]
"""What a workflow kept before: three numbers and a family set by hand."""


@pytest.mark.parametrize("settings", [True], ids=["vue"], indirect=True)
def test_what_was_set_by_hand_stays(settings):
    """By undo, reload, copy and a subgraph; and what older workflows kept means what it meant."""
    page = settings.page
    for name, value in (("details", "set by hand"), ("rank", 5), ("steps", 9)):
        page.evaluate(CHANGE, [name, value])
    settings.shows("alpha", 10)
    before = settings.sent()
    assert (before["rank"], before["details.steps"], before["iterations"]) == (5, 9, 0)
    page.evaluate(RELOAD)
    settings.shows("rank", 5, "● rank")
    settings.shows("steps", 9, "● steps")
    settings.shows("iterations", 300)
    assert settings.sent() == before
    assert page.evaluate(COPY)[:3] == [5, 0, 9], "a copy knows nothing yet but what was set by hand"

    page.mouse.click(900, 600)
    page.wait_for_timeout(200)
    page.evaluate(CHANGE, ["rank", 6])
    page.evaluate("app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
    page.keyboard.press("Control+z")
    settings.shows("rank", 5, "● rank")
    settings.shows("iterations", 300)

    page.evaluate(
        f"() => {{ app.canvas.selectItems([{NODE}]); app.graph.convertToSubgraph(app.canvas.selectedItems); }}"
    )
    inside = settings.sent()
    assert (inside["rank"], inside["details.steps"], inside["iterations"]) == (5, 9, 0)

    old = {"id": 3, "type": "MixGRPO_TrainerSettings", "pos": [100, 50], "size": [400, 300], "flags": {}, "order": 0}
    old |= {"mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": OLD}
    page.evaluate(
        "(graph) => app.loadGraphData(graph)",
        {"id": str(uuid.uuid4()), "last_node_id": 3, "last_link_id": 0, "nodes": [old], "links": [], "version": 0.4},
    )
    settings.shows("prompts_per_iteration", 3, "● prompts_per_iteration")
    settings.shows("height", 256, "● height")
    settings.shows("width", 384)
    settings.shows("rank", 8)
    sent = settings.sent()
    assert [sent[name] for name in ("model_family", "rank", "details.height", "details.steps", "seed")] == [
        *("FLUX.1-dev", 0, 256, 9, 7)
    ]
    page.evaluate(CHANGE, ["images_per_prompt", 1])
    expect(settings.panel.locator(".mg-error")).to_contain_text("images_per_prompt must be at least 2")
    settings.shows("width", 384)


@pytest.mark.parametrize("settings", [False], ids=["classic"], indirect=True)
def test_the_model_is_seen_and_own_settings_are_kept_in_the_users_folder(settings, host):
    page = settings.page
    settings.shows("prompts_per_iteration", 0, "prompts_per_iteration (the model's)")
    page.evaluate(DEMO)
    settings.shows("prompts_per_iteration", 8)
    settings.shows("model_family", "auto", "model_family (demo)")
    file = kept(host)
    for name, value in (("preset", "DanceGRPO"), ("details", "set by hand"), ("rank", 5), ("kl", 0.01)):
        page.evaluate(CHANGE, [name, value])
    settings.button("save").click()
    page.keyboard.type("Künstler / 1")
    page.keyboard.press("Enter")
    expect(settings.button("own")).to_have_value("Künstler / 1")
    found = json.loads(file.read_text(encoding="utf-8"))["settings"]
    assert found["Künstler / 1"] == {
        "preset": "DanceGRPO",
        "model_family": "auto",
        "memory": "24 GB",
        "details": "set by hand",
        "rank": 5,
        "kl": 0.01,
    }
    settings.button("all").click()
    page.evaluate(CHANGE, ["preset", "MixGRPO"])
    page.evaluate(CHANGE, ["details", "from preset"])
    page.evaluate(CHANGE, ["seed", 4])
    expect(settings.button("own")).to_have_value("")
    settings.button("own").select_option("Künstler / 1")
    settings.shows("kl", 0.01, "● kl")
    settings.shows("preset", "DanceGRPO")
    settings.shows("seed", 4)
    settings.shows("rank", 5, "● rank")
    assert settings.sent()["rank"] == 5

    file.write_text("{", encoding="utf-8")  # a damaged file is told and not written over
    settings.button("save").click()
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(settings.panel.locator(".mg-error")).to_contain_text("is damaged")
    assert file.read_text(encoding="utf-8") == "{"
    file.write_text(json.dumps({"version": 1, "settings": found}), encoding="utf-8")
    settings.button("remove").click()
    expect(settings.button("own")).to_have_value("")
    assert json.loads(file.read_text(encoding="utf-8"))["settings"] == {}
