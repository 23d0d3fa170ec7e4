"""Working with ComfyUI's page in a browser."""

import time

SETTINGS = """async (settings) => {
  for (const [name, value] of Object.entries(settings)) await app.extensionManager.setting.set(name, value);
}"""
QUIET = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
LAPTOP, DESK = {"width": 1280, "height": 720}, {"width": 1600, "height": 1000}
PLACE = """({ x, y, scale }) => {
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [x, y];
  app.canvas.setDirty(true, true);
}"""


def ready(page):
    """Wait until the graph can be worked with."""
    page.wait_for_function("!!window.app?.extensionManager?.setting && !!app.canvas?.graph", timeout=120_000)
    page.wait_for_function("!!window.LiteGraph?.registered_node_types.MixGRPO_TrainLora", timeout=120_000)
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")  # the templates open on a first visit


def load(page, workflow, x=20, y=30, scale=1):
    """Load a workflow and put its origin at a place of the canvas."""
    page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
    page.evaluate(PLACE, {"x": x, "y": y, "scale": scale})
    page.wait_for_timeout(500)


def until(true, words=lambda: "it did not happen", seconds=60):
    """Wait until something is true; ``words()`` says what was expected where it does not come to be.

    Asked from here: ``page.wait_for_function`` takes the promise of an asynchronous predicate for true.
    """
    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, words()
        time.sleep(0.05)
