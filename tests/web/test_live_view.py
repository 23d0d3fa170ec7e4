"""The live view in the real frontend, fed with events and run folders as the server makes them."""

import json
import shutil

import pytest
from frontend import DESK, LAPTOP, PLACE, load, ready
from graphs import SHORT, training
from live_page import CHART, DASH, RENDERINGS, View, report, stats, store, workflow
from PIL import Image, ImageDraw
from playwright.sync_api import expect


@pytest.fixture
def runs(host):
    """The runs' folder; what a test puts there is gone after it."""
    folder = host.base / "output" / "mixgrpo"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    yield folder
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path)


@pytest.fixture
def open_view(open_page, host):
    def open_one(run="my run", vue=False, stored=None, **kind):
        page = open_page(vue=vue, **kind)
        load(page, workflow(stored))
        view = View(page, host, run)
        view.element.wait_for()
        return view

    return open_one


@RENDERINGS
def test_a_run_is_drawn_as_it_goes(open_view, runs, vue):
    view = open_view(vue=vue)
    store(runs, "my run", [])
    view.says("badge", "Not run yet")
    view.status("loading")
    view.says("badge", "Loading")
    view.progress(0)
    view.says("badge", "Sampling")
    view.says("phase", "3 of 8")
    view.says("run", "my run")
    view.says("where", f"steps 0{DASH}3 of 16 · next shift in 5 iterations")
    before = view.element.locator(".mg-chart").screenshot()
    for iteration in range(12):
        view.report(iteration, 0.1 * iteration, held_out=0.5 if iteration == 9 else None)
    view.progress(12, "updating", 1, 4)
    view.says("badge", "Updating")
    view.says("phase", "1 of 4")
    view.says("count", "13")
    view.says("total", " / 60")
    figures = " ".join(view.element.locator(".mg-figures").inner_text().split())
    assert figures == "41 min left 8.2 s per iteration 11.0 GB peak memory"
    view.says("where", f"steps 2{DASH}5 of 16 · next shift in 3 iterations")
    x, low, high, mean, smooth, held = view.curve()[:6]
    assert x == list(range(1, 13))
    assert mean == pytest.approx([0.1 * i for i in range(12)])
    assert low == pytest.approx([m - 0.1 for m in mean]) and high == pytest.approx([m + 0.1 for m in mean])
    assert smooth[0] == mean[0] and mean[0] < smooth[-1] < mean[-1]
    assert [value for value in held if value is not None] == [0.5] and held[9] == 0.5
    assert view.element.locator(".mg-chart").screenshot() != before
    view.status("finished")
    view.says("badge", "Finished")


@RENDERINGS
def test_what_an_objective_reports_besides_the_usual_signs_is_drawn_by_its_name(open_view, runs, vue):
    view = open_view(vue=vue)
    store(runs, "my run", [])
    view.status("loading")
    view.report(0, 0.1)
    section = view.element.locator(".mg-reports")
    expect(section).to_be_hidden()
    for iteration in range(1, 5):
        view.report(iteration, 0.1, update={"dropped": 0.1 * iteration, "kl_step": 1e-6})
    expect(section).to_be_visible()
    expect(section.locator("span")).to_have_text(["dropped", "kl step"])
    expect(section.locator("b")).to_have_text(["0.400", "1e\u22126"])
    lines = [row.get_attribute("points").split() for row in section.locator("polyline").all()]
    assert [len(points) for points in lines] == [4, 4]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights, reverse=True)  # it rises


def test_events_of_other_nodes_and_workflows_are_not_mixed_in(open_view):
    view = open_view()
    view.status("loading", node="13")
    view.status("loading", node="5:12")
    view.status("loading", workflow="another")
    view.status("loading", workflow=None)  # queued by a script: its node 12 is any node
    view.page.wait_for_timeout(300)
    view.says("badge", "Not run yet")
    view.status("loading")
    view.says("badge", "Loading")


def test_a_training_leaves_the_nodes_of_other_workflows_alone(open_page, host, client):
    """The trainer's number is Combine Rewards' in the workflow that the browser shows."""
    graph, trainer = training("elsewhere", **SHORT)
    page = open_page()
    shown = workflow(node=int(trainer.id))
    shown["nodes"][0] |= {"type": "MixGRPO_CombineRewards", "size": [320, 100]}
    load(page, shown)
    looks = (
        f"(() => {{ const node = app.graph.getNodeById({trainer.id}); return [...node.size, node.widgets.length]; }})()"
    )
    before = page.evaluate(looks)
    assert client.run(graph, timeout=300).named("mixgrpo.status")[-1]["state"] == "finished"
    page.wait_for_timeout(1000)
    assert page.evaluate(looks) == before


