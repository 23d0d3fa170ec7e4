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
def pages(host, chromium):
    """Pages that are open, by how they draw nodes and how large they are: opening one takes 10 s and more."""
    return {}


@pytest.fixture
def open_page(host, chromium, pages):
    """A function that shows the frontend: ``open_page(vue=False, palette="dark")``; errors of our scripts fail."""
    used = []

    def open_one(vue=False, palette="dark", width=1100, height=1240):
        key = (width, height)
        if key not in pages:
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(f"{error}\n{error.stack}"))
            page.goto(host.address)
            ready(page)
            pages[key] = page
        page = pages[key]
        page.errors.clear()
        page.evaluate(SETTINGS, {**QUIET, "Comfy.VueNodes.Enabled": vue, "Comfy.ColorPalette": palette})
        used.append(page)
        return page

    yield open_one
    for page in used:
        ours = [error for error in page.errors if "mixgrpo" in error.lower()]
        assert not ours, "\n".join(ours)


def pytest_addoption(parser):
    parser.addoption("--pictures", default=None, help="folder that the screenshots go to")


def pytest_configure(config):
    running_host.use(config)
