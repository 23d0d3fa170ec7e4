"""Several prompts rolled out side by side: each is what it is alone, in fewer and fuller calls."""

import pytest
import torch
from toy import ToyModel

from mixgrpo_core.demo import held_out_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.sampling.kernels import DanceSDE, FlowSDE
from mixgrpo_core.sampling.planners import ODE, Step, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from mixgrpo_core.sampling.rollouts import Prompt, RolloutSettings, rollout, rollout_together
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M
from mixgrpo_core.sampling.windows import FrozenWindow

CONDS = (0.2, 0.7, 1.1, 1.6, 2.3)


class Calls(ToyModel):
    """A toy whose LoRA does something; keeps what every call was asked: its level and the prompts of its rows."""

    def __init__(self):
        super().__init__()
        torch.nn.init.normal_(self.up, std=0.3, generator=torch.Generator().manual_seed(1))
        self.asked = []

    def run(self, conds, body):
        def counted(velocity):
            def called(x, sigma, rows=None):
                self.asked.append((float(sigma), [0] * len(x) if rows is None else rows.tolist()))
                return velocity(x, sigma, rows)

            return body(called)

        return super().run(conds, counted)

    @property
    def rows(self):
        return [len(rows) for _, rows in self.asked]


class Kinds(Calls):
    """Long prompts do not go with short ones."""

    def kind(self, cond):
        return cond > 1


def window(start=2, steps=8, size=3):
    return windowed_plan(flow_sigmas(steps, 3.0), range(start, start + size))


TREE = StepPlan(
    flow_sigmas(6, 3.0), (ODE, *2 * [Step(stochastic=True, trained=True, children=2)], Step(recorded=True), ODE, ODE)
)
FLASH = WindowPlanner(FrozenWindow(2, 3), tail_ratio=0.4).plan(0, 0, flow_sigmas(12, 3.0))
CASES = {
    "shared noise": (5 * [window()], {}),
    "own noise": (5 * [window()], {"shared_noise": False}),
    "a tree": (5 * [TREE], {"keep_mean": True, "kernel": DanceSDE(0.5)}),
    "Flash with two solvers": (5 * [FLASH], {"solver": DPMpp2M(), "tail_solver": DPMpp2M()}),
    "a window each": ([window(start) for start in (0, 1, 2, 3, 4)], {"keep_start": True}),
    "a length each": ([window(), FLASH, TREE, deterministic_plan(flow_sigmas(4)), window(steps=6)], {}),
}


def together_and_alone(plans, sampling, group=4, batch=None, kind=Calls):
    sampling = RolloutSettings(**{"kernel": FlowSDE(0.7), "batch": batch, **sampling})
    prompts = [Prompt(cond=c, plan=p, seed=s) for s, (c, p) in enumerate(zip(CONDS, plans, strict=True))]
    joint, alone = kind(), kind()
    found = rollout_together(joint, prompts, sampling, group_size=group)
    plain = [rollout(alone, p.cond, p.plan, sampling, group_size=group, seed=p.seed) for p in prompts]
    return joint, alone, found, plain


def assert_same(found, plain, atol=1e-6):
    for a, b in zip(found, plain, strict=True):
        assert a.nfe == b.nfe
        assert [t.step for t in a.transitions] == [t.step for t in b.transitions]
        torch.testing.assert_close(a.final, b.final, rtol=0, atol=atol)
        for s, t in zip(a.transitions, b.transitions, strict=True):
            assert torch.equal(s.parent, t.parent) and torch.equal(s.edge, t.edge)
            for name in ("x", "x_next", "old_mean"):
                if getattr(t, name) is not None:
                    torch.testing.assert_close(getattr(s, name), getattr(t, name), rtol=0, atol=atol)
            torch.testing.assert_close(s.old_log_prob, t.old_log_prob, rtol=0, atol=10 * atol)
        for s, t in zip(a.states, b.states, strict=True):
            assert (s.step, s.parent.tolist()) == (t.step, t.parent.tolist())
            torch.testing.assert_close(s.x, t.x, rtol=0, atol=atol)


@pytest.mark.parametrize("batch", [None, 1, 3, 16])
@pytest.mark.parametrize("case", CASES)
def test_every_prompt_is_what_it_is_alone(case, batch):
    plans, sampling = CASES[case]
    joint, alone, found, plain = together_and_alone(plans, sampling, batch=batch)
    assert_same(found, plain)
    assert joint.evaluations == alone.evaluations == sum(sum(one.nfe.values()) for one in found)
    assert len(joint.rows) <= len(alone.rows)
    assert max(joint.rows) <= (batch or 100)
    assert abs(found[0].final - found[1].final).max() > 0.1, "prompts differ by far more than rounding"


def test_calls_are_filled_with_the_rows_of_several_prompts():
    joint, alone, _, _ = together_and_alone(5 * [window(start=2)], {}, group=12, batch=16)
    assert alone.rows == 5 * (3 * [1] + 5 * [12])
    assert joint.rows == 3 * [5] + 5 * [16, 16, 16, 12]


def test_only_levels_that_are_equal_share_a_call():
    plans = [window(), window(), *3 * [windowed_plan(flow_sigmas(8, 1.0), range(2, 5))]]
    joint, _, found, plain = together_and_alone(plans, {})
    assert_same(found, plain)
    assert joint.rows[:4] == [5, 2, 3, 2], "both grids begin at 1 and part then"


def test_conditionings_of_different_kinds_share_no_call():
    joint, _, found, plain = together_and_alone(5 * [window()], {}, batch=16, kind=Kinds)
    assert_same(found, plain)
    assert all(len({CONDS[row] > 1 for row in rows}) == 1 for _, rows in joint.asked)
    assert joint.rows == [2, 3] * 3 + [8, 12] * 5


def test_steps_are_heard_as_they_are_done_and_an_observer_that_raises_cancels_all():
    heard, model = [], Calls()
    prompts = [Prompt(cond=cond, plan=window(), seed=0) for cond in CONDS]

    def stop(step):
        heard.append((step, len(model.rows)))
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout_together(model, prompts, RolloutSettings(kernel=FlowSDE(), batch=8), group_size=4, on_step=stop)
    assert [step for step, _ in heard] == 5 * [0] + 5 * [1] + 5 * [2] + 5 * [3] + [4]
    assert heard[15:] == [(3, 4), (3, 4), (3, 5), (3, 5), (3, 6), (4, 7)], "a group goes on when its rows are there"


def test_of_a_real_network_they_are_equal_up_to_rounding():
    model, plan = load_demo(guidance=2.0), WindowPlanner(FrozenWindow(2, 1), tail_ratio=0.5)
    plan, sampling = (
        plan.plan(0, 0, model.grid(6)),
        RolloutSettings(kernel=FlowSDE(0.5), tail_solver=DPMpp2M(), batch=8),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    conds = [model.encode(prompt) for prompt in held_out_prompts()[:3]]
    prompts = [Prompt(cond=cond, plan=plan, seed=seed) for seed, cond in enumerate(conds)]
    found = rollout_together(model, prompts, sampling, group_size=4)
    plain = [rollout(model, p.cond, plan, sampling, group_size=4, seed=p.seed) for p in prompts]
    assert_same(found, plain, atol=2e-4)
    assert abs(found[0].final - found[1].final).max() > 0.1