def test_two_blank_workflows_are_two(open_page):
    page = open_page()
    ids = []
    for _ in range(2):
        page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
        page.wait_for_timeout(1000)
        ids.append(page.evaluate("app.graph.id"))
    assert len(set(ids)) == 2, ids


def test_another_run_of_the_node_begins_on_a_clean_page(open_view, runs):
    view = open_view()
    view.report(0, 0.5)
    view.report(1, 0.6)
    assert view.curve()[0] == [1, 2]
    store(runs, "my run-2", [json.dumps(report(i, 0.3)) for i in range(4)])
    view.run = "my run-2"
    view.report(4, 0.7)
    view.page.wait_for_function(f"({CHART})()[0].length === 5")
    assert view.curve()[3] == [0.3, 0.3, 0.3, 0.3, 0.7]
    assert view.page.evaluate("app.graph.getNodeById(12).properties.mixgrpo_run") == "my run-2"


def test_iterations_that_are_done_again_replace_the_former(open_view):
    view = open_view()
    for iteration, mean in ((0, 0.1), (1, 0.2), (2, 0.3), (1, 0.9)):
        view.report(iteration, mean)
    assert view.curve()[0] == [1, 2] and view.curve()[3] == [0.1, 0.9]


def test_missing_figures_are_gaps_and_not_zeros(open_view):
    view = open_view()
    view.report(0, 0.4)
    view.report(1, None)
    view.report(2, 0.6)
    assert view.curve()[3] == [0.4, None, 0.6]
    assert view.curve()[4][1] is None


def found(sign, gravity, words):
    light = "bad" if gravity >= 0.5 else "watch" if gravity >= 0.25 else "good"
    return {"sign": sign, "gravity": gravity, "light": light, "words": words}


CLIPPED = found("step size", 0.8, "Up to 70% of the ratios are clipped: start again with a tenth of the learning rate.")


def test_the_servers_findings_light_the_signs_and_the_gravest_is_told(open_view):
    view = open_view()
    advice = view.element.locator(".mg-advice")
    grave, light = found("held-out", 0.88, "The reward is tricked: stop."), found("flat groups", 0.4, "Many are flat.")
    fine = found("precision", 0.0, "All is well.")
    update = {"kl": 0.001}
    view.report(0, 0.1, held_out=0.2, update=update, diagnosis={"findings": [light, fine], "told": []})
    expect(advice).to_have_text("Many are flat.", timeout=10_000)
    expect(advice).to_have_attribute("data-light", "watch")
    view.report(1, 0.1, held_out=0.2, diagnosis={"findings": [grave, light, fine], "told": [grave]})
    expect(advice).to_have_text("The reward is tricked: stop.", timeout=10_000)
    expect(advice).to_have_attribute("data-light", "bad")
    cells = view.element.locator(".mg-sign").evaluate_all("cells => cells.map((cell) => cell.dataset.light)")
    assert cells == ["none", "none", "none", "good", "watch", "bad"]
    view.report(2, 0.1, diagnosis=None)
    expect(advice).to_have_text("", timeout=10_000)


def test_a_folder_that_was_left_tells_its_diagnosis(open_view, runs):
    update = {"ratio_first": 0.004, "move": 0.02, "move_target": 0.05, "rate": 3e-2}
    store(runs, "my run", [json.dumps(report(i, 0.3, update=update)) for i in range(4)])
    view = open_view(stored="my run")
    expect(view.element.locator(".mg-advice")).to_contain_text("use a higher precision", timeout=10_000)
    move = view.element.locator(".mg-sign").first
    expect(move).to_contain_text("2.0 % of 5.0 %")
    expect(move).to_have_attribute("data-light", "watch")
    assert "the rate is at 0.03, the highest that the trainer sets" in move.get_attribute("title")


