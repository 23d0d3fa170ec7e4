"""The real frontend in a headless browser, at a ComfyUI that can be one of its own."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from comfyui_host.process import Host, base_folder
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
CHROMIUM = "/usr/bin/chromium"
READY = "window.app?.graph && Object.keys(window.LiteGraph.registered_node_types).includes('MixGRPO_TrainLora')"


@contextmanager
def open_page(address: str = "", *, files: Iterable[str], voted: str = "") -> Iterator[Page]:
    """A page at ``address``, or at a ComfyUI that is started for it; :func:`show` fills it.

    That ComfyUI has ``files`` by name, and a run ``voted`` with votes, by its name, too.
    """
    with ExitStack() as stack:
        page = (
            stack.enter_context(sync_playwright())
            .chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            .new_page(viewport={"width": 1600, "height": 1000}, base_url=address or _own_host(stack, files, voted))
        )
        stack.callback(page.context.browser.close)
        yield page


def show(page: Page, *, vue: bool = False) -> None:
    """The frontend in one of the ways that it draws nodes, loaded anew: it keeps the values of nodes by their ids."""
    page.goto("/")
    page.wait_for_function(READY, timeout=120_000)
    page.evaluate("(vue) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue)", vue)


def place_files(models: Path, files: Iterable[str]) -> None:
    """Empty files, so that the loaders offer their names."""
    for name in files:
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).touch()


def place_voted(base: Path, name: str) -> None:
    """A run with a ballot, by their names, so that *Align on Votes* offers it."""
    place_files(base / "output" / "mixgrpo" / name, ["config.json", "votes/000000-000-00000000.json"])


def _own_host(stack: ExitStack, files: Iterable[str], voted: str) -> str:
    base = base_folder(Path(stack.enter_context(TemporaryDirectory())))
    place_files(base / "models", files)
    if voted:
        place_voted(base, voted)
    host = Host(ROOT / ".host" / "ComfyUI-0.30.0", base, python=sys.executable, environment={"OMP_NUM_THREADS": "1"})
    stack.callback(host.stop)
    return host.start().address
