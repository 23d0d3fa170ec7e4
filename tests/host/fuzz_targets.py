"""What is fuzzed in ComfyUI's Python: the live view's routes over real connections, and Convert LoRA."""

import asyncio
import json
import logging
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import aiohttp.web
import folder_paths
import numpy as np
import torch
from campaigns import mutations
from mixgrpo_pack.mixgrpo_core import RunFolder, TrainConfig
from mixgrpo_pack.mixgrpo_core.models.lora_reading import plain
from mixgrpo_pack.mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_pack.mixgrpo_core.rewards.people.voting import Thumbs
from mixgrpo_pack.mixgrpo_core.training.pace import Pace
from mixgrpo_pack.mixgrpo_core.training.workload import Workload
from mixgrpo_pack.nodes.host.lora_layouts import LAYOUTS
from mixgrpo_pack.nodes.live import LiveRun
from mixgrpo_pack.nodes.live.routes import add_routes
from mixgrpo_pack.nodes.loras.files import ConvertLora, laid_out
from safetensors.torch import save

REPORT = {
    "iteration": 0,
    "rewards": {"taste": {"mean": 0.5, "spread": None, "valid": 4, "count": 4}},
    "evaluations": [],
    "update": {"steps": 1, "ratio_first": 0.0},
    "flat_groups": 0.25,
    "window": [0, 2],
    "sigmas": [1.0, 0.5, 0.0],
    "nfe": {"rollout": 8.0},
    "seconds": {"rollout": 1.0},
    "peak_memory": 3,
    "trajectory_bytes": 10,
    "failures": [],
}
CONFIG = TrainConfig(iterations=7, steps=8)
PATHS = (
    ("GET", "/mixgrpo/live"),
    ("GET", "/mixgrpo/runs/{run}"),
    ("POST", "/mixgrpo/runs/{run}/command"),
    ("POST", "/mixgrpo/runs/{run}/keep"),
    ("GET", "/mixgrpo/runs/{run}/ballots/{ballot}"),
    ("POST", "/mixgrpo/runs/{run}/ballots/{ballot}/votes"),
)
BODIES = (
    {"command": "sample"},
    {"command": "stop"},
    {"iteration": 3},
    {"votes": {"0": 1, "3": None}, "end": "done"},
    {"votes": {"1": -1}, "end": None},
)
ALLOWED = {200, 400, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 431, 501, 505}
NAMES = (
    "..",
    "%2e%2e",
    "..%2f..%2fetc",
    "%00",
    "a" * 5000,
    "%ff",
    "old%2f..",
    "old%2fvotes",
    "a%2fb",
    "nobody",
    "-",
    "%E2%80%AE",
    "old?x=1#y",
)