def test_what_a_guard_found_is_said_until_the_next_look(open_view):
    view = open_view()
    drift = {"guard": "PixelDrift", "level": "warn", "sentence": "the images' saturation has risen: stop"}
    alike = {"guard": "DiversityLoss", "level": "stop", "sentence": "the images have become alike"}
    advice = view.element.locator(".mg-advice")
    view.tell("report", report=report(0, 0.1, held_out=0.2, warnings=[drift]), iterations=60)
    expect(advice).to_contain_text("The images' saturation has risen", timeout=10_000)
    expect(advice).to_have_attribute("data-light", "watch")
    view.tell("report", report=report(1, 0.1), iterations=60)
    expect(advice).to_contain_text("saturation")
    view.tell("report", report=report(2, 0.1, held_out=0.2, warnings=[drift, alike]), iterations=60)
    expect(advice).to_contain_text("become alike", timeout=10_000)
    expect(advice).to_have_attribute("data-light", "bad")
    view.tell("report", report=report(3, 0.1, held_out=0.2), iterations=60)
    expect(advice).to_be_empty(timeout=10_000)


def test_what_is_only_watched_is_drawn_from_the_start_with_a_scale_of_its_own(open_view, runs):
    store(runs, "my run", [], reward_weights={"taste": 1.0, "adherence": 0.0})
    view = open_view()
    for iteration, adherence in enumerate((0.5, 0.7, 0.9)):
        both = {"taste": stats(-8.0), "adherence": stats(adherence)}
        made = report(iteration, -9.0) | {"evaluations": [{"iteration": iteration + 1, "rewards": both}]}
        view.tell("report", report=made, iterations=60)
    chip = view.element.locator(".mg-chip", has_text="adherence")
    expect(chip).to_have_attribute("aria-pressed", "true", timeout=10_000)
    expect(view.element.locator(".mg-readout")).to_contain_text("adherence 0.90")
    shown = "() => app.graph.getNodeById(12).mixgrpo.view.parts[1].chart.series.at(-1)"
    assert view.page.evaluate(f"(({shown})().show, ({shown})().scale)") == "watched"
    chip.click()
    assert view.page.evaluate(f"({shown})().show") is False
    view.tell("report", report=report(3, -9.0), iterations=60)
    expect(chip).to_have_attribute("aria-pressed", "false")


CALLS = """() => {
  window.called = [];
  window.Notification = class {
    static permission = "default";
    static async requestPermission() { window.asked = true; return (window.Notification.permission = "granted"); }
    constructor(title, about) { window.called.push(about.body); }
  };
}"""
AWAY = "(away) => Object.defineProperty(document, 'hidden', { value: away, configurable: true })"


def test_who_looks_elsewhere_is_called_by_the_title_and_where_asked_for_by_a_notification(open_view):
    view = open_view()
    page = view.page
    page.evaluate(CALLS)  # headless browsers show none
    page.evaluate(AWAY, True)
    title = page.title()
    view.progress(0)
    view.status("finished")
    page.wait_for_function("document.title === '● my run has finished'")
    assert page.evaluate("[window.asked ?? false, window.called.length]") == [False, 0], "nobody asked for it"
    page.evaluate("document.title = 'the host writes it'")
    page.wait_for_function("document.title === '● my run has finished'")
    page.evaluate(AWAY, False)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    assert page.title() == "the host writes it"
    view.element.get_by_role("button", name="Notify me").click()
    expect(view.element.locator(".mg-notify")).to_have_attribute("aria-pressed", "true")
    view.progress(1)
    view.status("paused")
    page.wait_for_timeout(300)
    assert page.evaluate("window.called") == [], "somebody looks"
    page.evaluate(AWAY, True)
    view.progress(2)
    view.status("stopped")
    page.wait_for_function("window.called.length")
    assert page.evaluate("window.called") == ["my run has stopped."]
    page.evaluate(AWAY, False)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    view.element.locator(".mg-notify").click()
    expect(view.element.locator(".mg-notify")).to_have_attribute("aria-pressed", "false")
    page.evaluate("(title) => { document.title = title; delete document.hidden; }", title)


def test_the_smoothed_curve_has_its_start_corrected(open_view):
    view = open_view()
    smooth = """async (values) => {
      const module = await import(new URL("extensions/mixgrpo/live/smoothing.mjs", location.href));
      return module.smoothed(values, 0.5);
    }"""
    assert view.page.evaluate(smooth, [3, 3, 3]) == pytest.approx([3, 3, 3])
    assert view.page.evaluate(smooth, [1, 0, None, 0]) == [1, pytest.approx(1 / 3), None, pytest.approx(1 / 7)]


COLOURS = [(200, 30, 30), (30, 160, 30), (40, 40, 200), (200, 200, 40), (120, 30, 140)]


