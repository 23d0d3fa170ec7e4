"""What a network of the host holds, counted before it is loaded, against what PyTorch's allocator gave it."""

import pytest
import torch
from allocator import allocated
from canvas import loaded, policy, short_config
from comfy.sampler_helpers import convert_cond, estimate_memory
from gradient_checks import ordinary, training, with_lora
from mixgrpo_pack.mixgrpo_core.objectives import GRPO
from mixgrpo_pack.nodes.host import pass_memory
from mixgrpo_pack.nodes.host.pass_memory import host_pass_memory
from tiny_models import tiny

IMAGES = 3
ARCHITECTURES = [("SD3.5 medium", False), ("FLUX.1 dev", False), ("FLUX.1 dev", True), ("Qwen-Image", True)]


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


def of_rows(value, rows):
    """A tiny model's input for so many rows; it has two."""
    return value[:1].expand(rows, *value.shape[1:]).contiguous() if torch.is_tensor(value) else value


@pytest.mark.parametrize(("name", "checkpointing"), ARCHITECTURES)
def test_what_a_network_holds_is_what_was_counted(name, checkpointing):
    """The allocator counts from the first block on, the network's own inputs not; 13 families were tried so."""
    model = ordinary(tiny(name))
    lora = with_lora(model)

    def inputs(rows):
        return {key: of_rows(value, rows) for key, value in model.inputs.items()}

    before = {name: tensor.data_ptr() for name, tensor in model.model.state_dict().items()}
    found = host_pass_memory(model.patcher, lora, model.family.latent, inputs, rows=1, checkpointing=checkpointing)
    assert {name: tensor.data_ptr() for name, tensor in model.model.state_dict().items()} == before
    with torch.inference_mode(False):
        x, given = of_rows(model.x, IMAGES), inputs(IMAGES)
    options = {**model.patcher.model_options["transformer_options"], pass_memory.ATTENTION: pass_memory._fused}

    def work():
        v = model.model.apply_model(x, torch.full((IMAGES,), 0.7), transformer_options=options, **given)
        if torch.is_grad_enabled():
            v.square().mean().backward()

    for grad, counted in ((False, found.sampling), (True, found.training)):
        with training(model, lora, grad=grad, checkpointing=checkpointing):
            work()
            for parameter in lora.trained.values():
                parameter.grad = None
            real = allocated(work)
        assert 0.98 < counted.of(IMAGES) / real < 1.06


def test_a_network_that_looks_at_numbers_is_not_counted():
    """Experts are chosen by their scores."""
    model = ordinary(tiny("HiDream"))
    lora = with_lora(model)
    with pytest.raises(RuntimeError):
        host_pass_memory(
            model.patcher, lora, model.family.latent, lambda rows: dict(model.inputs), rows=1, checkpointing=True
        )


def test_the_host_is_asked_for_what_the_training_needs():
    """By the host's own estimate, as it asks the model before it loads it; on another device than this one."""
    base, clip, vae = loaded()
    with policy(base, clip, vae, cfg=3.0) as home:
        home.prepare(home.texts.train[:1])
        home.device = torch.device("meta")
        cond, _ = home.encode(home.texts.train[0])

        def asked(config):
            home.make_room(config)
            with torch.inference_mode(False):
                return home._with_room(
                    estimate_memory, home.patcher, (1, *home.latent_shape), {"p": convert_cond(cond)}
                )

        need = home.memory_need
        few, many = (short_config(update_batch=batch, rollout_batch=1, images_per_prompt=8) for batch in (1, 8))
        assert asked(few) == (int(need.of(few) * 1.1),) * 2
        assert asked(many)[0] - asked(few)[0] == pytest.approx(1.1 * 7 * need.passes.training.per_image, abs=2)
        assert need.of(few) > 3 * need.lora, "a gradient and AdamW's two"
        pulled = short_config(update_batch=8, images_per_prompt=8, objective=GRPO(kl=0.1), ema=0.9)
        assert asked(pulled)[0] > asked(many)[0] + need.lora
        home.device = torch.device("cpu")
        assert asked(many) != asked(few), "the host's own estimate again"
