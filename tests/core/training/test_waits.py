"""What an iteration waits for on a GPU, counted on one that is not there, and that it learns the same there."""

import torch
from core.objectives.test_waits import CPU, Placed
from pretend_gpu import GPU, PretendGpu
from toy import Red

from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

PROMPTS, UPDATES = 2, 2


def second(model, batch, waits):
    """The second iteration's report; only what that one waits for is left."""
    config = TrainConfig(
        iterations=2,
        steps=6,
        images_per_prompt=4,
        prompts_per_iteration=PROMPTS,
        updates=UPDATES,
        update_batch=batch,
        eval_every=0,
        shift=3.0,
    )
    training = train(model, ["a", "bcd"], {"red": Red()}, config)
    next(training)
    waits.clear()
    return next(training)


def test_an_iteration_waits_for_groups_and_updates_and_for_no_piece_step_or_tensor():
    with PretendGpu() as gpu:
        with gpu.away():
            plain = Placed(CPU)
            expected = second(plain, 1, gpu.waits)
        for batch in (1, 16):
            model = Placed(GPU)
            report = second(model, batch, gpu.waits)
            phases = 2 * (1 + 2 * PROMPTS + 1)  # both ends of the rollout, decoding and reward of each, the update
            assert dict(+gpu.waits) == {
                "mem_get_info": phases + 1,
                "synchronize": phases + 1,  # and the weights' copy
                # images and scores are looked at; figures of two dtypes, and how far the policy has moved
                "from the GPU": 5 * PROMPTS + 3 * UPDATES,
                "_local_scalar_dense": UPDATES,  # the gradient's norm
            }
            if batch == 1:
                assert report.update.figures == expected.update.figures
                for name, weight in model.lora_state().items():
                    assert torch.equal(weight.cpu(), plain.lora_state()[name])
