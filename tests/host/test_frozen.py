"""A quantised MODEL goes on as the host's own after it was worked on outside of inference mode."""

import pytest
import torch
from mixgrpo_pack.nodes.host.frozen import freeze, quantised_inference_weights
from mixgrpo_pack.nodes.host.gradients import trainable
from quantised_models import FORMATS, quantised


@pytest.mark.parametrize("form", FORMATS)
def test_a_quantised_model_can_be_moved_in_inference_mode_after_a_training(form):
    with torch.inference_mode():
        model, _ = quantised("FLUX.1 dev", form)
        before = model.velocity()
        places = quantised_inference_weights(model.model)
    assert len(places) == 26, "every linear layer of the blocks"
    with torch.inference_mode(False), torch.no_grad():
        model.model.to("cpu")
        with trainable(model.model):
            pass
        assert not quantised_inference_weights(model.model)
    freeze(places)
    with torch.inference_mode():
        model.model.to("cpu")
        assert torch.equal(model.velocity(), before)
