"""Mutated requests and LoRA files in ComfyUI's own Python: see ``tests/core/campaigns/test_fuzz.py``."""

import pytest
import torch
from campaigns.fuzz import fuzz, told, wanted
from campaigns.progress import Teller
from canvas import loaded
from fuzz_targets import Conversions, Routes
from mixgrpo_pack.nodes.host.lora_names import trained_layers


def failed_of(request, folder, part, target):
    return fuzz(part, target, wanted(request.config, part), folder, Teller(request.config))


@pytest.mark.long("fuzz-endpoints")
def test_endpoints(request, tmp_path):
    failed = failed_of(request, tmp_path, "fuzz-endpoints", Routes(tmp_path))
    assert not failed, told(failed, "fuzz-endpoints")


@pytest.mark.long("fuzz-conversions")
def test_conversions(request, tmp_path):
    failed = failed_of(request, tmp_path, "fuzz-conversions", Conversions(*demo_lora()))
    assert not failed, told(failed, "fuzz-conversions")


def demo_lora():
    """The demo model as a node loads it, and a LoRA of it."""
    model, state = loaded()[0], {}
    for layer in trained_layers(model.model):
        for part in layer.parts:
            state[f"transformer.{part.name}.lora_A.weight"] = torch.ones(2, layer.inputs) / 8
            state[f"transformer.{part.name}.lora_B.weight"] = torch.ones(part.stop - part.start, 2) / 8
    return model, state
