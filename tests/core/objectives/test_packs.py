"""Groups trained on side by side are trained on as each in calls of its own: in fewer calls."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from core.objectives.test_every_objective import CANDIDATES, EVERY, groups_for
from core.objectives.toys import WINDOW, Toy, direction, followers, make_groups, off_policy_gradient, update
from toy import Red, ToyModel

from mixgrpo_core.objectives import GRPO, GuardGRPO
from mixgrpo_core.objectives.packs import waves
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import Step, StepPlan, WindowPlanner
from mixgrpo_core.sampling.rollouts import Prompt, RolloutSettings, rollout_together
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train


class Counted(Toy):
    """Keeps the rows of every call."""

    def __init__(self, seed=0, up=0.3):
        super().__init__(seed, up)
        self.rows = []

    def run(self, conds, body):
        def counted(velocity):
            def called(x, sigma, rows=None):
                self.rows.append(len(x))
                return velocity(x, sigma, rows)

            return body(called)

        return super().run(conds, counted)


class Apart(Counted):
    """No two prompts go into one call."""

    def kind(self, cond):
        return cond


def moved_update(kind, groups, objective, batch=64):
    model = kind()
    move, lagged = direction(model, 0.1), followers(model, objective, 0.1)
    model = kind()
    settings = {"lagged": lagged, "candidates": CANDIDATES, "batch": batch, "probe": False}
    return model, *off_policy_gradient(model, groups, objective, move, **settings)


def assert_same_update(groups, objective, batch):
    together, gradient, stats = moved_update(Counted, groups, objective, batch)
    apart, plain, figures = moved_update(Apart, groups, objective, batch)
    assert gradient.norm() > 1e-8
    torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-11 * float(plain.norm()))
    assert stats.figures == pytest.approx(figures.figures, rel=1e-8, abs=1e-11)
    assert together.evaluations == apart.evaluations == sum(together.rows)
    assert max(together.rows) <= batch
    return together.rows, apart.rows


@EVERY
def test_every_objective_learns_what_it_does_from_each_group_alone(objective):
    rows, apart = assert_same_update(groups_for(Toy(), objective), objective, batch=16)
    assert len(rows) < len(apart)


def test_shared_steps_and_remainders_of_groups_fill_calls():
    groups = make_groups(Toy(), (6, 6, 6, 6))
    rows, apart = assert_same_update(groups, GRPO(clip=0.01), batch=4)
    assert rows == 2 * [4, *[4] * 6, *[4] * 6]
    assert sorted(apart) == sorted(2 * [*4 * [1], *8 * [4, 2]])
    rows, _ = assert_same_update(groups, GRPO(clip=0.01), batch=64)
    assert rows == 2 * [4, 24, 24]


def test_trees_and_plans_of_several_lengths_share_what_they_can():
    tree = StepPlan(
        flow_sigmas(8, 3.0), (Step(), *2 * [Step(stochastic=True, trained=True, children=2)], *5 * [Step()])
    )
    model = Toy()
    groups = [replace(one, place=i) for i, one in enumerate(make_groups(model, (4, 8), tree) + make_groups(model))]
    rows, apart = assert_same_update(groups, GuardGRPO(kl=0.2), batch=7)
    assert len(rows) < len(apart)


def test_no_more_groups_at_once_than_a_call_has_rows():
    assert [list(wave) for wave in waves(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert_same_update(make_groups(Toy(), (4, 3, 2)), GRPO(clip=0.01), batch=2)


def test_noise_is_measured_and_old_log_probs_are_retaken_in_the_calls_of_the_update():
    """A network whose answer depends on the size of a call: after retaking the first ratio is 1, in any company."""

    class Noisy(Counted):
        def __init__(self, seed=0, up=0.3):
            super().__init__(seed, up)
            self.noise_of_batching = 1e-3

    model = Noisy()
    sampling = RolloutSettings(kernel=FlowSDE(0.7), store_dtype=torch.float64, batch=8)
    prompts = [Prompt(cond=0.3 * i, plan=WINDOW, seed=i) for i in range(3)]
    advantage = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0], dtype=torch.float64)
    groups = [
        Group(cond=prompt.cond, trajectory=trajectory, advantage=advantage, place=i)
        for i, (prompt, trajectory) in enumerate(
            zip(prompts, rollout_together(model, prompts, sampling, group_size=6), strict=True)
        )
    ]
    stats, _ = update(model, groups, GRPO(clip=1e-4), batch=8)
    assert stats.recomputed and stats.ratio_noise > 1e-5
    assert stats.figures["ratio_first"] < 1e-12


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_is_the_one_whose_prompts_have_calls_of_their_own(shared):
    config = TrainConfig(
        iterations=2,
        steps=6,
        images_per_prompt=6,
        prompts_per_iteration=4,
        planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
        shared_noise=shared,
        updates=2,
        eval_every=0,
        learning_rate=1e-2,
        rollout_batch=5,
        update_batch=5,
    )

    def trained(kind):
        model = kind()
        reports = list(train(model, ["a", "bbb", "ccccc", "dd", "eeeeeee"], {"red": Red()}, config))
        return model, reports

    unlike = count()

    class Counting(ToyModel):
        calls = 0

        def run(self, conds, body):
            def counted(velocity):
                def called(x, sigma, rows=None):
                    self.calls += 1
                    return velocity(x, sigma, rows)

                return body(called)

            return super().run(conds, counted)

    class Lonely(Counting):
        def kind(self, cond):
            return next(unlike)

    (model, reports), (plain, expected) = trained(Counting), trained(Lonely)
    for one, other in zip(reports, expected, strict=True):
        assert [one.nfe[phase] for phase in ("rollout", "train")] == [
            other.nfe[phase] for phase in ("rollout", "train")
        ]
        assert one.trajectory_bytes == other.trajectory_bytes
        assert one.rewards["red"].mean == pytest.approx(other.rewards["red"].mean, abs=1e-6)
        figures, plain_figures = dict(one.update.figures), dict(other.update.figures)
        signals = [each.pop("signal", 0.0) for each in (figures, plain_figures)]
        assert figures == pytest.approx(plain_figures, abs=1e-5)
        assert signals[0] == pytest.approx(signals[1], abs=1e-3), "a ratio of small numbers"
    for name, tensor in model.lora_state().items():
        torch.testing.assert_close(tensor, plain.lora_state()[name], rtol=0, atol=1e-6)
    assert model.calls < plain.calls
