"""What a streamed model holds for its backward pass and what it computes, counted on FLUX.1-dev's own blocks."""

import pytest
import torch
from gradient_checks import training
from meta_models import Held, flux
from streamed import stream
from torch.utils.flop_counter import FlopCounterMode

BLOCKS = {"depth": 2, "single": 3}


def counted(model, lora, *, checkpointing: bool) -> tuple[int, int]:
    """Bytes that a forward pass leaves behind for the backward pass, and operations of both."""
    trained = training(model, lora, grad=True, checkpointing=checkpointing)
    with Held() as held, FlopCounterMode(display=False) as operations, trained:
        loss = model.velocity().float().sum()
        left = held.bytes()
        loss.backward()
    return left, operations.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_streamed_weights_hold_and_cost_what_weights_at_rest_do(checkpointing, monkeypatch):
    at_rest = counted(*flux(1024, **BLOCKS), checkpointing=checkpointing)
    model, lora = flux(1024, **BLOCKS)
    stream(model.model.diffusion_model, monkeypatch)
    held, operations = counted(model, lora, checkpointing=checkpointing)
    assert operations == at_rest[1]
    assert held <= 1.01 * at_rest[0]


def test_with_checkpointing_the_inputs_of_the_blocks_are_kept_and_little_else(monkeypatch):
    model, lora = flux(1024, **BLOCKS)
    stream(model.model.diffusion_model, monkeypatch)
    held, _ = counted(model, lora, checkpointing=True)
    row = (4096 + 512) * 3072 * 2
    assert held < 1.1 * (BLOCKS["depth"] + BLOCKS["single"] + 1) * row


def test_weights_of_another_type_are_cast_again_instead_of_kept():
    """At rest too: a model stored in float8 would stand twice over in bfloat16 until the backward pass."""
    plain = counted(*flux(512, **BLOCKS), checkpointing=False)
    cast = counted(*flux(512, **BLOCKS, stored=torch.float8_e4m3fn), checkpointing=False)
    assert cast[0] <= 1.01 * plain[0]
    assert cast[1] == plain[1]
