"""The artist's first hour, by mouse and keyboard: in both of the ways that nodes are drawn, on a laptop and on a desk.

With ``--pictures=DIR`` every step leaves a picture.
"""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from comfy_client import Client
from frontend import DESK, LAPTOP, PLACE, ready, until
from playwright.sync_api import expect
from settings_page import NODE, Settings

pytestmark = pytest.mark.long("hour")
EXAMPLE = "1_first_lora_on_the_demo_model"
TRAINER = "app.graph.nodes.find((node) => node.type === 'MixGRPO_TrainLora')"
BAR = 58  # of the host, at the left
BUTTONS = 90  # of the host, at the top
ERRORS = """() => Object.values(app.lastNodeErrors ?? {}).flatMap(({ class_type, errors }) =>
  errors.map(({ extra_info, details }) => [class_type, extra_info.input_name, details]))"""
STEPS = f"""([name, value]) => {{
  const widget = {NODE}.widgets.find((one) => one.name === name);
  return widget.options.values.indexOf(value) - widget.options.values.indexOf(widget.value);
}}"""
SHORT = f"""(name) => {{
  const set = (node, values) => {{
    for (const [name, value] of Object.entries(values)) {{
      const widget = node.widgets.find((one) => one.name === name);
      widget.value = value;
      widget.callback?.(value);
    }}
  }};
  set({NODE}, {{ iterations: 200, images_per_prompt: 4, prompts_per_iteration: 1, learning_rate: 5e-4 }});
  set({TRAINER}, {{ run_name: name }});
  const prompts = app.graph.nodes.find(({{ type }}) => type === "MixGRPO_PromptSet");
  set(prompts, {{ held_out_prompts: "a small red circle at the bottom" }});
}}"""
SAME_NUMBER = """(id) => {
  const node = LiteGraph.createNode("MixGRPO_CombineRewards");
  node.id = id;
  node.pos = [300, 200];
  app.graph.add(node);
}"""
LOOKS = """(id) => {
  const node = app.graph.getNodeById(id);
  return [node.type, ...node.size, node.widgets.map(({ name }) => name), node.imgs?.length ?? 0];
}"""
POINTS = f"() => {TRAINER}.mixgrpo.view.parts[1].chart.data[0].length"
LOADER = """() => {
  const node = app.graph.nodes.find(({ type }) => type === "LoraLoaderModelOnly");
  return [node.widgets[0].value, node.getInputNode(0)?.type, app.canvas.isNodeVisible(node)];
}"""


class Hour:
    """One page, one rendering, one screen and the run that is trained there."""

    def __init__(self, page, host, vue, screen, pictures):
        self.page, self.host, self.vue, self.screen, self.pictures = page, host, vue, screen, pictures
        self.way = f"{'vue' if vue else 'classic'} {screen['width']}"
        self.run = f"Ada's hour/{self.way}"
        self.settings = Settings(page, vue)
        self.view = page.locator(".mixgrpo-live:visible")

    def picture(self, name):
        self.page.wait_for_timeout(700)
        if self.pictures:
            self.page.screenshot(path=Path(self.pictures) / f"{self.way.replace(' ', '-')}-{name}.png")

    def look_at(self, node, scale):
        """Put a node below the host's buttons, beside its bar."""
        x, y = self.page.evaluate(f"[...{node}.pos]")
        place = {"x": (BAR + 20) / scale - x, "y": (BUTTONS + 20) / scale + 30 - y, "scale": scale}
        self.page.evaluate("app.canvas.deselectAll()")
        self.page.evaluate(PLACE, place)
        self.page.wait_for_timeout(400)

    def press_run(self):
        self.page.get_by_role("button", name="Run", exact=True).first.click()

    def close_what_the_host_says(self):
        for button in self.page.get_by_test_id("error-overlay").get_by_role("button", name="Close").all():
            button.click()

    def choose(self, name, value):
        self.settings.choose(name, value, self.page.evaluate(STEPS, [name, value]))

    def says(self, badge, seconds=120):
        expect(self.view.locator(".mg-badge")).to_have_text(badge, timeout=1000 * seconds)

    def wait_for_points(self, count):
        self.page.wait_for_function(f"({POINTS})() >= {count}", timeout=240_000)

    def on_screen(self, part):
        """A part of the view is seen, and below what the host lays over the canvas."""
        box = self.view.locator(part).first.bounding_box()
        assert box["x"] >= BAR and box["y"] >= BUTTONS, (part, box)
        assert box["x"] + box["width"] <= self.screen["width"], (part, box)
        assert box["y"] + box["height"] <= self.screen["height"], (part, box)


