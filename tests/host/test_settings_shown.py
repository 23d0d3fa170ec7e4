"""What the widgets of Trainer Settings show: the values that the settings come to, by the function that makes them."""

import asyncio
import json
import shutil
from dataclasses import replace

import comfy.sd
import folder_paths
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from mixgrpo_pack.nodes.demo import ASSETS
from mixgrpo_pack.nodes.host.family import require_flow_model
from mixgrpo_pack.nodes.host.model_file import family_of_file
from mixgrpo_pack.nodes.live.routes import LARGEST_QUESTION, post_question
from mixgrpo_pack.nodes.settings.inputs import BY_HAND, GROUP, GUARDS, detail_inputs
from mixgrpo_pack.nodes.settings.presets import PRESETS
from mixgrpo_pack.nodes.settings.shown import answer, shown, usual
from mixgrpo_pack.nodes.settings.trainer_settings import TrainerSettingsNode
from safetensors.torch import save_file
from tiny_models import tiny

DETAILS = {item.id for item in detail_inputs()}
SD35 = {"preset": "MixGRPO", "model_family": "SD3.5", "memory": "24 GB"}
NOWHERE = {"family": None, "window": False}


def settings(**values):
    details = {name: value for name, value in values.items() if name in DETAILS}
    rest = {name: value for name, value in values.items() if name not in DETAILS}
    return TrainerSettingsNode.execute(**rest, details={"details": BY_HAND, **details}).args[0]


@pytest.mark.parametrize(
    "preset, family, memory",
    [
        ("MixGRPO-Flash", "FLUX.1-dev", "plenty"),
        ("MixGRPO", "SD3.5", "16 GB"),
        ("Flow-GRPO", "Qwen-Image", "8 GB"),
        ("Flow-GRPO-Fast", "distilled, 4-8 steps", "12 GB"),
        ("DanceGRPO", "other flow model", "24 GB"),
        ("Demo", "demo", "plenty"),
    ],
)
def test_what_is_shown_set_by_hand_is_the_same_training(preset, family, memory):
    """Every number and choice that a widget shows is the one that the run has."""
    choices = {"preset": preset, "model_family": family, "memory": memory}
    values = shown(choices, **NOWHERE)["values"]
    by_hand = {name: value for name, value in values.items() if value is not None}
    assert len(by_hand) > 30
    made = settings(**choices, **by_hand)
    wanted = settings(**choices)
    seen = replace(made.train, eval_steps=wanted.train.eval_steps)
    assert replace(made, train=seen) == replace(wanted, train=replace(wanted.train, updates=wanted.train.update_count))


def test_the_published_numbers_are_shown():
    values = shown(SD35, **NOWHERE)["values"]
    assert (values["steps"], values["width"], values["cfg"], values["kl"], values["ema"]) == (10, 512, 4.5, 1e-3, 0.99)
    assert (values["rank"], values["alpha"], values["images_per_prompt"]) == (32, 64, 12)
    fixed = shown({**SD35, "step_size": "fixed"}, **NOWHERE)["values"]
    assert (fixed["learning_rate"], fixed["updates"], fixed["step_size"]) == (3e-4, 1, "fixed")
    assert (values["kernel"], values["objective"], values["shared_noise"]) == ("Flow-SDE", "GRPO", "on")
    assert shown({**SD35, "rank": 5}, **NOWHERE)["values"]["alpha"] == 10, "what follows from it changes, too"
    assert usual({**SD35, "rank": 5}, **NOWHERE)["alpha"] == 64, "and would be this without it"
    stopping = shown({**SD35, "guards": "stop"}, **NOWHERE)["values"]["guards"]
    assert stopping == "stop" and stopping in GUARDS


def test_what_has_no_number_says_why():
    found = shown({**SD35, "preset": "Flow-GRPO"}, **NOWHERE)
    notes = found["notes"]
    assert notes["shift"] == "the model's" and notes["clip"] == "by size" and notes["tail_ratio"] == "no window"
    assert {name for name, value in found["values"].items() if value is None} == notes.keys()
    nft = shown({**SD35, "objective": "DiffusionNFT", "cfg": 1.0}, **NOWHERE)
    assert nft["notes"]["clip"] == nft["notes"]["guidance"] == "none here"


def test_a_step_that_sets_itself_has_no_rate_and_shows_its_updates():
    own = shown(SD35, **NOWHERE)
    assert own["values"] == shown({**SD35, "step_size": "sets itself"}, **NOWHERE)["values"]
    assert own["values"]["learning_rate"] is None and own["notes"]["learning_rate"] == "sets itself"
    assert (own["values"]["updates"], own["values"]["step_size"]) == (8, "sets itself")