class Heard(logging.Handler):
    """The errors that a server writes down instead of answering."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.errors = []

    def emit(self, record):
        self.errors.append(self.format(record))


class Routes:
    """Mutated requests, and run folders that are damaged, over real connections."""

    told = ()

    def __init__(self, folder):
        self.runs = folder / "mixgrpo"
        run = RunFolder.create(self.runs / "old", CONFIG)
        lines = [json.dumps({**REPORT, "iteration": number}) + "\n" for number in range(3)]
        (run.path / "metrics.jsonl").write_text("".join(lines))
        pictures = [np.full((4, 4, 3), level, np.uint8) for level in (0, 80, 160, 240)]
        box = BallotBox(run.path / "votes")
        self.ballot = box.opened(pictures, "a red circle", Thumbs(), iteration=2, group=0, seconds=600.0).id

    def open(self):
        self.heard, started = Heard(), threading.Event()
        self.work = ThreadPoolExecutor(1)
        logging.getLogger().addHandler(self.heard)

        def serve():
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            routes, app = aiohttp.web.RouteTableDef(), aiohttp.web.Application()
            add_routes(routes)
            app.add_routes(routes)
            loop.set_default_executor(self.work)
            runner = aiohttp.web.AppRunner(app)
            loop.run_until_complete(runner.setup())
            site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
            loop.run_until_complete(site.start())
            self.port = site._server.sockets[0].getsockname()[1]
            started.set()
            loop.run_forever()

        threading.Thread(target=serve, daemon=True).start()
        assert started.wait(30)
        live = {"folder": self.runs / "old", "iterations": 7, "plan_of": CONFIG.plan, "sigmas": CONFIG.sigmas()}
        LiveRun(run="live", node="12", pace=Pace(Workload(CONFIG)), **live).__enter__()

    def write(self, folder, chance):
        shutil.copytree(self.runs, folder / "output" / "mixgrpo")
        shutil.copytree(self.runs / "old", folder / "output" / "mixgrpo" / "live")
        if chance.random() < 0.4:
            self._harm(folder / "output" / "mixgrpo" / "old", chance)
        (folder / "request").write_bytes(self._request(chance))

    def _harm(self, run, chance):
        path = chance.choice(sorted(path for path in run.rglob("*.json*") if path.is_file()))
        given = path.read_text()
        if path.suffix == ".json" and chance.random() < 0.7:
            new = mutations.dumps(mutations.value(chance, json.loads(given))).encode()
        else:
            new = mutations.encoded(chance, mutations.text(chance, given))
        path.unlink()
        if chance.random() < 0.95:
            path.write_bytes(new)
        elif chance.random() < 0.5:
            path.mkdir()

    def _request(self, chance):
        method, path = chance.choice(PATHS)
        run = chance.choice(("old", "old", "live", *NAMES)) if chance.random() < 0.5 else "old"
        ballot = chance.choice((self.ballot, *NAMES)) if chance.random() < 0.3 else self.ballot
        path = path.format(run=run, ballot=ballot)
        body = chance.choice(BODIES)
        body = mutations.dumps(mutations.value(chance, body) if chance.random() < 0.6 else body)
        body = mutations.encoded(chance, mutations.text(chance, body)) if chance.random() < 0.3 else body.encode()
        if chance.random() < 0.05:
            body *= chance.choice((10, 1000))
        length = chance.choice((0, -1, len(body) + 5, 2**40)) if chance.random() < 0.05 else len(body)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        )
        if chance.random() < 0.1:
            head = mutations.text(chance, head)
        return (head + "Connection: close\r\n\r\n").encode("utf-8", "replace") + body

    def take(self, folder):
        folder_paths.output_directory = str(folder / "output")
        folder_paths.temp_directory = str(folder / "temp")
        self.heard.errors.clear()
        answer = self._sent((folder / "request").read_bytes())
        self.work.submit(int).result()  # work for a client that hung up belongs to this case, too
        if not answer:
            return "hung up"
        status = int(answer.split(b" ", 2)[1])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status in ALLOWED, f"{status}: {body[:500]} {self.heard.errors}"
        if b"application/json" in head:
            found = json.loads(body, parse_constant=_no_json)
            assert status == 200 or len(found["error"]) < 9_000, f"{len(found['error'])} characters"
            assert len(body) < 1 << 20, f"an answer of {len(body)} bytes"
        return f"{status}"

    def _sent(self, request):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            answer = b""
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(1 << 16):
                    answer += piece
            except OSError:  # it had heard enough
                pass
            return answer


def _no_json(word):
    raise AssertionError(f"{word} is no JSON")


class Conversions:
    """Mutated LoRA files for Convert LoRA."""

    told = (ValueError, OSError)

    def __init__(self, model, state):
        self.model = model
        self.seeds = [save(dict(state), {"format": "pt"}), save({**state, "alpha": torch.tensor(1.0)})]
        self.seeds += [save(self._in(state, layout)) for layout in LAYOUTS]

    def _in(self, state, layout):
        made = laid_out(plain(state, {}, "the seed"), self.model, layout)
        return {name: tensor.contiguous().clone() for name, tensor in made.items()}

    def write(self, folder, chance):
        (folder / "loras").mkdir()
        data = mutations.safetensors(chance, chance.choice(self.seeds))
        (folder / "loras" / f"lora{chance.choice(('.safetensors',) * 5 + ('.sft',))}").write_bytes(data)
        (folder / "layout").write_text(chance.choice(sorted(LAYOUTS)))

    def take(self, folder):
        (path,) = (folder / "loras").iterdir()
        folder_paths.folder_names_and_paths["loras"] = ([str(folder / "loras")], {".safetensors", ".sft"})
        folder_paths.output_directory = str(folder)
        folder_paths.filename_list_cache.clear()
        clone = ConvertLora.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
        with torch.inference_mode():
            made = clone.execute(path.name, self.model, (folder / "layout").read_text(), "made").args[0]
        assert all(bool(tensor.isfinite().all()) for tensor in made.values()), "numbers that are none"
        return f"{len(made)} tensors"