WAYS = [(vue, screen) for vue in (False, True) for screen in (LAPTOP, DESK)]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{'vue' if way[0] else 'classic'}-{way[1]['width']}")
def hour(request, show, host):
    vue, screen = request.param
    page = show(vue=vue)
    usual = page.viewport_size
    page.set_viewport_size(screen)
    made = Hour(page, host, vue, screen, request.config.getoption("--pictures"))
    yield made
    with Client(host.address) as client:
        if any(told["run"] == made.run for told in client.get("/mixgrpo/live")["runs"]):
            client.post(f"/mixgrpo/runs/{quote(made.run, safe='')}/command", {"command": "stop"})
        until(lambda: not client.get("/queue")["queue_running"], seconds=120)
    page.set_viewport_size(usual)
    page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")  # or a reload would open these tabs again
    page.goto(host.address)
    ready(page)


def test_the_example_opens_from_the_templates_and_can_be_read(hour):
    page = hour.page
    page.get_by_role("button", name="Templates").click()
    templates = page.get_by_role("dialog")
    templates.get_by_text("mixgrpo", exact=True).click()
    templates.get_by_text(EXAMPLE, exact=True).click()
    hour.says("Not run yet")
    hour.picture("1-opens")
    assert page.evaluate("app.canvas.ds.scale") >= 0.6
    for part in (".mg-badge", ".mg-chart", ".mg-folds"):
        hour.on_screen(part)


def test_a_wrong_value_is_one_message_and_can_be_put_back(hour):
    page, settings = hour.page, hour.settings
    hour.look_at(NODE, 0.9)
    settings.type("images_per_prompt", 1)
    settings.shows("images_per_prompt", 1, "● images_per_prompt")
    hour.press_run()
    until(lambda: page.evaluate(ERRORS))
    [(node, input, sentence)] = page.evaluate(ERRORS)
    assert (node, input) == ("MixGRPO_TrainerSettings", "images_per_prompt") and "at least 2" in sentence
    expect(settings.panel.locator(".mg-error")).to_contain_text("images_per_prompt must be at least 2")
    hour.picture("2-wrong-value")
    hour.close_what_the_host_says()
    settings.button("hand images_per_prompt").click()
    settings.shows("images_per_prompt", 12)


def test_another_family_than_the_models_is_one_sentence(hour):
    hour.choose("preset", "MixGRPO")
    hour.choose("model_family", "SD3.5")
    hour.picture("3-widgets-of-another-family")
    hour.press_run()
    hour.says("Failed", 60)
    hour.look_at(TRAINER, 1)
    hour.picture("3-another-family")
    expect(hour.view.locator(".mg-note")).to_contain_text("model_family")
    hour.close_what_the_host_says()
    hour.look_at(NODE, 0.9)
    hour.choose("model_family", "auto")
    hour.choose("preset", "Demo")
    hour.settings.shows("model_family", "auto", "model_family (demo)")


def test_what_it_will_take_is_said_before_and_while_it_runs(hour):
    hour.page.evaluate(SHORT, hour.run)
    hour.picture("4-set-by-hand")
    hour.look_at(TRAINER, 1)
    hour.press_run()
    expect(hour.view.locator(".mg-note")).to_contain_text("This run will take", timeout=120_000)
    hour.picture("4-before-the-start")
    hour.wait_for_points(4)
    hour.picture("4-runs")
    expect(hour.view.locator(".mg-figure b").first).to_have_text(re.compile(r"^[0-9]+ (s|min)$"))
    for part in (".mg-badge", ".mg-sample", ".mg-stop", ".mg-chart", ".mg-folds"):
        hour.on_screen(part)