def test_with_auto_only_what_all_models_have_is_a_number():
    auto = {**SD35, "model_family": "auto"}
    found = shown(auto, **NOWHERE)
    assert (found["values"]["rank"], found["values"]["iterations"], found["values"]["steps"]) == (32, 300, None)
    assert found["notes"]["steps"] == "the model's"
    assert shown({**auto, "steps": 12}, **NOWHERE)["values"]["steps"] == 12
    demo = shown(auto, family="demo", window=False)["values"]
    assert demo == shown({**SD35, "model_family": "demo"}, **NOWHERE)["values"]
    assert shown({**auto, "preset": "Demo"}, **NOWHERE)["values"]["width"] == 64


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Models in the host's folders, as its loaders find them."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", ([str(tmp_path)], {".safetensors"}))
    flux = {"hidden_size": 128, "num_heads": 1, "axes_dim": [16, 56, 56], "in_channels": 16, "out_channels": 16}
    made = {
        "flux1-dev": tiny("FLUX.1 dev", **flux),
        "flux1-schnell": tiny("FLUX.1 schnell", **flux),
        "sd3.5_medium": tiny("SD3.5 medium"),
    }
    for name, one in made.items():
        save_file(one.model.diffusion_model.state_dict(), tmp_path / f"{name}.safetensors")
    shutil.copy(ASSETS / "transformer" / "diffusion_pytorch_model.safetensors", tmp_path / "demo.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    return tmp_path


def test_a_file_tells_what_the_loaded_model_will_be(files):
    for name in ("flux1-dev", "flux1-schnell", "sd3.5_medium", "demo"):
        told = family_of_file("UNETLoader", f"{name}.safetensors")
        assert told == require_flow_model(comfy.sd.load_diffusion_model(str(files / f"{name}.safetensors"))), name
    for file in ("broken.safetensors", "other.safetensors", "gone.safetensors", "../broken.safetensors"):
        assert family_of_file("UNETLoader", file) is None
    assert family_of_file("LoaderOfOthers", "flux1-dev.safetensors") is None


def test_with_auto_the_connected_loaders_file_gives_the_numbers(files):
    def told(file, loader="UNETLoader"):
        return answer({"values": {**SD35, "model_family": "auto"}, "loader": loader, "file": f"{file}.safetensors"})

    assert told("flux1-dev")["values"] == shown({**SD35, "model_family": "FLUX.1-dev"}, **NOWHERE)["values"]
    assert told("flux1-schnell")["values"]["steps"] == 6
    assert told("", "MixGRPO_DemoModel")["values"]["width"] == 64
    flux = {"loader": "UNETLoader", "file": "flux1-dev.safetensors"}
    assert "and the MODEL is FLUX.1-dev: set model_family to auto" in answer({"values": SD35, **flux})["error"]
    assert answer({"values": {**SD35, "model_family": "FLUX.1-dev"}, **flux})["error"] == ""
    large = answer({"values": {**SD35, "width": 512}, "loader": "UNETLoader", "file": "sd3.5_medium.safetensors"})
    assert "width and height are multiples of 16 up to 128" in large["error"]
    assert told("broken")["family"] == "" and told("broken")["values"]["steps"] is None


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_shown(preset):
    family = "demo" if preset == "Demo" else "SD3.5"
    found = shown({"preset": preset, "model_family": family, "memory": "24 GB"}, **NOWHERE)
    json.dumps(found, allow_nan=False)
    assert found["values"]["steps"] >= 4


def test_every_detail_stands_in_a_group():
    groups = [item.as_dict()[GROUP] for item in detail_inputs()]
    assert list(dict.fromkeys(groups)) == ["image", "sampling", "learning", "batches", "watching, saving"]
    assert max(groups.count(name) for name in groups) <= 11, "one open group keeps the node lower than a screen"


def ask(body):
    async def go():
        app = web.Application()
        app.router.add_post("/mixgrpo/settings", post_question(answer))
        async with TestClient(TestServer(app)) as client:
            said = await client.post("/mixgrpo/settings", data=body)
            return said.status, await said.json()

    return asyncio.run(go())


def test_the_page_asks_over_http():
    status, said = ask(json.dumps({"values": SD35}))
    assert status == 200 and said["values"]["steps"] == 10 and said["error"] == ""
    status, said = ask(json.dumps({"values": {**SD35, "width": 100}}))
    assert status == 200 and "width must be a multiple of 16" in said["error"] and said["usual"]["width"] == 512
    window = {"values": {**SD35, "preset": "Flow-GRPO", "tail_ratio": 0.5}, "window": True}
    assert ask(json.dumps(window))[1]["values"]["tail_ratio"] == 0.5


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"\xff",
        b"[" * 10_000,
        b'{"values": 3}',
        b'{"values": {"rank": "many"}}',
        b'{"values": null}',
    ],
)
def test_what_is_no_question_is_answered_in_a_sentence(body):
    status, said = ask(body)
    assert status in (200, 400) and said["error"]
    assert ask(b" " * (LARGEST_QUESTION + 1))[0] == 413


@pytest.mark.parametrize("value", [[], {}, None, True, "2", 1e400, -5, [1] * 3])
@pytest.mark.parametrize("name", ["rank", "kernel", "more_settings", "preset", "seed"])
def test_values_that_no_widget_holds_do_no_harm(name, value):
    assert ask(json.dumps({"values": {**SD35, name: value}}))[0] in (200, 400)
