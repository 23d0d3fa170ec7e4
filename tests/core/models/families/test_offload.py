"""Blocks that wait in main memory: the numbers of a run without, and never more than two of them on the device.

Here the device is the processor: a turn works on copies all the same, with memory of their own.
"""

import weakref
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice

import pytest
import torch
from diffusers import FluxTransformer2DModel
from quantised_bases import NEEDS, gguf_file, installed
from tiny_pipelines import OTHERS, PIPELINES, opened
from tiny_pipelines import make_folder as any_folder
from tiny_sd3 import PROMPT, gradients, kept, load, make_folder, same, stir, velocity_of, weigh
from tiny_unets import SDXL
from tiny_unets import make_folder as unet
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from mixgrpo_core.cli import main
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.models import load_pipeline
from mixgrpo_core.models.diffusers import repeated
from mixgrpo_core.models.diffusers.offload import Offload
from mixgrpo_core.models.diffusers.repeated import waiting_places
from mixgrpo_core.models.diffusers.smaller import Smaller
from mixgrpo_core.models.families.sd3_memory import unloaded_sd3
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.quantization import FLOAT8, NF4, QUANTO, TORCHAO
from mixgrpo_core.rewards import PixelReward
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.settings_file import FREE_OF_MODEL
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.activations import stand_ins
from mixgrpo_core.support.digests import plain_parts
from mixgrpo_core.support.setting import settings_of
from mixgrpo_core.training.loop import train

LONG = pytest.mark.long("bases")
BLOCKS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


def loaded(folder, offload=BLOCKS, checkpointing=True, **how):
    smaller = Smaller(offload=offload, quantization=how.pop("quantization", None), gguf=how.pop("gguf", None))
    model = load_pipeline(folder, **{"rank": 4, "dtype": torch.float32, "prove": False, "smaller": smaller, **how})
    model.checkpointing = checkpointing
    return stir(realigned(model))


def realigned(model):
    """A processor rounds by where in memory a weight begins, those of a file anywhere; here all as copies."""
    for parameter in model._network.network.parameters():
        if type(parameter) is Parameter:
            parameter.data = parameter.data.clone()
    return model