def test_another_tab_is_left_alone(hour):
    page = hour.page
    number = page.evaluate(f"{TRAINER}.id")
    page.get_by_role("button", name="Create a new blank workflow").click()
    page.wait_for_timeout(800)
    page.evaluate(SAME_NUMBER, number)
    page.evaluate(PLACE, {"x": 0, "y": 60, "scale": 1})
    page.wait_for_timeout(500)
    before = page.evaluate(LOOKS, number)
    page.wait_for_timeout(5000)
    hour.picture("5-another-tab")
    assert page.evaluate(LOOKS, number) == before and before[0] == "MixGRPO_CombineRewards"
    page.locator(".workflow-tab").filter(has_text=EXAMPLE).first.click()
    expect(hour.view.locator(".mg-run")).to_have_text(hour.run, timeout=20_000)
    expect(hour.view.locator("[data-command=stop]")).to_be_enabled(timeout=20_000)
    hour.look_at(TRAINER, 1)


def test_sections_unfold_and_fold(hour):
    low = hour.page.evaluate(f"{TRAINER}.size[1]")
    for name, shown in (("health", ".mg-health"), ("plan", ".mg-curve"), ("pictures", ".mg-tile")):
        hour.view.locator(f"[data-section={name}]").click()
        expect(hour.view.locator(shown).first).to_be_visible()
    hour.picture("6-unfolded")
    if hour.screen == LAPTOP:
        hour.look_at(TRAINER, 0.6)
        hour.picture("6-unfolded-whole")
        hour.look_at(TRAINER, 1)
    for name in ("health", "plan", "pictures"):
        hour.view.locator(f"[data-section={name}]").click()
    until(lambda: abs(hour.page.evaluate(f"{TRAINER}.size[1]") - low) < 4, seconds=10)


def test_a_pause_is_no_failure_and_run_goes_on(hour):
    page = hour.page
    hour.view.locator("[data-command=pause]").click()
    hour.says("Paused")
    hour.picture("7-paused")
    assert page.get_by_text("Job failed").count() == 0
    done = page.evaluate(POINTS)
    hour.press_run()
    hour.wait_for_points(done + 2)


def test_pictures_are_made_compared_and_one_is_kept(hour):
    page, view = hour.page, hour.view
    view.locator("[data-command=sample]").click()
    asked = view.locator(".mg-side").last
    expect(asked.locator("b")).to_contain_text("asked for", timeout=120_000)
    first = view.locator(".mg-side").first
    expect(first.locator("b")).to_have_text("iteration 0")
    hour.look_at(TRAINER, 0.7 if hour.screen == LAPTOP else 1)
    hour.picture("8-gallery")
    asked.locator(".mg-shown").first.click()
    expect(page.locator(".mg-lightbox img")).to_have_count(2)
    hour.picture("8-side-by-side")
    page.keyboard.press("Escape")
    asked.get_by_text("Keep this one").click()
    expect(asked.locator("button.mg-keep")).to_have_text("✓ Kept")
    hour.picture("8-kept")
    assert (hour.host.base / "output/loras/mixgrpo" / f"{hour.run}-kept.safetensors").is_file()


def test_its_end_says_where_the_lora_is_and_a_click_loads_it(hour):
    page, view = hour.page, hour.view
    view.locator("[data-section=gallery]").click()
    hour.look_at(TRAINER, 1)
    view.locator("[data-command=stop]").click()
    hour.says("Stopped")
    expect(view.locator(".mg-gains")).to_contain_text("→")
    hour.picture("9-stopped")
    for part in (".mg-gains", ".mg-files", ".mg-load"):
        hour.on_screen(part)
    view.locator(".mg-load").click()
    page.wait_for_timeout(500)
    hour.picture("9-loader")
    file, model, seen = page.evaluate(LOADER)
    assert file.startswith(f"mixgrpo/{hour.run}-") and (model, seen) == ("MixGRPO_DemoModel", True)
