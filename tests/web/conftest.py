"""A real browser at the real frontend of a running ComfyUI."""

import shutil

import pytest
import running_host
from frontend import QUIET, SETTINGS, ready
from playwright.sync_api import sync_playwright

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
]


@pytest.fixture(scope="session")
def chromium():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium was found")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def show(host, chromium):
    """A function that shows the frontend: ``show(vue=False, palette="dark")``. Pages are kept, one of each size."""
    pages = {}

    def show_one(vue=False, palette="dark", width=1100, height=1240):
        if (width, height) not in pages:
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(f"{error}\n{error.stack}"))
            page.goto(host.address)
            ready(page)
            pages[width, height] = page
        page = pages[width, height]
        page.evaluate(SETTINGS, {**QUIET, "Comfy.VueNodes.Enabled": vue, "Comfy.ColorPalette": palette})
        return page

    return show_one


@pytest.fixture
def open_page(show):
    """``show``, and errors of our scripts fail the test."""
    used = []

    def open_one(**kind):
        used.append(show(**kind))
        return used[-1]

    yield open_one
    for page in used:
        ours = [error for error in page.errors if "mixgrpo" in error.lower()]
        page.errors.clear()
        assert not ours, "\n".join(ours)


@pytest.fixture
def on_screen(open_page):
    """A function that shows the usual page on a screen of another size: ``on_screen(LAPTOP, vue=True)``."""
    used = {}

    def open_one(screen, **kind):
        page = open_page(**kind)
        used.setdefault(page, page.viewport_size)
        page.set_viewport_size(screen)
        return page

    yield open_one
    for page, size in used.items():
        page.set_viewport_size(size)


def pytest_addoption(parser):
    parser.addoption("--pictures", default=None, help="folder that the screenshots go to")


def pytest_configure(config):
    running_host.use(config)
