"""What an update waits for on a GPU, counted on one that is not there: as often for many pieces as for few."""

from dataclasses import replace

import pytest
import torch
from core.objectives.toys import STILL, Script, image_groups, make_groups, update
from pretend_gpu import GPU, PretendGpu
from torch.nn import Parameter
from toy import ToyModel

from mixgrpo_core import objectives
from mixgrpo_core.models.lagged import Lagged
from mixgrpo_core.objectives import GRPO, GuardGRPO, Objective
from mixgrpo_core.objectives.port import TRANSITIONS
from mixgrpo_core.sampling.planners import ODE, SDE, StepPlan, windowed_plan
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.kinds import SETTINGS
from mixgrpo_core.support.phases import PhaseClock
from mixgrpo_core.support.queued import scalar_on, sent

CPU = torch.device("cpu")
WINDOW = windowed_plan(flow_sigmas(4, 3.0), range(1, 3))
EVERY = [cls() for cls in SETTINGS.of(Objective) if cls.__name__ in objectives.__all__]
KL = [GRPO(kl=1.0), GuardGRPO(kl=1.0)]


class Placed(ToyModel):
    """A toy on a device, whose LoRA does something."""

    def __init__(self, device):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        up = torch.randn(self.up.shape, generator=draw, dtype=torch.float64) * 0.3
        self.down, self.up = (Parameter(sent(one.detach().double(), device)) for one in (self.down, up))
        self.device, self.weights = device, self.lora()

    def noise(self, seed, count):
        return sent(super().noise(seed, count).double(), self.device)

    def run(self, conds, body):
        prompts = sent(torch.tensor(conds, dtype=torch.float64), self.device)

        def velocity(x, sigma, rows=None):
            self.evaluations += len(x)
            flat, level = x.flatten(1), scalar_on(x.device, sigma, x.dtype)
            cond = prompts[:1] if rows is None else prompts[sent(rows, x.device)]
            v = level * flat - cond[:, None]
            if self.weights is not None:
                features = torch.cat([flat, level.expand(len(x), 1), x.new_ones(len(x), 1)], 1)
                down, up = self.weights["net.lora_A.weight"], self.weights["net.lora_B.weight"]
                v = v + features.to(down.dtype) @ down.T @ up.T
            return v.view_as(x)

        return body(velocity)


def groups_of(model, objective, plan=WINDOW):
    by_step = TRANSITIONS in objective.needs
    found = make_groups(model, (4, 2), plan) if by_step else image_groups(model, (4, 3), steps=3)
    return [replace(group, advantage=sent(group.advantage, model.device)) for group in found]


def updated(objective, batch, *, on, gpu=None, plan=WINDOW, **settings):
    """Gradients of an update, and what was waited for in it."""
    model = Placed(on)
    groups = groups_of(model, objective, plan)
    lagged = {
        name: Lagged(STILL, {part: tensor * 0.9 for part, tensor in model.lora_state().items()})
        for name in objective.policies
    }
    clock, optimizer = PhaseClock(lambda: model.evaluations, on), Script(model)
    before = None if gpu is None else gpu.waits.copy()
    stats, _ = update(model, groups, objective, optimizer, batch=batch, clock=clock, lagged=lagged, **settings)
    waits = None if gpu is None else gpu.waits - before
    return [gradient.cpu() for gradient in optimizer.gradients], stats, waits


@pytest.mark.parametrize("objective", EVERY + KL, ids=repr)
def test_an_update_waits_as_often_for_many_pieces_as_for_few(objective):
    expected, stats, _ = updated(objective, 1, on=CPU)
    with PretendGpu() as gpu:
        many, found, often = updated(objective, 1, on=GPU, gpu=gpu)
        _, _, seldom = updated(objective, 64, on=GPU, gpu=gpu)
    assert often == seldom
    assert set(often) <= {"_local_scalar_dense", "from the GPU", "synchronize", "mem_get_info"}
    assert all(map(torch.equal, many, expected))
    assert found.figures == stats.figures


def waits_of(work):
    with PretendGpu() as gpu:
        work(gpu)
    return dict(+gpu.waits)


def test_a_rollout_waits_for_nothing_and_what_an_update_needs_is_counted():
    """The update: its queue when it begins and ends, and numbers that are read once; none for a member or a step."""
    assert not waits_of(lambda gpu: groups_of(Placed(GPU), GRPO()))
    tree = StepPlan(WINDOW.sigmas, (ODE, SDE, replace(SDE, children=2), ODE))
    for plan, updates in ((WINDOW, 1), (tree, 1), (WINDOW, 2)):
        with PretendGpu() as gpu:
            _, stats, waits = updated(GuardGRPO(kl=1.0), 2, on=GPU, gpu=gpu, plan=plan, updates=updates, probe=False)
        assert stats.steps == updates
        assert dict(waits) == {
            "synchronize": 2,
            "mem_get_info": 2,
            "from the GPU": 3 * updates,  # of figures in float64 and in float32, and of the move
            "_local_scalar_dense": updates,
        }


@pytest.mark.parametrize("members", [[0, 1, 2, 3], [1, 2], [3, 0, 2]], ids=str)
def test_a_selection_of_members_waits_for_nothing_and_is_that_of_the_cpu(members):
    chosen = torch.tensor(members)
    expected = groups_of(Placed(CPU), GRPO())[0].select(chosen).trajectory
    with PretendGpu() as gpu:
        group = groups_of(Placed(GPU), GRPO())[0]
        found = group.select(chosen).trajectory
        anew = [
            step.rescored(torch.arange(len(step.parents)), step.old_log_prob, step.old_mean)
            for step in found.transitions
        ]
        assert not +gpu.waits
        for step, again, own in zip(found.transitions, anew, expected.transitions, strict=True):
            for name in ("x", "parent", "edge", "x_next", "old_log_prob", "old_mean"):
                assert torch.equal(getattr(step, name).cpu(), getattr(own, name)), name
                assert torch.equal(getattr(again, name).cpu(), getattr(own, name)), name
        assert torch.equal(
            found.states[0].x.cpu()[found.states[0].parents], expected.states[0].x[expected.states[0].parent]
        )
