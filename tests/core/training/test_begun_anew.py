"""Memory that runs out in work that is no run: it begins anew with half as many images."""

import pytest
import torch
from toy import ToyModel

from mixgrpo_core.training.out_of_memory import OutOfMemory, begun_anew


def test_it_begins_anew_with_the_lora_as_it_was():
    model, tried, said = ToyModel(), [], []

    def attempt(batch):
        tried.append((batch, float(model.up.detach().abs().sum())))
        model.up.data += 1
        if batch > 2:
            raise MemoryError
        return "made"

    assert begun_anew(attempt, model, 8, "training", said.append) == "made"
    assert tried == [(8, 0.0), (4, 0.0), (2, 0.0)], "each attempt begins with the LoRA of the start"
    assert said[-1] == "out of memory while training, begun anew with 2 images at a time"
    assert torch.equal(model.up, torch.ones(12, 2))


def test_one_image_that_does_not_fit_is_said_and_other_errors_are_not_taken_for_it():
    def full(batch):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory, match="out of memory while sampling one image at a time"):
        begun_anew(full, ToyModel(), 2, "sampling")

    def wrong(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        begun_anew(wrong, ToyModel(), 2, "sampling")
