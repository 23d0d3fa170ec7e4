"""Makes ``example_workflows/*.jpg``: the demo model's stories are run, of the others the graph is shown.

    .host/venv/bin/python scripts/make_thumbnails.py            # with a ComfyUI of its own; trains the demo's LoRA
    .host/venv/bin/python scripts/make_thumbnails.py ADDRESS    # with one that runs

The demo's run takes two to three minutes on a CPU that has nothing else to do.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import Page

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from workflows.page import EXAMPLES, open_page, show  # noqa: E402
from workflows.stories import MODEL_FILES, STORIES  # noqa: E402
from workflows.story import Story  # noqa: E402

SIZE = (512, 288)
PICTURES = {
    "1_first_lora_on_the_demo_model": "grid",
    "2_sampling_with_a_window": "show",
    "5_compare_and_hybrid": "compare",
    "6_score_and_rank_images": "score",
}
"""The nodes, by their keys, whose images are shown; stories that are not named need files of gigabytes, or people."""
_PAPER = (255, 255, 255)
_CLEAR = {"x": 70, "y": 100, "width": 1510, "height": 820}
"""The part of the page that no menu lies over."""
_FIT = """(clear) => {
  const boxes = app.graph.nodes.map((node) => [...node.pos, node.pos[0] + node.size[0], node.pos[1] + node.size[1]])
  const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])) - 50)
  const [right, bottom] = [2, 3].map((axis) => Math.max(...boxes.map((box) => box[axis])) + 30)
  const scale = Math.min(clear.width / (right - left), clear.height / (bottom - top))
  const page = app.canvas.canvas.getBoundingClientRect()
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [(clear.x - page.x) / scale - left, (clear.y - page.y) / scale - top]
  app.canvas.setDirty(true, true)
  return { x: clear.x, y: clear.y, width: scale * (right - left), height: scale * (bottom - top) }
}"""


def main(addresses: list[str]) -> None:
    with open_page(*addresses, files=MODEL_FILES) as page:
        show(page)
        page.wait_for_timeout(3000)  # the page opens a workflow of its own
        page.keyboard.press("Escape")  # and the templates
        for story in STORIES:
            workflow = (EXAMPLES / f"{story.name}.json").read_text(encoding="utf-8")
            page.evaluate("(workflow) => app.loadGraphData(workflow)", json.loads(workflow))
            page.wait_for_timeout(1000)
            picture = made(page, story, PICTURES[story.name]) if story.name in PICTURES else graph(page)
            thumbnail = ImageOps.pad(picture, SIZE, Image.Resampling.LANCZOS, color=picture.getpixel((0, 0)))
            thumbnail.save(EXAMPLES / f"{story.name}.jpg", quality=88, optimize=True)


def made(page: Page, story: Story, key: str) -> Image.Image:
    """Run the story; the images of one of its nodes."""
    page.request.post("/history", data={"clear": True})
    page.evaluate("() => app.queuePrompt(0)")
    while any(page.request.get("/queue").json().values()):
        page.wait_for_timeout(500)
    [run] = page.request.get("/history").json().values()
    if run["status"]["status_str"] != "success":
        raise SystemExit(f"{story.name}: {run['status']}")
    numbers = {node["key"]: str(number) for number, node in enumerate(story.nodes, 1)}  # as the frontend counts them
    return sheet(page, run["outputs"][numbers[key]]["images"])


def sheet(page: Page, found: list[dict[str, str]]) -> Image.Image:
    """Images, four in a row."""
    bodies = [page.request.get("/view", params=image).body() for image in found]
    images = [Image.open(io.BytesIO(body)).convert("RGB") for body in bodies]
    width, height = images[0].size
    columns = min(4, len(images))
    whole = Image.new("RGB", (columns * width, -(-len(images) // columns) * height), _PAPER)
    for place, image in enumerate(images):
        whole.paste(image, (place % columns * width, place // columns * height))
    return whole


def graph(page: Page) -> Image.Image:
    """The nodes and wires."""
    area = page.evaluate(_FIT, _CLEAR)
    page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(page.screenshot(clip=area))).convert("RGB")


if __name__ == "__main__":
    main(sys.argv[1:])
