"""Makes ``example_workflows/*.json`` in the real frontend: nodes, wires, values and places are told in ``workflows/``.

    .host/venv/bin/python scripts/make_workflows.py            # against a ComfyUI of its own
    .host/venv/bin/python scripts/make_workflows.py ADDRESS    # against one that runs

The frontend writes the files, so they are what it would save itself. ``make_thumbnails.py`` makes the pictures.
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import Page

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from workflows.page import EXAMPLES, open_page, show  # noqa: E402
from workflows.stories import NAMED_FILES, STORIES, VOTED_RUN  # noqa: E402
from workflows.story import Story  # noqa: E402

BUILD = (Path(__file__).parent / "workflows" / "build.js").read_text(encoding="utf-8")


def main(addresses: list[str]) -> None:
    with open_page(*addresses, files=NAMED_FILES, voted=VOTED_RUN) as page:
        for story in STORIES:
            show(page, vue=True)
            path = EXAMPLES / f"{story.name}.json"
            path.write_text(json.dumps(build(page, story), indent=1) + "\n", encoding="utf-8")


def build(page: Page, story: Story) -> dict:
    """The workflow as the frontend serialises it; problems (an unknown node, input or value) are errors."""
    found = page.evaluate(BUILD, story.plain())
    if found["problems"]:
        raise SystemExit(f"{story.name}: " + "; ".join(found["problems"]))
    return found["workflow"]


if __name__ == "__main__":
    main(sys.argv[1:])
