"""A frozen base in shards, a part on each of several processes: they give what one gives that has all of it."""

import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from ranks import together
from safetensors.torch import load_file
from tiny_pipelines import SIDE
from tiny_pipelines import make_folder as make_pipeline
from tiny_sd3 import make_folder, stir, weigh
from tiny_unets import make_folder as make_unet
from torch.distributed.tensor import DTensor

from mixgrpo_core.cli.memory import memory_words
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import RunConfig
from mixgrpo_core.models import load_pipeline
from mixgrpo_core.models.diffusers.smaller import Smaller
from mixgrpo_core.models.families.sd3_memory import unloaded_sd3
from mixgrpo_core.models.quantization import FLOAT8
from mixgrpo_core.objectives import DGPO, DiffusionNFT
from mixgrpo_core.rewards import PixelReward
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.reports import Progress
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.ranks import ALONE, Ranks
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.out_of_memory import within_memory

pytestmark = pytest.mark.long("ranks")
PROMPTS = ["a red circle", "a blue square", "a green cross", "a small dot", "a large line"]
CONFIG = TrainConfig(
    iterations=2, steps=5, images_per_prompt=3, prompts_per_iteration=4, updates=2, eval_every=1, eval_images=1
)
OF_THE_PROCESS = ("seconds", "peak_memory", "by_rank")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


class FlatInOne(PixelReward):
    """Has no opinion on the prompt of the square."""

    def __call__(self, batch):
        found = super().__call__(batch)
        return Scores.of(found.values * 0) if "square" in batch.prompts[0] else found


def sharded(ranks, folder, **how):
    return load_pipeline(folder, rank=2, dtype=torch.float32, smaller=Smaller(ranks=ranks, **how))  # and proves it


def uneven(ranks, folder, checkpointing):
    """The first rank has an image less, and the others ask about another policy besides."""
    model = stir(sharded(ranks, folder))
    model.checkpointing = checkpointing
    conds = [model.drawn(torch.Generator().manual_seed(0))]
    for seed in range(4)[ranks.rank :: ranks.size] if ranks.size > 1 else range(4):

        def ask(velocity, seed=seed):
            found = velocity(model.noise(seed, 1), torch.tensor(0.5))
            if ranks.rank:
                with torch.no_grad(), model.with_weights(None):
                    velocity(model.noise(seed, 1), torch.tensor(0.4))
            weigh(found).backward()

        model.run(conds, ask)
    ranks.sum_gradients(model.parameters())
    shards = model.shards
    held = None if shards is None else (shards.own, shards.whole, shards.in_flight)
    memory = model.pass_memory(checkpointing=checkpointing)
    return [parameter.grad for parameter in model.parameters()], held, (model.digest, memory)


def planned(folder, count):
    """What ``mixgrpo plan --ranks`` says of the weights."""
    smaller = Smaller(ranks=Ranks.foreseen(count))
    return unloaded_sd3(folder, rank=2, dtype=torch.float32, smaller=smaller).weights


