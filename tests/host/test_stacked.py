"""Prompts of several conditionings in one call of the host's network: alike ones are stacked, others have their own."""

from contextlib import nullcontext

import pytest
import torch
from canvas import loaded, policy
from mixgrpo_pack.mixgrpo_core.models.port import alike
from mixgrpo_pack.mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_pack.mixgrpo_core.sampling.planners import windowed_plan
from mixgrpo_pack.mixgrpo_core.sampling.rollouts import Prompt, RolloutSettings, rollout, rollout_together
from mixgrpo_pack.mixgrpo_core.support.queued import sent
from mixgrpo_pack.nodes.host.inside import Inside
from pretend_gpu import GPU, PretendGpu

CAPTIONS = ("a small red circle on the left", "a large blue square on the right", "a green triangle")


@pytest.fixture(scope="module")
def parts():
    return loaded()


def longer(cond):
    """The same text with its last token once more."""
    return tuple(
        side and [[torch.cat([tokens, tokens[:, -1:]], 1), values] for tokens, values in side] for side in cond
    )


@pytest.fixture
def calls(monkeypatch):
    """The rows of every call of the network."""
    rows = []

    def watch(model):
        network = model.patcher.model.diffusion_model
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda x, *a, **k: (rows.append(len(x)), forward(x, *a, **k))[1])
        return rows

    return watch


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_prompts_alike_share_a_call_and_others_have_their_own(parts, calls, cfg):
    with policy(*parts, cfg=cfg) as model, torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        conds = [*map(model.encode, CAPTIONS)]
        conds.append(longer(conds[0]))
        assert [alike(model, cond) == alike(model, conds[0]) for cond in conds] == [True, True, True, False]
        prompts = [
            Prompt(cond=cond, plan=windowed_plan(model.grid(4), range(1, 2)), seed=seed)
            for seed, cond in enumerate(conds)
        ]
        sampling = RolloutSettings(kernel=FlowSDE(0.5), batch=8)
        plain = [rollout(model, one.cond, one.plan, sampling, group_size=3, seed=one.seed) for one in prompts]
        rows = calls(model)
        found = rollout_together(model, prompts, sampling, group_size=3)
        each = int(cfg)  # guidance has a row of its own in the same call
        assert rows == [each * count for count in (3, 1, 3, 1, 8, 1, 3, 8, 1, 3)]
        for one, other in zip(found, plain, strict=True):
            torch.testing.assert_close(one.final, other.final, rtol=0, atol=1e-4)
            assert one.nfe == other.nfe
        assert (found[0].final - found[1].final).abs().max() > 0.1
        # a masked conditioning asks for a call of its own, too, and rows come back in their order
        masked = [(conds[1][0][0][0], {**conds[1][0][0][1], "mask": torch.ones(1, 64, 64)})]
        pair, x = [conds[0], (masked, conds[1][1])], model.noise(0, 3)
        rows.clear()
        v = model.run(pair, lambda velocity: velocity(x, torch.tensor(0.6), torch.tensor([1, 0, 1])))
        alone = [model.run([cond], lambda velocity: velocity(x, torch.tensor(0.6))) for cond in conds[:2]]
        assert rows[:2] == [each, 2 * each]
        torch.testing.assert_close(v, torch.stack([alone[1][0], alone[0][1], alone[1][2]]), rtol=0, atol=1e-4)


class Guided:
    """What the host's sampler is given, of a network that doubles; its prompts have two conditionings each, which need
    calls of their own."""

    def __init__(self):
        roles = ("positive", "negative")
        self.conds = {f"{role}{row}": [{"of": row}] * 2 for role in roles for row in ("", " 1")}
        self.heard = []

    def __call__(self, x, level):
        self.heard.append((self.conds["positive"][0]["of"], len(x), level))
        return 2 * x


def test_calls_of_their_own_are_cut_without_waiting_for_a_gpu():
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))

    def asked(x):
        network, own = Guided(), torch.tensor([1, 0, 1])
        inside = Inside(lambda velocity: velocity(x, torch.tensor(0.3), own), nullcontext(), 2, None)
        inside.sample(network, None, {}, None, None)
        return inside.result, network.heard

    expected = (x - 2 * x) / torch.tensor(0.3)
    assert torch.equal(asked(x)[0], expected)
    with PretendGpu() as gpu:
        found, heard = asked(sent(x, GPU))
        assert not +gpu.waits
        assert torch.equal(found.cpu(), expected)
        assert [(row, count, level.tolist()) for row, count, level in heard] == [
            (row, count, torch.full((count,), 0.3).tolist()) for row, count in (("", 1), (" 1", 2))
        ]
