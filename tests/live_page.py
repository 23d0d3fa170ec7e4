"""The live view on a page, and the server's events about it, as the tests make them up."""

import json

import pytest
from playwright.sync_api import expect

DASH = "\N{EN DASH}"
WORKFLOW = "7a0f3c52-7a1e-4a59-9c5c-0123456789ab"
NODE = 12
TELL = """([name, detail]) => {
  comfyAPI.api.api.dispatchEvent(new CustomEvent(`mixgrpo.${name}`, { detail }));
}"""
CHART = "() => app.graph.getNodeById(12).mixgrpo.view.parts[1].chart.data.map((column) => [...column])"
VOTING = """(former) => {
  const ballot = document.querySelector('.mg-ballot[data-mode="voting"]');
  const pictures = [...(ballot?.querySelectorAll(".mg-candidate img") ?? [])];
  const whole = pictures.length && pictures.every((picture) => picture.complete && picture.naturalWidth);
  return whole && ballot.dataset.ballot !== former && ballot.dataset.ballot;
}"""
LIGHT = """() => [...document.querySelectorAll(".mg-candidate img")].map((picture) => {
  const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight).getContext("2d");
  canvas.drawImage(picture, 0, 0);
  const { data } = canvas.getImageData(0, 0, picture.naturalWidth, picture.naturalHeight);
  return data.reduce((sum, value, index) => sum + (index % 4 < 3 ? value : 0), 0) / (data.length / 4) / 3 / 255;
})"""
RENDERINGS = pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])


def workflow(run=None, node=NODE, size=(520, 1100)):
    properties = {"mixgrpo_run": run} if run else {}
    made = {
        "id": node,
        "type": "MixGRPO_TrainLora",
        "pos": [80, 60],
        "size": list(size),
        "flags": {},
        "order": 0,
        "mode": 0,
    }
    made |= {"inputs": [], "outputs": [], "properties": properties}
    parts = {"nodes": [made], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}
    return {"id": WORKFLOW, "last_node_id": node, "last_link_id": 0, **parts}


def report(iteration, mean, *, held_out=None, **changes):
    evaluations = [{"iteration": iteration + 1, "rewards": {"taste": stats(held_out)}}] if held_out is not None else []
    update = {"steps": 4, "loss": -0.01, "clip_low": 0.05, "clip_high": 0.04, "kl": None, "ratio_first": 2e-6}
    update |= {"ratio_max": 2e-3, "grad_norm": 1.0, "ratio_noise": 2e-6, "recomputed": False} | changes.pop(
        "update", {}
    )
    made = {"iteration": iteration, "rewards": {"taste": stats(mean)}, "evaluations": evaluations, "update": update}
    made |= {"flat_groups": 0.1, "window": [0, 4], "nfe": {}, "seconds": {"rollout": 1.0, "train": 1.5}}
    return made | {"peak_memory": 3 << 30, "trajectory_bytes": 1, "failures": []} | changes


def stats(mean, spread=0.1):
    return {"mean": mean, "spread": spread, "valid": 24, "count": 24, "within_group": spread}


class View:
    """The live view of one trainer node, and the server's events about it."""

    def __init__(self, page, host, run):
        self.page, self.host, self.run, self.serial = page, host, run, 0
        self.element = page.locator(".mixgrpo-live")

    def tell(self, name, *, run=None, node=str(NODE), workflow=WORKFLOW, **data):
        self.serial += 1
        run = None if run is False else run or self.run  # False: it has none yet
        about = {"run": run, "node": node, "workflow": workflow, "serial": self.serial}
        self.page.evaluate(TELL, [name, {**about, **data}])

    def status(self, state, note="", pending=(), **about):
        self.tell("status", state=state, note=note, pending=list(pending), iterations=60, **about)

    def progress(self, iteration, phase="sampling", done=3, total=8, **about):
        times = {"seconds_per_iteration": 8.2, "seconds_left": 2460, "peak_memory": 11 << 30, "iterations": 60}
        self.tell("progress", iteration=iteration, phase=phase, done=done, total=total, **{**times, **about})

    def report(self, iteration, mean, **changes):
        times = {"seconds_per_iteration": 8.2, "seconds_left": 2460, "peak_memory": 11 << 30, "iterations": 60}
        diagnosis = changes.pop("diagnosis", None)
        self.tell("report", report=report(iteration, mean, **changes), diagnosis=diagnosis, **times)

    def says(self, place, words):
        expect(self.element.locator(f".mg-{place}")).to_have_text(words, timeout=10_000)

    def button(self, name):
        return self.element.locator(f"[data-command={name}]")

    def section(self, name):
        """The button that unfolds a section."""
        return self.element.locator(f"[data-section={name}]")

    def curve(self):
        """Columns of the chart: x, spread below and above, mean, smoothed, held-out."""
        self.page.wait_for_timeout(200)
        return self.page.evaluate(CHART)


def store(runs, name, lines, iterations=60, **settings):
    """Write a run's folder: settings, and ``lines`` of metrics."""
    (runs / name).mkdir()
    planner = "WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=5))"
    train = {"iterations": iterations, "steps": 16, "planner": planner, **settings}
    config = {"format": 1, "started": "2026-11-01T12:00:00+00:00", "train": train, "setup": {}}
    (runs / name / "config.json").write_text(json.dumps(config))
    (runs / name / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