def test_a_plan_says_what_each_rank_holds(folder):
    settings = RunConfig(model=ModelConfig(folder=str(folder), sharded=True))
    assert "on each of 2 ranks, with one block whole and a copy of it, besides them" in memory_words(settings, 2)
    assert "ranks" not in memory_words(settings, 1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_the_gradient_is_that_of_a_whole_base_however_unevenly_ranks_call(count, checkpointing, folder, tmp_path):
    expected, _, same = uneven(ALONE, folder, checkpointing)
    largest = max(float(each.abs().max()) for each in expected)
    found = together(count, tmp_path / "meet", uneven, folder, checkpointing)
    for gradient, (own, whole, in_flight), told in found:
        assert told == same
        assert planned(folder, count) == pytest.approx(
            planned(folder, 1) - whole + own + 2 * in_flight, abs=abs(own - whole / count) + 1
        )
        assert own == pytest.approx(whole / count, rel=0.01 if count == 2 else 0.2), "small tensors do not divide by 3"
        for one, other in zip(gradient, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * largest)


def aligned(model):
    """As a block that is put together lies in memory: products of one row round by that."""
    for weight in model._network.network.parameters():
        if not weight.requires_grad and not isinstance(weight, DTensor):
            weight.data = weight.data.clone()


def asked(ranks, folder, how):
    """The gradient of the first rank, for which the others only lend their parts, and a velocity of each."""
    model = load_pipeline(folder, rank=2, dtype=torch.float32, **how(ranks))
    aligned(model)
    conds, x = [model.drawn(torch.Generator().manual_seed(0))], model.noise(1, 2)
    if ranks.is_first:
        model.run(conds, lambda velocity: weigh(velocity(x, torch.tensor(0.5))).backward())
    with torch.no_grad():
        return model.run(conds, lambda velocity: velocity(x, torch.tensor(0.5))), [p.grad for p in model.parameters()]


def in_float8(ranks):
    return {"smaller": Smaller(ranks=ranks, quantization=FLOAT8)}


def plain(ranks):
    return {"smaller": Smaller(ranks=ranks)}


def small(ranks):
    return {**plain(ranks), "resolution": (SIDE, SIDE)}


KINDS = {
    "float8": (make_folder, in_float8),
    "two lists of blocks": (partial(make_pipeline, "flux-dev"), small),
    "refiners and blocks": (partial(make_pipeline, "z-image"), small),
    "a UNet": (partial(make_unet, "StableDiffusionXLPipeline"), plain),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_base_is_bit_for_bit_what_it_is_when_whole(kind, tmp_path):
    make, how = KINDS[kind]
    folder = make(tmp_path / "model")
    expected, slopes = asked(ALONE, folder, how)
    found, gradient = together(2, tmp_path / "meet", asked, folder, how)[0]
    assert torch.equal(found, expected)
    for one, other in zip(gradient, slopes, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def trained(ranks, folder, config=CONFIG, run=None, observer=None, spoil=None, held=True):
    """What a run leaves on each rank: its LoRA, its reports, and the batches that were tried; held: in shards."""
    tried = []

    def attempt(config):
        tried.append(config.update_batch)
        smaller = Smaller(ranks=ranks if held else ALONE)
        model, reports = load_pipeline(folder, rank=2, dtype=torch.float32, smaller=smaller, prove=False), []
        aligned(model)
        if spoil is not None:
            spoil(ranks, model)
        more = {} if observer is None else {"observer": observer(ranks)}
        rewards, held_out = {"flat": FlatInOne(Brightness())}, ["a held out dot", "a held out line", "a third"]
        for report in train(model, PROMPTS, rewards, config, held_out=held_out, run=run, ranks=ranks, **more):
            reports.append({name: value for name, value in report.to_json().items() if name not in OF_THE_PROCESS})
        return {name: tensor.clone() for name, tensor in model.lora_state().items()}, reports

    return *within_memory(attempt, config)[0:2], tried


def difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return other == pytest.approx(one, rel=1e-3, abs=1e-5) if isinstance(one, float) else one == other


CASES = {
    "four prompts": (2, CONFIG),
    "five prompts, one of them flat, and more updates than a rank's groups": (
        2,
        replace(CONFIG, prompts_per_iteration=5, updates=4, ema=0.9),
    ),
    "one prompt for three": (3, replace(CONFIG, prompts_per_iteration=1, updates=2)),
    "two passes": (2, replace(CONFIG, prompts_per_iteration=5, objective=DGPO())),
    "a lagged policy": (2, replace(CONFIG, prompts_per_iteration=3, objective=DiffusionNFT(), rollout_batch=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_in_shards_is_that_of_one_process(name, folder, tmp_path):
    count, config = CASES[name]
    alone, told, _ = trained(ALONE, folder, config)
    moved = difference(alone, load_pipeline(folder, rank=2, dtype=torch.float32, prove=False).lora_state())
    assert moved > 1e-5
    whole, *_ = together(count, tmp_path / "whole", trained, folder, config, None, None, None, False)
    for lora, reports, _ in together(count, tmp_path / "meet", trained, folder, config):
        assert difference(whole[0], lora) == 0, "ranks with a whole base each"
        assert difference(alone, lora) <= 5e-3 * moved, "ranks group sums otherwise"
        assert close(told, reports)


def in_folder(ranks, folder, path, config, observer=None, held=True):
    """A run in ``path``, new or gone on with."""
    if ranks.is_first:
        RunFolder.open_or_create(path, config)
    ranks.all_gather(None)
    return trained(ranks, folder, config, RunFolder.open(path), observer, held=held)


def fail():
    raise ValueError("no such thing")


def stop():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    signal.signal(signal.SIGALRM, lambda *told: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # in the midst of the next update


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_the_second_update(what):
    """An observer that does something on rank 1 in the midst of the second iteration's updates."""

    def observer(ranks):
        def hear(event):
            due = isinstance(event, Progress) and (event.iteration, event.phase, event.done) == (1, "train", 1)
            if due and ranks.rank == 1:
                what()

        return hear

    return observer


ENDS = {
    "an error": (fail, ("RankFailed", "rank 1 of 2 failed: ValueError: no such thing")),
    "Ctrl-C": (stop, ("StoppedElsewhere", "")),
    "kill -9": (die, ("RankFailed", "another rank is gone")),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_one_ends_all_and_the_run_goes_on_whole_and_in_shards(name, folder, tmp_path):
    what, (kind, words) = ENDS[name]
    config, path = replace(CONFIG, iterations=3, eval_every=3), tmp_path / "run"
    alone, told, _ = trained(ALONE, folder, config)
    found = together(2, tmp_path / "a", in_folder, folder, path, config, at_the_second_update(what))
    assert found[0][0] == kind
    assert found[0][1].startswith(words)
    assert RunFolder.open(path).done == 1
    in_folder(ALONE, folder, path, replace(config, iterations=2), held=False)
    for lora, _, _ in together(3, tmp_path / "b", in_folder, folder, path, config):
        assert difference(alone, lora) <= 5e-3 * difference(alone, lora_at_the_start(folder))
    run = RunFolder.open(path)
    assert [len(report.get("by_rank", ())) for report in run.metrics()] == [2, 0, 3]
    assert run.metrics()[2]["rewards"]["flat"]["mean"] == pytest.approx(told[2]["rewards"]["flat"]["mean"], rel=1e-5)
    assert load_file(run.lora("last")).keys()


def lora_at_the_start(folder):
    return load_pipeline(folder, rank=2, dtype=torch.float32, prove=False).lora_state()


def no_room():
    raise RuntimeError("CUDA out of memory (a test)")


def none_forward(ranks, model):
    """The second rank has no room for more than two rows in the last block."""

    def before(block, told, named):
        if torch.is_grad_enabled() and len(named["hidden_states"]) > 2:
            no_room()

    if ranks.rank == 1:
        model._network.network.transformer_blocks[2].register_forward_pre_hook(before, with_kwargs=True)


def none_backward(ranks, model):
    """The same in the backward pass of the first block."""

    def after(block, told, made):
        if made[1].requires_grad and len(made[1]) > 2:
            made[1].register_hook(lambda slope: no_room())

    if ranks.rank == 1:
        model._network.network.transformer_blocks[0].register_forward_hook(after)


@pytest.mark.parametrize("spoil", [none_forward, none_backward])
def test_a_batch_without_room_on_one_rank_is_halved_on_all(spoil, folder, tmp_path):
    config = replace(CONFIG, update_batch=4)
    alone, _, _ = trained(ALONE, folder, replace(config, update_batch=2))
    first, second = together(2, tmp_path / "a", trained, folder, config, None, None, spoil)
    assert first[2] == second[2] == [4, 2]
    assert difference(first[0], second[0]) == 0
    assert difference(alone, first[0]) <= 5e-3 * difference(alone, lora_at_the_start(folder))
