"""Makes ``example_workflows/*.jpg``: what a story makes or asks, or, of models of gigabytes, what they learn from.

    .host/venv/bin/python scripts/make_thumbnails.py                # with a ComfyUI of its own; trains a LoRA
    .host/venv/bin/python scripts/make_thumbnails.py ADDRESS 6 7    # with one that runs; some stories, by number

The demo's run takes about two minutes on a CPU that has nothing else to do.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import Page

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from workflows.page import EXAMPLES, open_page, show  # noqa: E402
from workflows.stories import MODEL_FILES, NAMED_FILES, STORIES, VOTED_RUN  # noqa: E402
from workflows.story import Story  # noqa: E402

SIZE = (512, 288)
PICTURES = {"1": "grid", "5": "compare", "6": "score", "7": "show"}
"""By a story's number the node whose images are shown."""
ASKS = {"2": "train", "8": "train"}
"""The trainer that waits for votes."""
PARTS = {
    "3": ("trained", "watched"),
    "4": ("trained", "watched"),
    "9": ("align",),
    "10": ("first", "taste", "merge"),
}
"""Nodes that are shown as they are."""
_PAPER = (255, 255, 255)
_PLACE = """([clear, ids]) => {
  const boxes = ids.map((id) => app.graph.getNodeById(id)).map((node) => [...node.getBounding()])
  const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])) - 12)
  const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])) + 12)
  const scale = Math.min(1.3, clear.width / (right - left), clear.height / (bottom - top))
  const page = app.canvas.canvas.getBoundingClientRect()
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [(clear.x - page.x) / scale - left, (clear.y - page.y) / scale - top]
  app.canvas.setDirty(true, true)
  return { x: clear.x, y: clear.y, width: scale * (right - left), height: scale * (bottom - top) }
}"""
_CLEAR = {"x": 70, "y": 100, "width": 1510, "height": 820}
"""The part of the page that no menu lies over."""


def main(arguments: list[str]) -> None:
    addresses = [each for each in arguments if "://" in each]
    numbers = [each for each in arguments if "://" not in each]
    wanted = [story for story in STORIES if not numbers or number_of(story) in numbers]
    with open_page(*addresses, files=MODEL_FILES) as page:
        take(page, [story for story in wanted if number_of(story) not in PARTS])
    with open_page(*addresses, files=NAMED_FILES, voted=VOTED_RUN) as page:
        take(page, [story for story in wanted if number_of(story) in PARTS])


def take(page: Page, stories: list[Story]) -> None:
    show(page, vue=True)
    page.wait_for_timeout(3000)  # the page opens a workflow of its own
    page.keyboard.press("Escape")  # and the templates
    for story in stories:
        workflow = (EXAMPLES / f"{story.name}.json").read_text(encoding="utf-8")
        page.evaluate("(workflow) => app.loadGraphData(workflow)", json.loads(workflow))
        page.wait_for_timeout(1500)
        picture = pictured(page, story)
        thumbnail = ImageOps.pad(picture, SIZE, Image.Resampling.LANCZOS, color=picture.getpixel((0, 0)))
        thumbnail.save(EXAMPLES / f"{story.name}.jpg", quality=88, optimize=True)


def pictured(page: Page, story: Story) -> Image.Image:
    number = number_of(story)
    if number in PICTURES:
        return made(page, story, PICTURES[number])
    if number in ASKS:
        return asked(page, story, ASKS[number])
    return parts(page, story, PARTS[number])


def number_of(story: Story) -> str:
    return story.name.partition("_")[0]


def ids(story: Story) -> dict[str, int]:
    """By key, as the frontend counts the nodes."""
    return {node["key"]: number for number, node in enumerate(story.nodes, 1)}


def made(page: Page, story: Story, key: str) -> Image.Image:
    """Run the story; the images of one of its nodes."""
    page.request.post("/history", data={"clear": True})
    page.evaluate("() => app.queuePrompt(0)")
    page.wait_for_timeout(1000)
    while any(page.request.get("/queue").json().values()):
        page.wait_for_timeout(500)
    [run] = page.request.get("/history").json().values()
    if run["status"]["status_str"] != "success":
        raise SystemExit(f"{story.name}: {run['status']}")
    whole = sheet(page, run["outputs"][str(ids(story)[key])]["images"])
    return whole.crop((0, 0, whole.width, min(whole.height, whole.width * 3 // 4)))  # the best of a long one are on top


def asked(page: Page, story: Story, key: str) -> Image.Image:
    """Run the story until it waits for votes; its trainer."""
    page.evaluate("() => app.queuePrompt(0)")
    page.locator(".mg-ballot[data-mode=voting]").first.wait_for(timeout=600_000)
    page.wait_for_timeout(3000)
    whole = parts(page, story, (key,))
    page.request.post("/interrupt", data={})
    return whole.crop((0, max(0, whole.height - whole.width * 3 // 4), *whole.size))  # what is voted on is below


def parts(page: Page, story: Story, keys: tuple[str, ...]) -> Image.Image:
    """Some nodes, as they are on the canvas."""
    area = page.evaluate(_PLACE, [_CLEAR, [ids(story)[key] for key in keys]])
    page.wait_for_timeout(1500)
    return Image.open(io.BytesIO(page.screenshot(clip=area))).convert("RGB")


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


if __name__ == "__main__":
    main(sys.argv[1:])
