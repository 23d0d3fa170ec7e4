"""The family of models that settings are for: read from the MODEL, compared with it, and sizes that it can take."""

from dataclasses import replace

import pytest
import torch
from canvas import loaded
from mixgrpo_pack.mixgrpo_core.models.facts import FACTS as FAMILIES
from mixgrpo_pack.nodes.host.family import require_flow_model
from mixgrpo_pack.nodes.sampling.window_plan import WindowPlan
from mixgrpo_pack.nodes.settings.model_family import FEW_STEPS, OTHER, for_model
from mixgrpo_pack.nodes.settings.trainer_settings import TrainerSettingsNode
from mixgrpo_pack.nodes.sockets import OpenSettings
from tiny_models import FAMILIES as TINY
from tiny_models import tiny

FOUND = {
    "SD3": "SD3.5",
    "SD3.5 medium": "SD3.5",
    "FLUX.1 dev": "FLUX.1-dev",
    "FLUX.1 schnell": FEW_STEPS,
    "FLUX.2": "FLUX.2",
    "Chroma": "Chroma",
    "Z-Image": "Z-Image",
    "Lumina 2": OTHER,
    "Qwen-Image": "Qwen-Image",
    "HiDream": OTHER,
    "AuraFlow": OTHER,
    "Krea 2": OTHER,
    "SDXL": "SDXL",
    "SD 1.5": "SD 1.5",
    "Ernie-Image": OTHER,
}
"""The family of each tiny model, whose file has a name that says nothing."""
TAKE = {"SD3": 128, "SD3.5 medium": 128}
"""Pixels at which the tiny models' position embeddings end."""


@pytest.fixture(scope="module")
def parts():
    return {name: tiny(name) for name in TINY}


@pytest.fixture(scope="module")
def models(parts):
    return {name: part.patcher for name, part in parts.items()}


def named(patcher, file="model.safetensors"):
    """The model as a loader of the host hands it on, which remembers the file."""
    found = patcher.clone()
    found.cached_patcher_init = (None, (f"/models/{file}", {}))
    return found


def node(**values):
    given = {"preset": "MixGRPO", "model_family": "auto", "memory": "24 GB", "details": {"details": "from preset"}}
    given |= values
    return TrainerSettingsNode.execute(**given).args


def by_hand(**details):
    return {"details": "set by hand", **details}


def small(**values):
    """A size that the tiny models take."""
    return node(**values, details=by_hand(width=64, height=64))[0]


@pytest.mark.parametrize("name", FOUND)
def test_auto_finds_the_family_of_every_model_of_the_host(models, name):
    found = for_model(small(), named(models[name]))
    assert found == small(model_family=FOUND[name]), "as if it had been chosen"


def test_auto_is_told_by_all_families_and_the_demo_is_one():
    assert {*FOUND} == {*TINY}
    demo = loaded()[0]
    assert for_model(node()[0], demo) == for_model(node(model_family="demo")[0], demo)
    assert {*FOUND.values(), "demo"} == {*FAMILIES}


@pytest.mark.parametrize(
    "name, file, family",
    [
        ("SD3.5 medium", "sd3.5_large_turbo.safetensors", FEW_STEPS),
        ("SD3.5 medium", "sd3.5_large.safetensors", "SD3.5"),
        ("Z-Image", "z_image_turbo_bf16.safetensors", FEW_STEPS),
        ("Z-Image", "z_image_bf16.safetensors", "Z-Image"),
        ("Qwen-Image", "Qwen-Image-Lightning-8steps-V1.1.safetensors", FEW_STEPS),
        ("Qwen-Image", "qwen_image_fp8_e4m3fn.safetensors", "Qwen-Image"),
        ("Chroma", "Chroma1-HD-Flash.safetensors", FEW_STEPS),
        ("HiDream", "hidream_i1_fast_fp8.safetensors", FEW_STEPS),
        ("HiDream", "hidream_i1_full_fp16.safetensors", OTHER),
        ("FLUX.1 dev", "flux1-dev-fp8_e4m3fn_fast.safetensors", "FLUX.1-dev"),
    ],
)
def test_whether_it_is_distilled_is_read_from_the_name_of_the_file(models, name, file, family):
    assert for_model(small(), named(models[name], file)).family == family


def test_what_nothing_tells_apart_is_asked(models):
    with pytest.raises(ValueError, match=r"the MODEL is Z-Image-Turbo or Z-Image.*set model_family to"):
        for_model(small(), models["Z-Image"])
    klein = tiny("FLUX.2", guidance_embed=False).patcher
    with pytest.raises(ValueError, match=r"FLUX.2 klein or its base model.*'other flow model'"):
        for_model(small(), klein)
    assert for_model(small(), named(klein, "flux-2-klein-base-4b.safetensors")).family == OTHER
    assert for_model(small(), named(klein, "flux-2-klein-4b.safetensors")).family == FEW_STEPS
    assert for_model(small(model_family="Z-Image"), models["Z-Image"]).family == "Z-Image"