class Away(Tensor):
    """A weight on a device of its own: it can be copied, and whoever computes with it fails."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function is Tensor.clone:
                return function(args[0].as_subclass(Tensor))
            if getattr(function, "__name__", "") == "__get__":  # shape, dtype, device
                return function(*args, **(kwargs or {}))
        raise AssertionError(f"{function.__name__} of a weight that waits")


def elsewhere(model):
    """The model with its waiting weights out of reach."""
    for one in model.offload._waiting:
        one.at_rest = [weight.detach().as_subclass(Away) for weight in one.at_rest]
        one.put(one.at_rest)
    return model


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("quantization", [None, FLOAT8])
def test_velocity_and_gradient_are_those_of_a_model_on_the_device(folder, quantization, checkpointing):
    plain = loaded(folder, 0, checkpointing, quantization=quantization)
    away = elsewhere(loaded(folder, BLOCKS, checkpointing, quantization=quantization))
    for _ in range(2):  # the second time the next block is known
        assert torch.equal(velocity_of(away), velocity_of(plain))
        assert same(gradients(away), gradients(plain))


def test_other_weights_are_worn_between_a_forward_and_its_backward_pass(folder):
    plain, away = loaded(folder, 0), elsewhere(loaded(folder))
    other = {name: tensor * 0.5 for name, tensor in kept(plain).items()}

    def of(model):
        made = []

        def between(velocity):
            for weights in (other, None):
                with model.with_weights(weights), model.with_weights(other), torch.no_grad():
                    made.append(velocity(model.noise(5, 1), torch.tensor(0.4)))

        with_other = model.with_weights(None)
        return [*gradients(model, between, with_other), *made]

    assert same(of(away), of(plain))


@contextmanager
def copies(model, seen):
    """Inside, ``seen`` gets how many waiting blocks have memory on the device, whenever another one comes, and at each
    gradient. Gives what looks once more, and the places of the blocks that came."""
    living: dict[int, list[weakref.ref]] = {}
    came = []
    made = model.offload._copies.of
    own = {id(one.at_rest): place for place, one in enumerate(model.offload._waiting)}

    def count(*_):
        seen.append(sum(any(ref() is not None for ref in refs) for refs in living.values()))

    def of(weights):
        fresh = made(weights)
        refs = [weakref.ref(part.untyped_storage()) for weight in fresh for _, part in plain_parts("", weight)]
        came.append(own[id(weights)])
        living.setdefault(came[-1], []).extend(refs)
        count()
        return fresh

    hooks = [parameter.register_hook(count) for parameter in model.parameters()]
    model.offload._copies.of = of
    try:
        yield count, came
    finally:
        model.offload._copies.of = made
        for hook in hooks:
            hook.remove()


def test_two_blocks_are_on_the_device_in_a_rollout_and_in_an_update_with_its_backward_pass(folder):
    model, rollout, update = loaded(folder), [], []
    velocity_of(model)
    gradients(model)
    with copies(model, rollout) as (count, came):
        velocity_of(model)
        count()
    assert max(rollout) == 2
    assert rollout[-1] == 1, "the first of the next step"
    assert came == [0, 1, 2, 0], "none in vain"
    with copies(model, update) as (count, came):
        gradients(model)
        count()
    assert max(update) == 2
    assert update[-1] <= 1
    assert came == [1, 2, 1, 0], "the last block stays for its backward pass"
    model, held = loaded(folder, checkpointing=False), []
    with copies(model, held):
        gradients(model)
    assert max(held) == BLOCKS, "which is why checkpointing comes with it"


def test_what_waits_has_no_second_copy_and_the_lora_stays(folder):
    model = load_pipeline(folder, rank=4, dtype=torch.float32, prove=False, smaller=Smaller(offload=BLOCKS))
    assert model.checkpointing
    waiting = {weight for one in model.offload._waiting for weight in one.at_rest}
    blocks = dict(model._network.network.transformer_blocks.named_parameters())
    assert waiting == {weight for name, weight in blocks.items() if "lora" not in name}
    assert waiting.isdisjoint(model.parameters())
    trained = {id(parameter) for parameter in model.parameters()}
    gradients(model)
    worn = {id(weight) for name, weight in model._network.network.named_parameters() if "lora" in name}
    assert worn == trained


def test_loras_underneath_are_part_of_what_waits(folder, tmp_path):
    loras = {export_lora(stir(load(folder), size=0.1), tmp_path / "under.safetensors"): 0.7}
    plain, away = (loaded(folder, offload, loras=loras) for offload in (0, BLOCKS))
    assert torch.equal(velocity_of(elsewhere(away)), velocity_of(plain))
    assert not torch.equal(velocity_of(plain), velocity_of(loaded(folder, 0)))


@pytest.mark.parametrize("family", ["flux-dev", SDXL])
def test_some_blocks_of_two_kinds_and_the_parts_of_a_unet_wait(family, tmp_path):
    folder = unet(family, tmp_path / "model") if family == SDXL else any_folder(family, tmp_path / "model")
    assert_equal(*both(folder, 3, dtype=torch.bfloat16), waiting=3)


@LONG
@pytest.mark.parametrize("family", sorted({**PIPELINES, **OTHERS}.keys() - {"flux-dev"}))
def test_blocks_of_every_family_wait(family, tmp_path, monkeypatch):
    monkeypatch.setattr(repeated, "AT_ONCE", 0)  # some have two blocks
    folder = any_folder(family, tmp_path / "model")
    assert_equal(*both(folder, 2), waiting=2)


def both(folder, offload, **how):
    """A small model of a folder with blocks that wait, and without."""
    away, plain = (stir(realigned(opened(folder, smaller=Smaller(offload=count), **how))) for count in (offload, 0))
    plain.checkpointing = True
    return away, plain


def assert_equal(away, plain, waiting):
    """The same velocity and gradient, bit for bit."""
    assert len(away.offload._waiting) == waiting
    for one, other in zip(numbers(elsewhere(away)), numbers(plain), strict=True):
        assert one is other is None or torch.equal(one, other)


def numbers(model):
    """A velocity of two rows, and the gradient of its weighted sum."""
    cond, x = model.drawn(torch.Generator().manual_seed(0)), model.noise(0, 2)
    velocity = model.run([cond], lambda velocity: velocity(x, torch.tensor(0.5)))
    weigh(velocity).backward()
    return [velocity.detach(), *(parameter.grad for parameter in model.parameters())]


def test_a_run_with_it_is_the_run_without_and_either_goes_on(folder, tmp_path):
    config = TrainConfig(iterations=2, steps=6, images_per_prompt=3, prompts_per_iteration=1, updates=1)

    def go_on(run, offload, iterations):
        model = load_pipeline(folder, rank=2, prove=False, smaller=Smaller(offload=offload))
        reports = train(model, [PROMPT], {"bright": PixelReward(Brightness())}, config, run=run)
        assert len([*islice(reports, iterations)]) == iterations
        reports.close()

    whole, shared = (RunFolder.create(tmp_path / name, config) for name in ("whole", "shared"))
    go_on(whole, 0, 2)
    go_on(shared, BLOCKS, 1)
    go_on(shared, 0, 1)
    tensors = [run.latest().tensors for run in (whole, shared)]
    assert [*tensors[0]] == [*tensors[1]]
    assert [name for name in tensors[0] if not torch.equal(tensors[0][name], tensors[1][name])] == []


def test_what_a_resume_may_change_of_a_model_a_run_folder_lets_pass():
    assert {name for name, told in settings_of(ModelConfig) if told.may_change} == {*FREE_OF_MODEL}


@LONG
def test_the_command_line_keeps_it_in_the_run_and_a_resume_may_change_it(folder, tmp_path, capsys):
    file = tmp_path / "run.toml"
    out = tmp_path / "run"
    file.write_text(
        f'out = "{out}"\n[model]\nfolder = "{folder}"\nrank = 2\noffload = {BLOCKS}\ndevice = "cpu"\n'
        f'[prompts]\ntrain = ["{PROMPT}"]\nheld_out = ["a blue circle"]\n'
        '[rewards]\nbright = "PixelReward(Brightness())"\n'
        "[train]\niterations = 1\nsteps = 6\nimages_per_prompt = 3\nprompts_per_iteration = 1\nupdates = 1\n"
    )
    assert main(["plan", str(file)]) == 0
    words = capsys.readouterr().out
    assert "that wait in main memory two blocks at a time" in words
    assert "without gradient checkpointing" not in words
    assert main(["train", str(file)]) == 0
    assert RunFolder.open(out).config["setup"]["model"]["offload"] == BLOCKS
    assert main(["resume", str(out), "--iterations", "2"]) == 0
    assert main(["resume", str(out), "--iterations", "3", "--offload", "0"]) == 0
    assert RunFolder.open(out).latest().iteration == 3
    assert RunFolder.open(out).config["setup"]["model"]["offload"] == 0
    assert main(["train", str(file), "--out", str(tmp_path / "other"), "--model.offload", "2"]) == 2
    assert "expected model.offload of 3 or more, found 2" in capsys.readouterr().err


def test_stand_ins_stay_where_memory_is_counted(folder):
    away, found = loaded(folder), []
    own = away.offload._waiting[0]
    with FakeTensorMode(), stand_ins(away._network.network):
        there = own.now()
        away.offload._turn(0, lambda: found.extend(own.now()))
        assert all(one is other for one, other in zip(found, there, strict=True))
    assert own.whole


@LONG
def test_activations_are_counted_as_without_it(folder):
    plain, away = loaded(folder, 0), elsewhere(loaded(folder))
    for checkpointing in (True, False):
        assert (
            away.pass_memory(checkpointing=checkpointing) == plain.pass_memory(checkpointing=checkpointing) is not None
        )


def test_a_plan_counts_the_blocks_that_wait(folder):
    plain, away = (unloaded_sd3(folder, rank=4, smaller=Smaller(offload=count)) for count in (0, BLOCKS))
    model = load_pipeline(folder, rank=4, dtype=torch.float32, prove=False, smaller=Smaller(offload=BLOCKS))
    exact = unloaded_sd3(folder, rank=4, dtype=torch.float32, smaller=Smaller(offload=BLOCKS))
    assert exact.waiting == model.offload.waiting
    stay = exact.weights - model.offload.in_flight
    named = model._network.network.named_parameters()
    assert stay == sum(w.numel() * 4 for name, w in named if "lora" not in name) - exact.waiting
    assert plain.weights - away.weights < away.waiting < plain.weights
    assert plain.waiting == 0


@LONG
@pytest.mark.parametrize("quantization", [TORCHAO, QUANTO, NF4])
def test_blocks_that_a_library_quantised_wait_as_others_do(quantization, folder):
    if not installed(quantization):
        pytest.skip(NEEDS)
    plain, away = (loaded(folder, offload, quantization=quantization) for offload in (0, BLOCKS))
    assert_alike(away, plain)


@LONG
def test_blocks_of_a_gguf_file_wait_as_others_do(tmp_path):
    if find_spec("gguf") is None:
        pytest.skip(NEEDS)
    folder = any_folder("flux-dev", tmp_path / "flux")
    file = gguf_file(tmp_path / "flux-Q8_0.gguf", FluxTransformer2DModel.from_pretrained(folder / "transformer"))
    plain, away = (loaded(folder, offload, gguf=file) for offload in (0, 3))
    assert_alike(away, plain)


@LONG
def test_layers_of_bitsandbytes_own_are_refused(folder):
    if not installed(NF4):
        pytest.skip(NEEDS)
    from bitsandbytes.nn import Linear4bit

    model = loaded(folder, 0)
    network = model._network.network
    network.transformer_blocks[1].attn.to_q.base_layer = Linear4bit(16, 16)
    with pytest.raises(ValueError, match="found Linear4bit of a folder that bitsandbytes quantised"):
        Offload(network, model.lora, BLOCKS, torch.device("cpu"))


def assert_alike(away, plain):
    """The same numbers, and two blocks at a time on the device."""
    seen = []
    for one, other in zip(numbers(away), numbers(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    with copies(away, seen) as (count, _):
        numbers(away)
        count()
    assert max(seen) == 2
    assert seen[-1] <= 1


def test_where_the_blocks_wait_is_spread_over_the_network():
    assert waiting_places(3, 6, "N") == [1, 3, 5]
    assert waiting_places(4, 6, "N") == [1, 2, 4, 5]
    assert waiting_places(6, 6, "N") == [*range(6)]
    assert waiting_places(0, 0, "N") == []


def test_what_cannot_be_is_refused(folder):
    for offload, said in ((4, "at most the 3 blocks of a SD3Transformer2DModel"), (2, "of 3 or more, found 2")):
        with pytest.raises(ValueError, match=said):
            load_pipeline(folder, smaller=Smaller(offload=offload))
        with pytest.raises(ValueError, match=said):
            unloaded_sd3(folder, smaller=Smaller(offload=offload))
    with pytest.raises(ValueError, match="no repeated blocks that could wait"):
        waiting_places(3, 0, "Net")
    with pytest.raises(ValueError, match="as small as it gets"):
        ModelConfig(offload=3).make()
    with pytest.raises(ValueError, match="offload must be 0 or more, found -1"):
        ModelConfig(offload=-1)