@pytest.fixture
def group(host):
    """A contact sheet of five tiles in one colour each, in the temp folder, and what is told about it."""
    folder = host.base / "temp" / "mixgrpo"
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (3 * 80, 2 * 80))
    for index, colour in enumerate(COLOURS):
        left, top = (index % 3) * 80, (index // 3) * 80
        ImageDraw.Draw(image).rectangle((left + 8, top + 8, left + 71, top + 71), fill=colour)
    image.save(folder / "sheet.png")
    tiles = [{"scores": {"taste": i / 10}, "advantage": i - 2.0, "best": i == 4, "worst": i == 0} for i in range(5)]
    tiles[2]["scores"] = {"taste": None}
    data = {"iteration": 0, "prompt": "a red circle", "columns": 3, "tile": {"width": 64, "height": 64, "frame": 8}}
    return data | {"tiles": tiles, "image": {"filename": "sheet.png", "subfolder": "mixgrpo", "type": "temp"}}


@RENDERINGS
def test_the_group_shows_each_image_with_its_score(open_view, group, vue, tmp_path):
    view = open_view(vue=vue)
    view.tell("group", **group)
    tiles = view.element.locator(".mg-tile")
    expect(tiles).to_have_count(5, timeout=10_000)
    assert tiles.locator(".mg-score").all_inner_texts() == ["0.00", "0.10", DASH, "0.30", "0.40"]
    signs = [tile.get_attribute("data-sign") for tile in tiles.all()]
    assert signs == ["down", "down", "even", "up", "up"]
    assert [tile.get_attribute("data-frame") for tile in tiles.all()] == ["worst", None, None, None, "best"]
    for tile, colour in zip(tiles.all(), COLOURS, strict=True):
        tile.screenshot(path=tmp_path / "tile.png")
        picture = Image.open(tmp_path / "tile.png").convert("RGB")
        width, height = picture.size
        for place in ((width // 2, height // 2), (8, height // 3), (width - 9, height // 3)):
            assert picture.getpixel(place) == pytest.approx(colour, abs=24)


def test_a_click_opens_the_image_in_full_size(open_view, group):
    view = open_view()
    view.tell("group", **group)
    view.element.locator(".mg-tile").nth(4).click()
    box = view.page.locator(".mg-lightbox")
    expect(box).to_contain_text("best of the group")
    assert box.locator("canvas").evaluate("(canvas) => [...canvas.getContext('2d').getImageData(9, 9, 1, 1).data]")[
        :3
    ] == list(COLOURS[4])
    view.page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("worst of the group")
    view.page.keyboard.press("Escape")
    expect(box).to_have_count(0)


def test_a_picture_that_is_gone_is_said_over_the_width_of_all(open_view, group):
    view = open_view()
    view.tell("group", **group)
    expect(view.element.locator(".mg-tile")).to_have_count(5, timeout=10_000)
    view.tell("group", **{**group, "image": {"filename": "none.png", "subfolder": "mixgrpo", "type": "temp"}})
    said = view.element.locator(".mg-grid .mg-empty")
    expect(said).to_contain_text("are gone", timeout=10_000)
    assert said.bounding_box()["width"] > 300


@RENDERINGS
def test_buttons_are_there_for_a_live_run_only_and_show_what_was_taken(open_view, vue):
    view = open_view(vue=vue)
    for name in COMMANDS:
        expect(view.button(name)).to_be_disabled()
    view.progress(0)
    expect(view.button("stop")).to_be_enabled()
    view.status("updating", pending=["stop"])
    expect(view.button("stop")).to_have_text("✓ Stop and keep")
    expect(view.button("stop")).to_be_disabled()
    expect(view.button("pause")).to_be_enabled()
    view.says("note", "After this iteration: stopping and keeping the LoRA.")
    view.status("stopped", "kept as my-lora-last.safetensors")
    view.says("note", "kept as my-lora-last.safetensors")
    expect(view.button("pause")).to_be_disabled()


def test_a_refused_command_shows_the_servers_sentence(open_view, runs):
    store(runs, "my run", [])
    view = open_view()
    view.progress(0)
    view.button("stop").click()
    view.says("note", "The run 'my run' is not being trained right now, so it takes no commands.")


@RENDERINGS
def test_a_reload_brings_the_run_back(open_view, runs, vue):
    store(runs, "old", [json.dumps(report(i, 0.02 * i)) for i in range(30)])
    view = open_view(stored="old", vue=vue)
    view.says("badge", "Not running")
    view.says("count", "30")
    view.says("where", f"steps 6{DASH}9 of 16 · next shift in 5 iterations")
    assert view.curve()[0] == list(range(1, 31))
    view.page.wait_for_timeout(2500)  # the frontend keeps the workflow
    view.page.reload()
    ready(view.page)
    view.says("count", "30")
    assert view.curve()[0] == list(range(1, 31))


@pytest.mark.parametrize(("lines", "words"), [(["{", "{"], "is damaged: line 1 is no report"), (["5", "5"], "damaged")])
def test_damaged_metrics_are_a_sentence_on_the_node(open_view, runs, lines, words):
    store(runs, "old", lines)
    view = open_view(stored="old")
    expect(view.element.locator(".mg-advice")).to_contain_text(words, timeout=10_000)


def test_a_run_whose_folder_is_gone_is_said(open_view):
    view = open_view(stored="gone")
    expect(view.element.locator(".mg-note")).to_contain_text('The folder of the run "gone" is gone', timeout=10_000)


def test_a_copied_node_does_not_show_the_run_of_the_other(open_view, runs):
    store(runs, "old", [])
    view = open_view(stored="old")
    copied = view.page.evaluate("app.graph.getNodeById(12).clone().properties")
    assert "mixgrpo_run" not in copied


def test_the_view_is_no_input_of_the_node(open_view):
    view = open_view()
    view.report(0, 0.5)
    node = view.page.evaluate("async () => (await app.graphToPrompt()).output['12']")
    assert not any(name.startswith(("mixgrpo_live", "$$")) for name in node["inputs"])


@RENDERINGS
def test_the_hosts_text_and_preview_are_not_shown_twice(open_view, vue):
    view = open_view(vue=vue)
    view.progress(0)
    size = view.page.evaluate("[...app.graph.getNodeById(12).size]")
    tell = """() => {
      const { api } = comfyAPI.api;
      api.dispatchEvent(new CustomEvent("executing", { detail: "12" }));
      api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId: "12", text: "iteration 1/60" } }));
      const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      canvas.toBlob((blob) => api.dispatchEvent(new CustomEvent("b_preview_with_metadata", { detail: {
        blob, nodeId: "12", displayNodeId: "12", parentNodeId: "12", realNodeId: "12", jobId: "job" } })));
    }"""
    view.page.evaluate(tell)
    view.page.wait_for_timeout(800)
    assert view.page.get_by_text("iteration 1/60").count() == 0
    assert not view.page.locator("[data-node-id='12'] img.contain-size").is_visible()
    names = view.page.evaluate("app.graph.getNodeById(12).widgets.map((widget) => widget.name)")
    assert names.count("$$node-text-preview") == 1 and "$$canvas-image-preview" not in names
    assert view.page.evaluate("[...app.graph.getNodeById(12).size]") == size


COMMANDS = ("sample", "save", "pause", "stop")


def test_a_server_that_comes_back_without_the_run_leaves_no_view_waiting(open_view):
    view = open_view()
    view.tell("status", run=False, state="preparing", note="", pending=[])
    view.says("badge", "Getting ready")
    for event, word in (("reconnecting", "No connection"), ("reconnected", "Not run yet")):
        view.page.evaluate("(name) => comfyAPI.api.api.dispatchEvent(new CustomEvent(name))", event)
        view.says("badge", word)


SIZE = "[...app.graph.getNodeById(12).size]"


@pytest.fixture
def small(on_screen, host):
    """A function that shows the view in a node that was made as small as it can be, on a screen of a size."""

    def open_one(screen, vue):
        page = on_screen(screen, vue=vue)
        load(page, workflow(size=(240, 120)), y=80)
        view = View(page, host, "my run")
        view.element.wait_for()
        return view

    return open_one


@RENDERINGS
def test_state_buttons_and_chart_fit_a_laptops_screen_and_the_rest_unfolds(small, group, vue):
    for screen in (LAPTOP, DESK):
        view = small(screen, vue)
        page = view.page
        view.progress(0, "evaluating", 100, 120, seconds_per_iteration=92, seconds_left=8000)
        view.says("phase", "100 of 120")
        assert view.element.locator(".mg-phase").evaluate("(one) => one.scrollWidth <= one.clientWidth")
        told = {"findings": [CLIPPED], "told": [CLIPPED]}
        for iteration in range(3):
            view.report(iteration, 0.1, update={"clip_low": 0.4, "clip_high": 0.3}, diagnosis=told)
        view.tell("group", **group)
        page.wait_for_timeout(500)
        before = page.evaluate(SIZE)
        inside(
            view.element.bounding_box(), {"x": 0, "y": 40, "width": screen["width"], "height": screen["height"] - 40}
        )
        for part in (".mg-badge", ".mg-chart", ".mg-advice", ".mg-folds", *(f".mg-{name}" for name in COMMANDS)):
            inside(view.element.locator(part).bounding_box(), view.element.bounding_box())
        apart(view)
        view.section("pictures").click()
        view.section("plan").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        for part in (".mg-tile >> nth=0", ".mg-curve"):
            expect(view.element.locator(part)).to_be_visible()
        apart(view)
        assert page.evaluate("app.graph.serialize().nodes[0].properties.mixgrpo_unfolded") == ["pictures", "plan"]
        page.evaluate("app.loadGraphData(app.graph.serialize())")
        expect(view.section("plan")).to_have_attribute("aria-expanded", "true")
        expect(view.section("health")).to_have_attribute("aria-expanded", "false")
        for name in ("plan", "pictures"):
            view.section(name).click()
        assert page.evaluate(SIZE) == before


def inside(box, room):
    """Whether a box lies within another, to a pixel."""
    for place, length in (("x", "width"), ("y", "height")):
        assert room[place] - 1 <= box[place] and box[place] + box[length] <= room[place] + room[length] + 1, (box, room)


def apart(view):
    """Whether the parts of the view lie one below the other."""
    boxes = [
        part.bounding_box() for part in view.element.locator("section:visible, .mg-folds, .mg-advice:visible").all()
    ]
    for above, below in zip(boxes, boxes[1:], strict=False):
        assert above["y"] + above["height"] <= below["y"]
    inside(boxes[-1], view.element.bounding_box())


def test_a_node_that_was_saved_when_it_showed_everything_still_does(open_view):
    view = open_view()
    assert view.page.evaluate(SIZE) == [520, 1100]
    for name in ("health", "plan", "pictures"):
        expect(view.section(name)).to_have_attribute("aria-expanded", "true")
    apart(view)


def test_the_wheel_over_the_view_zooms_the_canvas(open_view):
    view = open_view()
    page = view.page
    page.evaluate(PLACE, {"x": 20, "y": 30, "scale": 1})
    box = view.element.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.wheel(0, -100)
    page.wait_for_function("app.canvas.ds.scale > 1")
    assert page.evaluate("app.canvas.ds.scale") > 1


WRAP = """() => {
  const { node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(12)]));
  node.pos = [80, 60];
  return [node.id, node.subgraph.nodes[0].id].map(String);
}"""


@RENDERINGS
def test_a_subgraph_that_holds_the_trainer_shows_the_view_on_its_outside(small, runs, vue):
    view = small(LAPTOP, vue)
    page = view.page
    store(runs, "my run", [])
    holder, inner = page.evaluate(WRAP)
    place = {"node": f"{holder}:{inner}", "workflow": page.evaluate("app.graph.id")}
    view.status("loading", node=f"77:{inner}", workflow=place["workflow"])  # in another subgraph
    view.progress(0, **place)
    seen = page.locator(".mixgrpo-live:visible")
    expect(seen).to_have_count(1)
    expect(seen.locator(".mg-phase")).to_have_text("3 of 8", timeout=10_000)
    room = {"x": 0, "y": 40, "width": LAPTOP["width"], "height": LAPTOP["height"] - 40}
    for part in (".mg-badge", ".mg-chart", *(f".mg-{name}" for name in COMMANDS)):
        inside(seen.locator(part).bounding_box(), room)
    low = seen.bounding_box()["height"]
    seen.locator("[data-section=plan]").click()
    expect(seen.locator(".mg-curve")).to_be_visible()
    assert seen.bounding_box()["height"] > low + 100
    seen.locator("[data-command=stop]").click()  # it is a made up run
    expect(seen.locator(".mg-note")).to_contain_text("is not being trained right now")
    page.evaluate("app.loadGraphData(app.graph.serialize())")
    expect(seen.locator(".mg-run")).to_have_text("my run", timeout=10_000)
    expect(seen.locator("[data-section=plan]")).to_have_attribute("aria-expanded", "true")
    page.evaluate("app.graph.remove(app.graph.nodes[0])")
    expect(page.locator(".mixgrpo-live")).to_have_count(0)


def test_a_removed_node_hears_nothing_more(open_view):
    view = open_view()
    view.progress(0)
    view.page.evaluate("app.graph.remove(app.graph.getNodeById(12))")
    view.progress(1)
    assert view.page.locator(".mixgrpo-live").count() == 0
