"""What a diffusers pipeline waits for on a GPU, counted on one that is not there: nothing in a call of its network."""

import pytest
import torch
from core.objectives.toys import Script
from pretend_gpu import GPU, PretendGpu
from tiny_pipelines import make_folder, opened

from mixgrpo_core.models import load_demo
from mixgrpo_core.models.diffusers import loading
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.objectives.update import UpdateSettings, update_policy
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.phases import PhaseClock
from mixgrpo_core.support.queued import sent

PLAN = windowed_plan(flow_sigmas(4, 3.0), range(1, 3))


@pytest.fixture
def gpu(monkeypatch):
    """Files are read as ever: to the CPU."""
    read = loading._load_diffusers

    def to_the_cpu(*args):
        with PretendGpu.away():
            return read(*args)

    monkeypatch.setattr(loading, "_load_diffusers", to_the_cpu)
    with PretendGpu() as made:
        yield made


@pytest.mark.parametrize("name", ["flux-dev", "flux2-klein", "sana", "wan"])
def test_a_call_waits_for_nothing(name, gpu, tmp_path):
    with gpu.away():
        folder = make_folder(name, tmp_path / name)
    model = opened(folder, device=GPU)
    conds = [model.drawn(torch.Generator().manual_seed(seed)) for seed in range(2)]

    def waits(velocity):
        x, both = model.noise(0, 2), torch.tensor([0, 1])
        velocity(x, torch.tensor(0.5), both)  # what the pipeline makes once for two rows
        gpu.waits.clear()
        assert velocity(model.noise(1, 2), torch.tensor(0.25), both).device == GPU
        return dict(+gpu.waits)

    with torch.no_grad():
        assert not model.run(conds, waits)


def trained(device, waits):
    """Of the demo: latents of a group, and the gradient of an update on it."""
    model, sampling = load_demo(device=device), RolloutSettings(kernel=FlowSDE(0.7))
    cond, optimizer, clock = model.encode("a red circle"), Script(model), PhaseClock(lambda: model.evaluations, device)
    for seed in range(2):
        waits.clear()
        trajectory = rollout(model, cond, PLAN, sampling, group_size=3, seed=seed)
    assert not +waits, "the second time"
    group = Group(cond=cond, trajectory=trajectory, advantage=sent(torch.tensor([1.0, 0.5, -1.5]), device))
    with clock.phase("train"):
        settings = UpdateSettings(updates=1, batch=1, probe=False)
        stats = update_policy(model, [group], GRPO(kl=1.0), optimizer, settings, clock=clock)
    return trajectory.final.cpu(), optimizer.gradients[0].cpu(), stats.figures


def test_an_update_of_a_pipeline_waits_where_it_begins_and_ends(gpu):
    with gpu.away():
        expected, gradient, figures = trained(torch.device("cpu"), gpu.waits)
    latents, found, theirs = trained(GPU, gpu.waits)
    read = {name: gpu.waits.pop(name) for name in ("_local_scalar_dense", "from the GPU")}
    assert read == {"_local_scalar_dense": 1, "from the GPU": 4}, "and the two that this test reads"
    assert dict(+gpu.waits) == {"synchronize": 2, "mem_get_info": 2}
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-4)
    assert theirs == pytest.approx(figures, rel=1e-3, abs=1e-5)
