"""The first example workflow, as an artist meets it: load it, press Run, watch, reload, sample, stop and keep.

With ``--pictures=docs`` its screenshots become the README's.
"""

import json
from pathlib import Path

import pytest
from frontend import load, ready
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = json.loads((ROOT / "example_workflows" / "1_first_lora_on_the_demo_model.json").read_text(encoding="utf-8"))
[TRAINER] = [node["id"] for node in WORKFLOW["nodes"] if node["type"] == "MixGRPO_TrainLora"]
POINTS = f"() => app.graph.getNodeById({TRAINER}).mixgrpo.view.parts[1].chart.data[0].length"


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_the_first_lora(host, open_page, vue):
    name = f"story-{'vue' if vue else 'classic'}"
    page = open_page(vue=vue, width=1500, height=1150)
    load(page, quick(WORKFLOW, name), x=-360, y=60)
    view = page.locator(".mixgrpo-live")
    expect(view.locator(".mg-badge")).to_have_text("Not run yet")

    page.get_by_role("button", name="Run", exact=True).first.click()
    wait_for_points(page, 4)
    expect(view.locator(".mg-tile")).not_to_have_count(0)
    expect(view.locator(".mg-where")).to_contain_text("next shift in")
    before = page.evaluate(POINTS)
    chart = view.locator(".mg-chart").screenshot()
    wait_for_points(page, before + 2)
    assert view.locator(".mg-chart").screenshot() != chart

    page.wait_for_timeout(2500)  # the frontend keeps the workflow
    page.reload()
    ready(page)
    page.evaluate("([x, y]) => { app.canvas.ds.offset = [x, y]; app.canvas.ds.scale = 1; }", [-360, 60])
    wait_for_points(page, before + 3)
    expect(view.locator(".mg-run")).to_have_text(name)
    view.locator("[data-command=sample]").click()
    expect(view.locator(".mg-shot")).to_be_visible(timeout=60_000)
    view.get_by_text("Current group").click()
    expect(view.locator(".mg-tile")).not_to_have_count(0)
    wait_for_points(page, 10)

    view.locator("[data-command=stop]").click()
    expect(view.locator(".mg-badge")).to_have_text("Stopped", timeout=120_000)
    expect(view.locator("[data-command=stop]")).to_be_disabled()
    assert (host.base / "output" / "loras" / "mixgrpo" / f"{name}-last.safetensors").stat().st_size > 0
    kept = page.evaluate(POINTS)
    stored = (host.base / "output" / "mixgrpo" / name / "metrics.jsonl").read_text().splitlines()
    assert len(stored) in (kept, kept - 1)  # the held-out point before the first iteration has its own place


def test_pictures_for_the_readme(request, open_page):
    """The whole workflow as it ships, half way and at its end: minutes on a quiet machine, twenty on a busy one."""
    folder = request.config.getoption("--pictures", default=None)
    if folder is None:
        pytest.skip("asked for by --pictures=docs")
    page = open_page(vue=False, width=1500, height=1150)
    load(page, WORKFLOW, x=-360, y=60)
    page.get_by_role("button", name="Run", exact=True).first.click()
    wait_for_points(page, 40, seconds=1200)
    page.evaluate("app.canvas.deselectAll()")
    page.screenshot(path=Path(folder) / "live_view.png")
    expect(page.locator(".mixgrpo-live .mg-badge")).to_have_text("Finished", timeout=1_200_000)
    page.wait_for_timeout(15_000)  # the nodes behind the trainer
    page.set_viewport_size({"width": 2000, "height": 1120})
    page.evaluate(
        "() => { app.canvas.ds.scale = 0.84; app.canvas.ds.offset = [60, 60]; app.canvas.setDirty(true, true); }"
    )
    page.wait_for_timeout(1500)
    page.screenshot(path=Path(folder) / "workflow.png")


def quick(workflow, run):
    """The workflow with another name for the run, and iterations of one small group."""
    copy = json.loads(json.dumps(workflow))
    for node in copy["nodes"]:
        if node["type"] == "MixGRPO_TrainLora":
            node["widgets_values"][0] = run
        if node["type"] == "MixGRPO_TrainerSettings":
            node["widgets_values"][3:6] = [100, 12, 1]  # iterations, images per prompt, prompts per iteration
    return copy


def wait_for_points(page, count, seconds=280):
    page.wait_for_function(f"({POINTS})() >= {count}", timeout=1000 * seconds)
