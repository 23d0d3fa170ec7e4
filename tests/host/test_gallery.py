"""The gallery on the canvas in this process: the node that trains, what it tells, and the LoRA that is kept."""

import asyncio
import re

import aiohttp.web
import folder_paths
import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer
from canvas import loaded, prompt_set, short_config
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_pack.nodes.live.board import Command, LiveRun, board
from mixgrpo_pack.nodes.live.gallery import gallery_of, gallery_payload
from mixgrpo_pack.nodes.live.routes import add_routes
from mixgrpo_pack.nodes.live.runs import stored
from mixgrpo_pack.nodes.sockets import Rewards, TrainerSettings
from mixgrpo_pack.nodes.training.fit_check import FitCheck
from mixgrpo_pack.nodes.training.trainer import TrainLora
from safetensors.torch import load_file
from server import PromptServer


class Ears:
    """Stands where the host's server stands and writes down what it is told to send."""

    def __init__(self):
        self.sent = []

    def send_sync(self, name, data, sid=None):
        self.sent.append((name, data))

    def named(self, name):
        return [data for told, data in self.sent if told == name]


class Queued(TrainLora):
    """The node as the host calls it."""

    class hidden:
        unique_id = "12"
        extra_pnginfo = None
        prompt = None


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    """A run of three iterations, told to stand-in ears, with pictures asked for in the second."""
    patch, output = pytest.MonkeyPatch(), tmp_path_factory.mktemp("output")
    ears = Ears()
    patch.setattr(folder_paths, "get_output_directory", lambda: str(output))
    patch.setattr(folder_paths, "get_temp_directory", lambda: str(output / "temp"))
    patch.setattr(PromptServer, "instance", ears, raising=False)
    before, report = TrainLora.fingerprint_inputs(run_name="run", start_from="none"), LiveRun.report

    def impatient(self, told):
        report(self, told)
        if told.iteration == 0:
            board.find("run").ask(Command.SAMPLE)

    patch.setattr(LiveRun, "report", impatient)
    summary = queue(*parts)[-1]
    yield output, ears, before, summary
    patch.undo()


def settings(**changes):
    small = {"iterations": 3, "eval_every": 0, "steps": 4, "images_per_prompt": 2, "prompts_per_iteration": 1}
    train = short_config(**small, updates=1, **changes)
    return TrainerSettings(train=train, width=64, height=64, rank=2, alpha=4, checkpointing=False)


def given():
    return Rewards(rewards={"shape": ShapeReward()}, weights={"shape": 1.0})


def queue(model, clip, vae):
    with torch.inference_mode():
        return Queued.execute(model, vae, prompt_set(clip), given(), settings(), "run", "none").result


def test_it_shows_the_start_what_was_asked_for_and_the_end(trained):
    output, ears, _, _ = trained
    entries = stored(output / "mixgrpo" / "run")["gallery"]["entries"]
    assert [(entry["iteration"], entry["asked"]) for entry in entries] == [(0, False), (1, True), (3, False)]
    first = entries[0]["pictures"][0]
    assert first == {"filename": "1.png", "subfolder": "mixgrpo/run/gallery/000000", "type": "output"}
    told = ears.named("mixgrpo.gallery")
    assert [data["new"] for data in told] == [0, 1, 3]
    assert [len(data["entries"]) for data in told] == [1, 2, 3] and told[-1]["bytes"] > 3 * 20_000
    assert {"picturing"} <= {data["phase"] for data in ears.named("mixgrpo.progress")}
    waits = [data["pending"] for data in ears.named("mixgrpo.status")]
    assert ["sample"] in waits and waits[-1] == [], "it waits for the end of the iteration, and no longer"


def test_how_long_it_takes_is_said_before_it_begins_and_then_known(trained):
    _, ears, _, _ = trained
    loading = next(data for data in ears.named("mixgrpo.status") if data["state"] == "loading")
    assert re.fullmatch(r"This run will take about .* \(3 iterations of .*\), by one timed step\.", loading["note"])
    progress = ears.named("mixgrpo.progress")
    assert progress[0]["seconds_left"] > 0 and progress[0]["note"] == loading["note"]
    assert {data["note"] for data in progress if data["iteration"] == 2} == {""}


def test_one_that_is_kept_is_given_out_when_the_node_is_queued_again(parts, trained):
    output, ears, before, summary = trained
    last, kept = (output / "loras" / "mixgrpo" / f"run-{name}.safetensors" for name in ("last", "kept"))
    assert f"LoRA: {last}\n" in summary
    asked = TrainLora.fingerprint_inputs(run_name="run", start_from="none")
    assert asked == before, "nothing has changed"
    answers = asyncio.run(posted("run", {"iteration": 1}))
    assert answers[0] == 200 and answers[1]["kept"] == 1
    assert TrainLora.fingerprint_inputs(run_name="run", start_from="none") != asked
    told = len(ears.named("mixgrpo.report"))
    _, lora, *_, words = queue(*parts)
    expected = load_file(gallery_of(output / "mixgrpo" / "run").lora(1))
    assert all(torch.equal(lora[name], tensor) for name, tensor in expected.items())
    assert f"LoRA (of iteration 1, which was kept): {kept}\nLoRA of the last iteration: {last}\n" in words
    assert len(ears.named("mixgrpo.report")) == told, "nothing is trained for it"
    assert asyncio.run(posted("run", {"iteration": None}))[1]["kept"] is None
    _, lora, *_, words = queue(*parts)
    assert (
        all(torch.equal(lora[name], tensor) for name, tensor in load_file(last).items()) and f"LoRA: {last}\n" in words
    )


async def posted(run, body):
    routes, app = aiohttp.web.RouteTableDef(), aiohttp.web.Application()
    add_routes(routes)
    app.add_routes(routes)
    async with TestClient(TestServer(app)) as client:
        answer = await client.post(f"/mixgrpo/runs/{run}/keep", json=body)
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("run", "body", "status", "sentence"),
    [
        ("run", {}, 400, "Expected"),
        ("run", {"iteration": "1"}, 400, "Expected"),
        ("run", {"iteration": True}, 400, "Expected"),
        ("run", {"iteration": 2}, 409, "has no iteration 2: it has 0, 1, 3."),
        ("none", {"iteration": 1}, 404, "There is no run named 'none'"),
    ],
)
def test_what_cannot_be_kept_is_a_sentence(trained, run, body, status, sentence):
    found = asyncio.run(posted(run, body))
    assert found[0] == status and sentence in found[1]["error"]


def test_a_kept_file_that_is_none_is_said_and_hides_nothing(trained):
    output = trained[0]
    path = output / "loras" / "mixgrpo" / "run-kept.safetensors"
    path.write_bytes(b"of somebody else")
    told = gallery_payload(output / "mixgrpo" / "run")
    assert len(told["entries"]) == 3 and "is not the LoRA of an iteration" in told["problem"]
    path.unlink()


def test_fit_check_says_what_the_whole_run_takes_in_the_same_words(parts, trained):
    model, clip, vae = parts
    with torch.inference_mode():
        (text,) = FitCheck.execute(model, vae, prompt_set(clip), given(), settings()).result
    assert re.search(
        r"\nThis run will take about [\d.]+ s \(3 iterations of [\d.]+ s\), by what was measured now\.\n", text
    )
    assert "0.0 h" not in text
