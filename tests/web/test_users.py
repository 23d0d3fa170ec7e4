"""Several users of one ComfyUI (``--multi-user``): a run, its pictures and own settings are one user's."""

import json

import pytest
from comfy_client import Client
from first_story import TRAINER, WORKFLOW, quick
from frontend import QUIET, SETTINGS, load, ready, until
from playwright.sync_api import expect

pytestmark = pytest.mark.long("users")
NAMES = ("Ada", "Bo")
OTHERS = f"() => app.graph.nodes.filter((node) => node.id !== {TRAINER}).map((node) => [node.id, ...node.size])"

TO_SETTINGS = """() => {
  app.canvas.ds.scale = 1;
  app.canvas.centerOnNode(app.graph.nodes.find((node) => node.type === "MixGRPO_TrainerSettings"));
}"""


@pytest.fixture(scope="module")
def shared(start_host, request):
    return start_host(request.config.getoption("--comfyui"), "--multi-user")


@pytest.fixture(scope="module")
def pages(shared, chromium):
    """A browser of each user, signed in by keyboard."""
    contexts = [chromium.new_context(viewport={"width": 1280, "height": 720}) for _ in NAMES]
    opened = []
    for context, name in zip(contexts, NAMES, strict=True):
        page = context.new_page()
        page.goto(shared.address)
        page.locator("#new-user-input").fill(name)
        page.keyboard.press("Enter")
        ready(page)
        page.evaluate(SETTINGS, QUIET)
        opened.append(page)
    yield opened
    for context in contexts:
        context.close()


def badge(page):
    return page.locator(".mixgrpo-live .mg-badge")


def test_a_run_of_one_user_is_shown_to_that_user_alone(pages, shared):
    ada, bo = pages
    for page in pages:
        load(page, quick(WORKFLOW, "of Ada"))
    before = bo.evaluate(OTHERS)
    ada.get_by_role("button", name="Run", exact=True).first.click()
    expect(badge(ada)).to_have_text("Sampling", timeout=60_000)
    expect(badge(bo)).to_have_text("Not run yet")
    with Client(shared.address) as client:
        ada.locator(".mixgrpo-live [data-command=stop]").click()
        until(lambda: not client.get("/mixgrpo/live")["runs"] and not client.get("/queue")["queue_running"])
    expect(badge(ada)).to_have_text("Stopped", timeout=20_000)
    expect(badge(bo)).to_have_text("Not run yet")
    assert bo.evaluate(OTHERS) == before


def test_own_settings_are_kept_in_the_folder_of_their_user(pages, shared):
    for page, name in zip(pages, NAMES, strict=True):
        page.evaluate(TO_SETTINGS)
        panel = page.locator(".mixgrpo-settings")
        panel.locator("[data-key=save]").click()
        page.keyboard.type(f"{name}'s")
        page.keyboard.press("Enter")
        expect(panel.locator("[data-key=own]")).to_have_value(f"{name}'s")
    files = sorted((shared.base / "user").glob("*/mixgrpo.trainer_settings.json"))
    kept = {file.parent.name.rsplit("_", 1)[0]: list(json.loads(file.read_text())["settings"]) for file in files}
    assert kept == {"Ada": ["Ada's"], "Bo": ["Bo's"]}
