"""MODELs that the host would compute in float16: the gradient is that of float32."""

import comfy.model_management
import comfy.sd
import pytest
import torch
from canvas import loaded, policy
from comfy.patcher_extension import WrappersMP
from gradient_checks import ordinary, training, with_lora
from mixgrpo_pack.nodes.demo import ASSETS, load_vae
from mixgrpo_pack.nodes.host.float16_range import Float16Range, compute_dtype
from tiny_models import tiny

CAPTION = "a small red circle on the left"
SLOPE = 1e-8  # of a mean log-probability at each element of the velocity


@pytest.fixture(scope="module")
def rest():
    return loaded()[1:]


def model(dtype):
    """The demo model, a small SD3, computing in ``dtype`` as ComfyUI is asked to."""
    with torch.inference_mode():
        file = ASSETS / "transformer" / "diffusion_pytorch_model.safetensors"
        found = comfy.sd.load_diffusion_model(str(file), model_options={"dtype": dtype})
        found.set_model_compute_dtype(dtype)
        return found


def gradient(dtype, rest, *, slope=SLOPE, **settings):
    draw = torch.Generator().manual_seed(1)
    with torch.inference_mode(False), policy(model(dtype), *rest, **settings) as home:
        home.load_lora_state(
            {name: 0.1 * torch.randn(t.shape, generator=draw) for name, t in home.lora_state().items()}
        )
        x = home.noise(3, 4).requires_grad_(True)
        weights = slope * torch.randn(x.shape, generator=draw)
        home.run([home.encode(CAPTION)], lambda v: (v(x, torch.tensor(0.7)) * weights).sum().backward())
        return torch.cat([p.grad.flatten() for p in home.parameters()]), x.grad.flatten()


def alike(found, expected):
    return float(torch.cosine_similarity(found, expected, dim=0)), float(found.norm() / expected.norm())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gradient_through_float16_is_that_of_float32(rest, checkpointing):
    for found, expected in zip(
        gradient(torch.float16, rest, checkpointing=checkpointing), gradient(torch.float32, rest), strict=True
    ):
        assert alike(found, expected) == pytest.approx((1, 1), abs=3e-4)
        assert not ((found == 0) & (expected != 0)).any()


@pytest.mark.parametrize("name", ["SD3", "SD3.5 medium", "AuraFlow"])
def test_so_it_is_through_every_model_that_the_host_computes_in_it(name):
    def found(dtype):
        small = ordinary(tiny(name, dtype))
        lora, draw = with_lora(small), torch.Generator().manual_seed(1)
        options = small.patcher.model_options["transformer_options"]
        with training(small, lora, grad=True, checkpointing=True):
            run, time = small.model.apply_model, torch.full((len(small.x),), 0.7)
            x0 = lora.float16.around(run, small.x.float(), time, transformer_options=options, **small.inputs)
            (x0 * torch.randn(x0.shape, generator=draw)).sum().mul(SLOPE).backward()
        return torch.cat([parameter.grad.flatten() for parameter in lora.trained.values()])

    with torch.inference_mode():
        assert alike(found(torch.float16), found(torch.float32)) == pytest.approx((1, 1), abs=1e-3)


def test_the_size_of_a_loss_changes_nothing(rest):
    small, large = (gradient(torch.float16, rest, slope=slope)[0] / slope for slope in (2.0**-40, 2.0**4))
    assert torch.equal(small, large)


def test_without_its_range_float16_would_lose_the_gradient(rest, monkeypatch):
    monkeypatch.setattr(Float16Range, "around", lambda self, apply, *args, **options: apply(*args, **options))
    found, _ = gradient(torch.float16, rest)
    assert alike(found, gradient(torch.float32, rest)[0])[0] < 0.5


def test_bfloat16_is_asked_for_where_the_device_has_it(rest, monkeypatch):
    expected, _ = gradient(torch.float32, rest)
    monkeypatch.setattr(comfy.model_management, "should_use_bf16", lambda *args, **options: True)
    with policy(given := model(torch.float16), *rest) as home, torch.no_grad():
        assert compute_dtype(home.patcher) is torch.bfloat16
        assert compute_dtype(given) is torch.float16, "the MODEL itself stays as it is"
        assert home.lora_about.metadata["ss_mixed_precision"] == "bfloat16"
        seen = []
        hook = given.model.diffusion_model.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
        home.run([home.encode(CAPTION)], lambda v: v(home.noise(3, 1), torch.tensor(0.7)))
        hook.remove()
    assert seen == [torch.bfloat16]
    assert alike(gradient(torch.float16, rest)[0], expected) == pytest.approx((1, 1), abs=0.01)
    with policy(model(torch.float32), *rest) as home:
        assert compute_dtype(home.patcher) is torch.float32


def test_a_probe_tells_of_a_gradient_that_float16_loses(rest):
    """Here a node that lets the network run in float16 whatever ComfyUI chose."""

    def halved(run, *args, **options):
        with torch.autocast("cpu", torch.float16):
            return run(*args, **options)

    given = model(torch.float32)
    given.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "halved", halved)
    with policy(given, *rest) as home, pytest.raises(ValueError, match=r"9\d% of it lost.*float16"):
        home.probe(CAPTION)
    with policy(model(torch.float16), *rest) as home:
        home.probe(CAPTION)


def test_a_probe_tells_of_a_vae_that_gives_nan(rest):
    broken = load_vae()
    with torch.no_grad():
        for parameter in broken.first_stage_model.parameters():
            parameter.fill_(torch.nan)
    with policy(model(torch.float32), rest[0], broken) as home, pytest.raises(ValueError, match="NaN.*--fp32-vae"):
        home.probe(CAPTION)
