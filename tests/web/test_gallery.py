"""The gallery in the real frontend: two iterations side by side, by mouse and keyboard, and the LoRA that is kept."""

from pathlib import Path

import pytest
import torch
from frontend import load, until
from live_page import RENDERINGS, View, store, workflow
from PIL import Image
from playwright.sync_api import expect

from mixgrpo_core.models.lora_file import save_lora
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.gallery import ITERATION, Gallery

WHOLE = "(all) => all.every((label) => label.scrollWidth <= label.clientWidth)"
RUN = "gallery run"
PROMPTS = ["a red circle", "a blue square", "a green cross", "a grey star"]
ITERATIONS = [0, 7, 14, 21, 55]


@pytest.fixture
def run(host):
    """A run's folder with five entries, each of its own grey; what is made of it is gone after the test."""
    runs = host.base / "output" / "mixgrpo"
    runs.mkdir(parents=True, exist_ok=True)
    store(runs, RUN, [], iterations=55)
    gallery = Gallery(RunFolder.open(runs / RUN))
    for iteration in ITERATIONS:
        add(gallery, iteration)
    yield gallery
    kept = host.base / "output" / "loras" / "mixgrpo" / f"{RUN}-kept.safetensors"
    for path in (*sorted((runs / RUN).rglob("*"), reverse=True), kept):
        if path.exists():
            path.rmdir() if path.is_dir() else path.unlink()
    (runs / RUN).rmdir()


def add(gallery, iteration, asked=False):
    gallery.begin(iteration)
    state = {"a.lora_A.weight": torch.full((1, 2), float(iteration)), "a.lora_B.weight": torch.ones(2, 1)}
    save_lora(gallery.lora(iteration), state, metadata={ITERATION: str(iteration)})
    shots = [Image.new("RGB", (64, 64), (4 * iteration, 50 * place, 90)) for place in range(len(PROMPTS))]
    gallery.add(iteration, list(zip(PROMPTS, shots, strict=True)), asked=asked)


@pytest.fixture
def opened(open_page, host, run):
    def open_one(vue, **size):
        page = open_page(vue=vue, **size)
        load(page, workflow(RUN, size=(460, 700)), y=-280 if page.viewport_size["height"] < 900 else -20)
        view = View(page, host, RUN)
        view.element.wait_for()
        view.section("gallery").click()
        expect(view.element.locator(".mg-gallery")).to_be_visible()
        return view

    return open_one


def side(view, place):
    return view.element.locator(".mg-side").nth(place)


def shows(view, place, iteration):
    """The label and the pictures of a side are those of an iteration."""
    expect(side(view, place).locator("b")).to_have_text(f"iteration {iteration}")
    sources = [image.get_attribute("src") for image in side(view, place).locator("img").all()]
    assert len(sources) == 4 and all(f"{iteration:06}" in source for source in sources)
    drawn = "(image) => image.complete && image.naturalWidth === 64"
    images = side(view, place).locator("img").all()
    until(lambda: all(image.evaluate(drawn) for image in images), lambda: "not all pictures are drawn")


@RENDERINGS
def test_two_iterations_stand_side_by_side_and_are_chosen_by_mouse_and_keyboard(opened, vue):
    view = opened(vue)
    shows(view, 0, 0)
    shows(view, 1, 55)
    place = "(() => [...app.graph.getNodeById(12).pos, ...app.canvas.ds.offset])()"
    before = view.page.evaluate(place)
    slider = side(view, 1).locator("input")
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    view.page.mouse.move(box["x"] + box["width"] - 8, y)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + box["width"] / 2, y, steps=6)
    view.page.mouse.up()
    shows(view, 1, 14)
    assert view.page.evaluate(place) == before, "neither the node nor the canvas moved with it"
    side(view, 0).locator("input").focus()
    view.page.keyboard.press("ArrowRight")
    shows(view, 0, 7)
    view.page.keyboard.press("End")
    shows(view, 0, 55)
    expect(side(view, 0).locator("input")).to_have_attribute("aria-valuetext", "iteration 55")
    side(view, 1).locator(".mg-shown").nth(1).click()
    box = view.page.locator(".mg-lightbox")
    expect(box.locator("img")).to_have_count(2)
    expect(box.locator("b")).to_have_text(PROMPTS[1])
    view.page.keyboard.press("ArrowRight")
    expect(box.locator("b")).to_have_text(PROMPTS[2])
    expect(box.locator("span")).to_contain_text("iteration 55")
    view.page.keyboard.press("Escape")
    expect(box).to_have_count(0)


@RENDERINGS
def test_one_is_kept_and_taken_back_and_new_ones_appear(opened, run, host, vue):
    view = opened(vue)
    side(view, 0).locator("input").focus()
    view.page.keyboard.press("ArrowRight")
    side(view, 0).get_by_text("Keep this one").click()
    expect(side(view, 0).locator("button.mg-keep")).to_have_text("✓ Kept")
    file = host.base / "output" / "loras" / "mixgrpo" / f"{RUN}-kept.safetensors"
    assert file.read_bytes() == run.lora(7).read_bytes()
    view.element.get_by_text("Use the last one").click()
    expect(side(view, 0).locator("button.mg-keep")).to_have_text("Keep this one")
    assert not file.exists()
    entries = view.page.evaluate("app.graph.getNodeById(12).mixgrpo.state.gallery.entries")
    entries.append({**entries[-1], "iteration": 60, "asked": True})
    view.tell("gallery", entries=entries, kept=None, bytes=1 << 20, problem="", new=60)
    expect(side(view, 1).locator("b")).to_have_text("asked for at 60")
    assert view.element.locator(".mg-side b").evaluate_all(WHOLE), "no label is cut"
    expect(side(view, 0).locator("b")).to_have_text("iteration 7")
    expect(view.element.locator(".mg-gallery small")).to_have_text("6 LoRAs · 1 MB")
    entries.append({**entries[-1], "iteration": 70, "asked": False})
    view.tell("gallery", entries=entries, kept=None, bytes=1 << 20, problem="", new=70)
    expect(view.element.locator(".mg-gallery small")).to_have_text("7 LoRAs · 1 MB")
    expect(side(view, 1).locator("b")).to_have_text("asked for at 60")  # until it has been looked at
    side(view, 1).locator("input").focus()
    view.page.keyboard.press("End")
    expect(side(view, 1).locator("b")).to_have_text("iteration 70")
    entries.append({**entries[-1], "iteration": 77})
    view.tell("gallery", entries=entries, kept=None, bytes=1 << 20, problem="", new=77)
    expect(side(view, 1).locator("b")).to_have_text("iteration 77")


def test_a_run_without_a_gallery_has_nothing_to_unfold(open_page, host):
    page = open_page()
    load(page, workflow())
    view = View(page, host, "none")
    expect(view.section("health")).to_be_visible()
    expect(view.section("gallery")).to_be_hidden()


@RENDERINGS
@pytest.mark.parametrize(("width", "height"), [(1600, 1000), (1280, 720)])
def test_pictures_of_the_gallery(request, opened, vue, width, height):
    folder = request.config.getoption("--pictures", default=None)
    if folder is None:
        pytest.skip("asked for by --pictures")
    view = opened(vue, width=width, height=height)
    view.status("loading", note="This run will take about 3 min 20 s (55 iterations of 3.6 s), by one timed step.")
    view.page.wait_for_timeout(800)
    view.page.screenshot(path=Path(folder) / f"gallery-{width}-{'vue' if vue else 'classic'}.png")
