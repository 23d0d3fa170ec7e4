"""What an iteration costs: evaluations by phase, and what of them is differentiated."""

from copy import copy
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, TrainConfig, WindowPlanner
from mixgrpo_core.objectives import AWM, CRD, DGPO, FPO, GRPO, RAM, VGRPO, DiffusionNFT
from mixgrpo_core.training.cost import iteration_cost
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.workload import Workload

CONFIG = TrainConfig(
    steps=6, images_per_prompt=4, prompts_per_iteration=2, updates=1, shared_noise=False, objective=GRPO()
)


def cost(objective):
    return iteration_cost(replace(CONFIG, objective=objective), 0)


def test_every_trained_step_of_grpo_is_differentiated_once():
    found = cost(GRPO())
    assert found.nfe["train"] == found.differentiated == 4, "the window's four steps"
    assert found.units == found.nfe["rollout"] + found.nfe.get("probe", 0) + found.nfe["look back"] + 2 * 4, (
        "a backward pass is one forward"
    )


def test_a_reference_is_asked_and_not_differentiated():
    plain, pulled = cost(GRPO()), cost(GRPO(kl=0.1))
    assert pulled.differentiated == plain.differentiated
    assert sum(pulled.nfe.values()) == sum(plain.nfe.values()) + 4


def test_of_two_passes_only_the_second_is_differentiated():
    found = cost(DGPO())
    draws = found.differentiated
    assert draws > 0
    assert sum(found.nfe.values()) - found.nfe["rollout"] >= 2 * draws, "the first pass is counted, too"


@pytest.mark.parametrize("objective", [AWM(), CRD(), DGPO(), FPO(), RAM(), VGRPO(), DiffusionNFT()])
def test_objectives_of_lagged_policies_are_counted_and_train_no_step(objective):
    config = replace(CONFIG, objective=objective)
    assert cost(objective).differentiated > 0
    plan = config.plan(0, 0, config.sigmas())
    assert plan.trained == () and plan.stochastic == replace(CONFIG).plan(0, 0, config.sigmas()).stochastic


@pytest.mark.parametrize(
    ("objective", "cells", "forwards"),
    [
        (FPO(), 8, 3),
        (FPO(per_draw=True), 8, 2),
        (VGRPO(), 4, 1),
        (VGRPO(clip=0.05), 4, 3),
        (RAM(), 8, 3),
        (CRD(), 5, 5),
        (CRD(kl=0.0), 5, 3),
        (AWM(), 6, 4),
        (DGPO(), 4, 5),
        (DiffusionNFT(), 5, 3),
    ],
)
def test_forwards_of_a_cell_are_those_that_the_docstring_tells(objective, cells, forwards):
    found = cost(objective)
    looked_back = found.nfe.get("look back", 0)
    assert sum(found.nfe.values()) - found.nfe["rollout"] - looked_back == cells * forwards
    assert found.differentiated == cells


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("images", "prompts", "batch"), [(4, 2, 16), (12, 8, 16), (12, 8, 5), (3, 1, 4), (6, 20, 4)])
def test_calls_and_rows_are_those_of_the_iteration_that_is_trained(images, prompts, batch, beside):
    """Counted beforehand, and by the model that trains: rollouts, update, and the images of both."""
    config = TrainConfig(
        iterations=1,
        steps=6,
        images_per_prompt=images,
        prompts_per_iteration=prompts,
        planner=WindowPlanner(window=FrozenWindow(size=2, start=2)),
        updates=2,
        eval_every=0,
        rollout_batch=batch,
        update_batch=batch,
        decode_batch=batch,
        decode_beside=beside,
    )
    calls, decoded = [], []

    class Counted(ToyModel):
        def run(self, conds, body):
            def counted(velocity):
                def called(x, sigma, rows=None):
                    calls.append(1 + torch.is_grad_enabled())
                    return velocity(x, sigma, rows)

                return body(called)

            return super().run(conds, counted)

        def decode(self, x, *, grad=False):
            decoded.append(len(x))
            return super().decode(x, grad=grad)

        def decoder(self):
            return copy(self)

    model, work = Counted(), Workload(config, shown=0)
    (report,) = train(model, ["a" * n for n in range(1, 30)], {"red": Red()}, config)
    count = images * prompts
    found = iteration_cost(config, 0)
    assert {name: n * count for name, n in found.nfe.items()} == pytest.approx(
        {name: n * count for name, n in report.nfe.items()}
    )
    assert found.calls * count == pytest.approx(sum(calls))
    assert sum(decoded) == work.images == count
    probe = found.nfe.get("probe", 0) * count
    assert work.rows(0, 1) + work.units(0, 1) == pytest.approx(found.units * count - 0.9 * probe)
    assert work.calls(0, 1) == pytest.approx(sum(calls), rel=1e-6 if count <= 128 else 0.1)
