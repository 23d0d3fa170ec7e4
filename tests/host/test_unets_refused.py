"""UNets that are no flows as they are, in one sentence; and the settings of those that are."""

import comfy.model_patcher
import comfy.model_sampling as sampling
import comfy.supported_models as host
import pytest
import tiny_unets
import torch
from mixgrpo_pack.nodes.host.family import require_flow_model
from mixgrpo_pack.nodes.settings.build import build
from mixgrpo_pack.nodes.settings.model_family import family_of, for_model
from mixgrpo_pack.nodes.settings.presets import AUTO
from tiny_unets import SD1, SDXL

CPU = torch.device("cpu")


def made(pipeline=SDXL, config=None, **changes):
    """A MODEL without weights."""
    config = (config or (host.SDXL if pipeline == SDXL else host.SD15))({**tiny_unets.of_host(pipeline), **changes})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=torch.device("meta"))
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def sampled_by(model, *kinds, **settings):
    """The MODEL with another sampling, as the host's nodes set it."""
    model.add_object_patch("model_sampling", type("ModelSampling", kinds, {})(model.model.model_config, **settings))
    return model


def test_inpainting_and_the_refiner_are_told():
    with pytest.raises(ValueError, match="from noise alone, found SD15, which takes 9 channels for the 4"):
        require_flow_model(made(SD1, in_channels=9))
    with pytest.raises(ValueError, match="found SDXL's refiner: load the base model"):
        require_flow_model(made(config=host.SDXLRefiner))


def test_other_samplings_are_told():
    with pytest.raises(ValueError, match=r"trained down|sampled from pure noise \(zsnr\), found SDXL with noise pred"):
        require_flow_model(sampled_by(made(), sampling.ModelSamplingDiscrete, sampling.EPS, zsnr=True))
    for kinds in (
        (sampling.ModelSamplingDiscrete, sampling.X0),
        (sampling.ModelSamplingContinuousEDM, sampling.V_PREDICTION),
        (sampling.ModelSamplingDiscreteEDM, sampling.EDM),
    ):
        with pytest.raises(ValueError, match=r"UNets of noise or v-prediction .*found SDXL, which is none"):
            require_flow_model(sampled_by(made(), *kinds))
    both = sampled_by(made(), sampling.ModelSamplingDiscrete, sampling.V_PREDICTION, zsnr=True)
    assert require_flow_model(both).grid(4)[0] > 0.999


def test_its_settings_are_those_of_its_family():
    values = {"preset": "MixGRPO", "model_family": AUTO, "memory": "48 GB"}
    for pipeline, name, side, cfg in ((SDXL, "SDXL", 1024, 5.0), (SD1, "SD 1.5", 512, 7.0)):
        about = require_flow_model(made(pipeline))
        assert family_of(about) == name
        found = build(values, None, name)
        assert (found.width, found.height, found.cfg, found.train.steps) == (side, side, cfg, 20)
        assert found.model_shift
        assert float(about.grid(20)[0]) == pytest.approx(0.9360, abs=1e-3)
    shifted = build({**values, "shift": 3.0}, None, "SDXL")
    with pytest.raises(ValueError, match=r"expected shift 0, the model's own grid, found 3: SDXL has noise levels"):
        for_model(shifted, made())
