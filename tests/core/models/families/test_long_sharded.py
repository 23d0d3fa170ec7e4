"""A frozen base in shards, one half on each of two processes (FSDP2), under the model port: the LoRA's gradient."""

import pytest
import torch
from ranks import together
from tiny_sd3 import load, make_folder, stir, weigh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mixgrpo_core.models.diffusers.peft_lora import ADAPTER

pytestmark = pytest.mark.long("bases")


def sharded(model):
    """Its blocks and what is around them in shards; the LoRA, which is of another precision, whole on each rank."""
    network = model._network.network
    lora = {weight for name, weight in network.named_parameters() if f".{ADAPTER}." in f"{name}."}
    for block in network.transformer_blocks:
        fully_shard(block, ignored_params=lora)
    fully_shard(network, ignored_params=lora)
    base = [weight for weight in network.parameters() if weight not in lora]
    assert all(isinstance(weight, DTensor) for weight in base)
    return sum(weight.to_local().numel() for weight in base) / sum(weight.numel() for weight in base)


def gradient(model, seed):
    """Of a loss of one image that ``seed`` draws, without text encoders."""
    conds = [model.drawn(torch.Generator().manual_seed(0))]
    for parameter in model.parameters():
        parameter.grad = None
    model.run(conds, lambda velocity: weigh(velocity(model.noise(seed, 1), torch.tensor(0.5))).backward())
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def on_a_rank(ranks, folder, checkpointing):
    """Each rank has an image of its own."""
    model = stir(load(folder))
    share = sharded(model)
    model.checkpointing = checkpointing
    return share, gradient(model, ranks.rank)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_base_in_shards_gives_the_gradient_of_a_whole_one(checkpointing, tmp_path):
    folder = make_folder(tmp_path / "sd3")
    model = stir(load(folder))
    alone = [gradient(model, seed) for seed in range(2)]
    for (share, found), expected in zip(
        together(2, tmp_path / "meet", on_a_rank, folder, checkpointing), alone, strict=True
    ):
        assert share == pytest.approx(0.5, abs=0.01)
        largest = max(float(each.abs().max()) for each in expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6 * largest)
