"""Makes ``example_workflows/*.json`` in the real frontend: nodes, wires, values and places are told in ``workflows/``.

    .host/venv/bin/python scripts/make_workflows.py            # against a ComfyUI of its own
    .host/venv/bin/python scripts/make_workflows.py ADDRESS    # against one that runs

The frontend writes the files, so they are what it would save itself. Thumbnails are taken by the browser tests.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from comfyui_host.process import Host, base_folder  # noqa: E402
from workflows.stories import STORIES, model_files  # noqa: E402
from workflows.story import Story  # noqa: E402

OUT = ROOT / "example_workflows"
CHROMIUM = "/usr/bin/chromium"
READY = "window.app?.graph && Object.keys(window.LiteGraph.registered_node_types).includes('MixGRPO_TrainLora')"
BUILD = (Path(__file__).parent / "workflows" / "build.js").read_text(encoding="utf-8")


def main(addresses: list[str]) -> None:
    with ExitStack() as stack:
        address = addresses[0] if addresses else own_host(stack)
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        for story in STORIES:
            page.goto(address)  # anew for each: the frontend keeps the values of nodes by their ids
            page.wait_for_function(READY, timeout=120_000)
            path = OUT / f"{story.name}.json"
            path.write_text(json.dumps(build(page, story), indent=1) + "\n", encoding="utf-8")
        browser.close()


def build(page: Page, story: Story) -> dict:
    """The workflow as the frontend serialises it; problems (an unknown node, input or value) are errors."""
    found = page.evaluate(BUILD, story.plain())
    if found["problems"]:
        raise SystemExit(f"{story.name}: " + "; ".join(found["problems"]))
    return found["workflow"]


def own_host(stack: ExitStack) -> str:
    """A ComfyUI on folders of its own, in which the stories' model files exist by name."""
    base = base_folder(Path(stack.enter_context(TemporaryDirectory())))
    for file in model_files():
        (base / "models" / file).parent.mkdir(parents=True, exist_ok=True)
        (base / "models" / file).touch()
    host = Host(ROOT / ".host" / "ComfyUI-0.30.0", base, python=sys.executable, environment={"OMP_NUM_THREADS": "1"})
    stack.callback(host.stop)
    return host.start().address


if __name__ == "__main__":
    main(sys.argv[1:])