@pytest.mark.parametrize("name", FOUND)
def test_a_family_that_the_model_is_not_of_is_refused(models, name):
    fits = {FOUND[name], OTHER, FEW_STEPS}
    for family in FAMILIES:
        settings = small(model_family=family)
        if family in fits:
            assert for_model(settings, models[name]) == settings
            continue
        with pytest.raises(
            ValueError, match=f"settings are for {family}, and the MODEL is .*: set model_family to auto"
        ):
            for_model(settings, models[name])


def test_the_demo_model_is_trained_as_itself():
    demo = loaded()[0]
    for family in ("FLUX.1-dev", "SD3.5", FEW_STEPS):
        with pytest.raises(ValueError, match="and the MODEL is the demo model"):
            for_model(node(model_family=family)[0], demo)
    assert for_model(small(model_family=OTHER), demo).cfg == 3.5


@pytest.mark.parametrize("name", FOUND)
def test_sizes_that_a_model_refuses_are_refused_by_name_and_others_run(parts, name):
    """The network itself is asked: what it takes and what not."""
    part = parts[name]
    about = require_flow_model(part.patcher)
    unit = about.pixels * about.patch
    for width, height in ((unit, unit), (unit * 9, unit * 2), (unit * 2, unit * 9)):
        shape = (*part.x.shape[:-2], height // about.pixels, width // about.pixels)
        big = replace(part, x=torch.zeros(shape))
        if max(width, height) <= TAKE.get(name, 10_000):
            assert about.latent_shape(width, height)[-2:] == shape[-2:]
            assert big.velocity().shape == shape
            continue
        with pytest.raises(AssertionError):
            big.velocity()
        with pytest.raises(ValueError, match=f"width and height are multiples of {unit} up to 128, found {width} x"):
            about.latent_shape(width, height)
    with pytest.raises(ValueError, match=f"multiples of {unit}.*found {unit + 1} x {unit}: take {unit} x {unit}"):
        about.latent_shape(unit + 1, unit)


def test_a_size_that_the_model_can_not_make_is_refused_before_work(models):
    refused = "width and height are multiples of 16 up to 128, found 720 x 64: take 128 x 64"
    with pytest.raises(ValueError, match=refused):
        for_model(node(details=by_hand(width=720, height=64))[0], named(models["SD3"]))
    with pytest.raises(ValueError, match=refused):
        for_model(node(model_family="SD3.5", details=by_hand(width=720, height=64))[0], named(models["SD3"]))


def test_with_auto_what_no_family_takes_is_refused_at_once():
    def said(**values):
        given = {"preset": "MixGRPO", "model_family": "auto", "memory": "24 GB", "details": by_hand(), **values}
        return TrainerSettingsNode.validate_inputs(**given)

    assert "at least 2" in said(images_per_prompt=1)
    assert "multiple of 16" in said(details=by_hand(width=100))
    assert "1 (off) or more" in said(details=by_hand(cfg=0.5))
    assert "line 1 of more_settings" in said(more_settings="credit = 5")
    assert said(details=by_hand(cfg=4.0)) is True, "some families take it"
    with pytest.raises(ValueError, match="FLUX.1-dev has its guidance distilled"):
        for_model(node(details=by_hand(cfg=4.0))[0], tiny("FLUX.1 dev").patcher)


def test_the_summary_says_what_is_known_before_the_model_is():
    settings, text = node()
    assert isinstance(settings, OpenSettings)
    assert "on the family that is read from the MODEL" in text and "FlowSDE" not in text
    assert "size as the model's family has it, steps as the model's family has it, the model's own grid" in text
    assert "LoRA of rank 32" not in text, "the demo model's is another"
    assert "512 x 512 pixels" in node(details=by_hand(width=512, height=512))[1]
    settings, text = node(preset="Demo")
    assert settings.family == "demo" and "Demo on demo" in text and "64 x 64 pixels" in text


def test_a_preset_of_the_demo_is_for_the_demo_model(models):
    with pytest.raises(ValueError, match="the settings are for demo, and the MODEL is SD3.5"):
        for_model(node(preset="Demo")[0], named(models["SD3"]))


def test_a_window_plan_reads_the_family_from_its_model_too(monkeypatch):
    numbers = {"steps": 25, "iterations": 3, "images_per_prompt": 2, "prompts_per_iteration": 1}
    numbers |= {"tail_ratio": 1.0, "shift": 3.0}
    open_settings = node(iterations=2)[0]
    with pytest.raises(ValueError, match="read the model family from the MODEL, and none is connected"):
        WindowPlan.execute(**numbers, settings=open_settings)
    with pytest.raises(ValueError, match="and the MODEL is the demo model"):
        WindowPlan.execute(**numbers, settings=node(model_family="FLUX.1-dev")[0], model=loaded()[0])
    read = WindowPlan.execute(**numbers, settings=open_settings, model=loaded()[0]).args[1]
    assert read == WindowPlan.execute(**numbers, settings=node(model_family="demo", iterations=2)[0]).args[1]
