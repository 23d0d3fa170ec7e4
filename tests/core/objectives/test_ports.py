"""What MixGRPO is not, through its ports unchanged: a tree, a forward-process loss, an advantage per position."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest
import torch
from toy import ToyModel

from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.models.lagged import Lag, Lagged
from mixgrpo_core.objectives import (
    AWM,
    DGPO,
    GCPO,
    GRPO,
    DiffusionNFT,
    FlowDPPO,
    GuardGRPO,
    PositionalGRPO,
    RatioObjective,
)
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.objectives.port import NEEDS
from mixgrpo_core.objectives.update import UpdateSettings, update_policy
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import ODE, SDE, Step, StepPlan, deterministic_plan, windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M
from mixgrpo_core.support.phases import PhaseClock

COND = 0.5


class Toy(ToyModel):
    """In double precision, with a LoRA that does something (``up`` > 0)."""

    def __init__(self, up=0.3):
        super().__init__()
        torch.nn.init.normal_(self.up, std=up, generator=torch.Generator().manual_seed(1))
        for parameter in self.parameters():
            parameter.data = parameter.data.double()

    def noise(self, seed, count):
        return super().noise(seed, count).double()


def sample(model, plan, size, *, seed=0, **sampling):
    sampling = RolloutSettings(kernel=FlowSDE(0.7), store_dtype=torch.float64, **sampling)
    return rollout(model, COND, plan, sampling, group_size=size, seed=seed)


def update(model, trajectory, advantage, objective, *, lr=0.0, **updating):
    """One call of ``update_policy`` on one group; the last gradient by parameter, and the figures."""
    clock = PhaseClock(lambda: model.evaluations)
    group = Group(cond=COND, trajectory=trajectory, advantage=advantage)
    settings = UpdateSettings(**{"updates": 1, "batch": 64, "max_grad_norm": float("inf"), **updating})
    lagged = {name: Lagged(lag, model.lora_state()) for name, lag in objective.policies.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with clock.phase("train"):
        stats = update_policy(model, [group], objective, optimizer, settings, clock=clock, lagged=lagged)
    return [parameter.grad.clone() for parameter in model.parameters()], stats, clock


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


# --- a tree ------------------------------------------------------------------------------------------------------

BRANCH = Step(stochastic=True, trained=True, children=2)


def tree_plan(*steps):
    return StepPlan(flow_sigmas(len(steps), 3.0), steps)


def test_the_two_leaves_of_a_tree_share_their_ancestors_bit_by_bit():
    model = Toy()
    trajectory = sample(model, tree_plan(ODE, SDE, BRANCH, SDE, ODE, ODE), 2)
    shared, fork, apart = trajectory.transitions
    assert len(shared.x) == len(fork.x) == 1
    assert len(apart.x) == 2
    assert shared.parent.tolist() == fork.parent.tolist() == [0, 0]
    assert apart.parent.tolist() == [0, 1]
    assert torch.equal(shared.x_next[0], shared.x_next[1])
    assert torch.equal(shared.old_log_prob[:1], shared.old_log_prob[1:])
    assert torch.equal(fork.x[fork.parent], shared.x_next)
    assert torch.equal(apart.x[apart.parent], fork.x_next)
    assert not torch.equal(fork.x_next[0], fork.x_next[1])
    assert not torch.equal(trajectory.final[0], trajectory.final[1])
    assert trajectory.nfe == {"prefix": 1, "window": 1 + 1 + 2, "suffix": 4}
    assert model.evaluations == 9


def test_the_leaves_of_a_deep_tree_stand_in_the_order_of_their_ancestors():
    """Three roots that fan out at the first stochastic step, then two children each, then three."""
    trajectory = sample(Toy(), tree_plan(SDE, BRANCH, ODE, replace(BRANCH, children=3), ODE), 18)
    edges = [transition.x_next.flatten(1) for transition in trajectory.transitions]
    for edge, distinct in zip(edges, (3, 6, 18), strict=True):
        blocks = edge.view(distinct, 18 // distinct, -1)
        assert (blocks == blocks[:, :1]).all()
        assert len(torch.unique(blocks[:, 0], dim=0)) == distinct
    assert [len(transition.x) for transition in trajectory.transitions] == [1, 3, 6]
    assert trajectory.nfe == {"prefix": 0, "window": 1 + 3 + 6 + 6, "suffix": 18}


def test_a_tree_that_branches_at_once_and_one_with_independent_roots():
    trajectory = sample(Toy(), tree_plan(BRANCH, SDE, ODE), 6)
    first, second = trajectory.transitions
    assert (len(first.x), len(second.x), len(torch.unique(first.x_next.flatten(1), dim=0))) == (1, 6, 6)
    trajectory = sample(Toy(), tree_plan(BRANCH, SDE, ODE), 6, shared_noise=False)
    first, second = trajectory.transitions
    assert (len(first.x), len(second.x)) == (3, 6)
    assert first.parent.tolist() == [0, 0, 1, 1, 2, 2]


def test_every_leaf_is_the_chain_of_its_own_draws():
    """Each leaf, followed alone through the noise of its ancestors, ends where the tree put it."""
    model = Toy()
    plan = tree_plan(ODE, SDE, BRANCH, ODE, BRANCH, ODE, ODE)
    trajectory = sample(model, plan, 8, tail_solver=DPMpp2M())
    recorded = dict(zip(plan.trained, trajectory.transitions, strict=True))

    @torch.no_grad()
    def chain(velocity, leaf):
        x, state, tail = recorded[1].x[:1], None, DPMpp2M()
        for i in range(1, len(plan.steps)):
            sigma, sigma_next = plan.sigmas[i], plan.sigmas[i + 1]
            v = velocity(x, sigma)
            if i in recorded:
                gaussian = FlowSDE(0.7)(x, v, sigma, sigma_next)
                t = recorded[i]
                torch.testing.assert_close(t.x[t.parent[leaf]], x[0], rtol=0, atol=1e-12)
                log_prob = gaussian.log_prob(t.x_next[leaf : leaf + 1])
                torch.testing.assert_close(t.old_log_prob[leaf : leaf + 1], log_prob, rtol=0, atol=1e-12)
                x = t.x_next[leaf : leaf + 1]
            elif i > plan.stochastic[-1]:
                x, state = tail.step(x, v, sigma, sigma_next, state)
            else:
                x = x - float(sigma - sigma_next) * v
        return x[0]

    final = model.run([COND], lambda velocity: torch.stack([chain(velocity, leaf) for leaf in range(8)]))
    torch.testing.assert_close(trajectory.final, final, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 64])
def test_a_shared_edge_learns_from_the_mean_advantage_of_its_leaves(batch):
    model = Toy()
    tree = sample(model, tree_plan(ODE, SDE, BRANCH, ODE, ODE), 6)
    advantage = group_advantages(torch.tensor([3.0, 1.0, 0.5, -2.0, 0.0, 7.0]).double())
    edges = replace(tree, transitions=tree.transitions[:1])  # three distinct edges, two leaves on each
    leaves, _, clock = update(model, edges, advantage, GRPO(), batch=batch)
    assert clock.evaluations["train"] == 1
    one_per_edge = edges.select(torch.tensor([0, 2, 4]))
    means, _, _ = update(model, one_per_edge, advantage.view(3, 2).mean(1), GRPO(), batch=batch)
    torch.testing.assert_close(flat(leaves), flat(means), rtol=1e-9, atol=1e-12)
    assert flat(means).norm() > 1e-3


def test_leaves_that_cancel_teach_their_shared_edge_nothing_and_their_own_edges_something():
    model, advantage = Toy(), torch.tensor([1.0, -1.0])
    tree = sample(model, tree_plan(ODE, SDE, BRANCH, ODE, ODE), 2)
    shared, own = (replace(tree, transitions=(transition,)) for transition in tree.transitions)
    assert flat(update(model, shared, advantage, GRPO())[0]).norm() < 1e-12
    whole, (alone, _, _) = update(model, tree, advantage, GRPO())[0], update(model, own, advantage, GRPO())
    assert flat(alone).norm() > 1e-3
    torch.testing.assert_close(flat(whole) * 2, flat(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [GRPO(), GuardGRPO()], ids=["grpo", "guard"])
def test_a_row_serves_all_its_leaves_in_training(objective):
    model = Toy()
    tree = sample(model, tree_plan(ODE, SDE, BRANCH, SDE, ODE), 8, keep_mean=True)
    _, stats, clock = update(model, tree, group_advantages(torch.arange(8.0)), objective, batch=3)
    assert clock.evaluations["train"] == 1 + 4 + 8  # of 3 * 8 without sharing
    assert stats.figures["ratio_first"] < 1e-12


# --- a forward-process objective ---------------------------------------------------------------------------------

ON_POLICY = Lag(every="iteration")


@dataclass(frozen=True)
class Watched(DiffusionNFT):
    """Keeps what it was shown: points, levels, the lagged velocities, and how many members came at once."""

    seen: list = field(default_factory=list)

    def terms(self, policy, piece):
        self.seen.append((piece, policy.named("lagged", piece.x, piece.sigma)))
        return super().terms(policy, piece)


def nft_samples(model, size=64):
    """Deterministic samples from independent noise, and how bright their first value is."""
    trajectory = sample(model, deterministic_plan(flow_sigmas(10, 1.0)), size, shared_noise=False)
    assert trajectory.transitions == ()
    return trajectory, trajectory.final[:, 0, 0, 0]


def regression_error(model, x0):
    """Mean of |v - (eps - x0)|^2 over fixed noise: how well the model predicts these images."""
    noise = torch.randn(32, *x0.shape, generator=torch.Generator().manual_seed(7), dtype=x0.dtype)
    errors = []
    for i, eps in enumerate(noise):
        sigma = torch.tensor(0.1 + 0.8 * i / 31, dtype=x0.dtype)
        with torch.no_grad():
            x = (1 - sigma) * x0 + sigma * eps
            v = model.run([COND], lambda velocity, x=x, sigma=sigma: velocity(x, sigma))
        errors.append((v - (eps - x0)).square().mean())
    return float(torch.stack(errors).mean())


def test_nft_regresses_toward_the_better_samples_and_away_from_the_worse():
    model = Toy(up=0.05)
    trajectory, score = nft_samples(model)
    advantage = torch.where(score > score.median(), 5.0, -5.0)
    good, bad = trajectory.final[advantage > 0], trajectory.final[advantage < 0]
    before, start = (regression_error(model, good), regression_error(model, bad)), float(score.mean())
    objective = DiffusionNFT(kl=0.0)
    _, stats, clock = update(model, trajectory, advantage, objective, lr=0.2, updates=4, epochs=10)
    assert stats.steps == 40
    assert stats.to_json()["ratio_first"] is None
    assert regression_error(model, good) < before[0] - 0.01
    assert regression_error(model, bad) > before[1] + 0.01
    assert float(nft_samples(model)[1].mean()) > start + 0.1
    # one each, per member, level and pass
    assert clock.evaluations["train"] == clock.evaluations["reference"] == 64 * 9 * 10


def test_neutral_advantages_teach_nft_nothing():
    model, objective = Toy(), DiffusionNFT(beta=0.7, kl=0.0)
    trajectory, _ = nft_samples(model)
    gradient, _, _ = update(model, trajectory, torch.zeros(64), objective, batch=10)
    assert flat(gradient).norm() < 1e-12
    gradient, _, _ = update(model, trajectory, torch.full((64,), 2.0), objective, batch=10)
    assert flat(gradient).norm() > 1e-2


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_nft_starts_as_regression_weighted_by_the_advantage(beta):
    """At ``v = v'`` its gradient is that of ``mean(clip(A, 5) |x0_hat - x0|^2 / size)``: beta and v- drop out."""
    model = Toy()
    trajectory, _ = nft_samples(model, size=8)
    advantage = torch.tensor([8.0, 5.0, 2.0, 0.5, 0.0, -1.0, -4.0, -9.0]).double()
    objective = Watched(beta=beta, kl=0.0)
    gradient, _, _ = update(model, trajectory, advantage, objective)
    errors = []
    for piece, _ in objective.seen:
        v = model.run([COND], lambda velocity, piece=piece: velocity(piece.x, piece.sigma))
        difference = piece.x - piece.sigma * v - trajectory.final
        weight = advantage.clamp(-5, 5) / difference.detach().abs().flatten(1).mean(1)
        errors.append((weight * difference.square().flatten(1).mean(1)).mean())
    assert len(errors) == 9
    expected = torch.autograd.grad(torch.stack(errors).mean(), list(model.parameters()))
    torch.testing.assert_close(flat(gradient), flat(expected), rtol=1e-9, atol=1e-12)


def test_the_lagged_policy_stays_while_the_policy_moves_inside_an_iteration():
    model, rolled_out = Toy(), Toy()
    trajectory, score = nft_samples(model, size=8)
    objective = Watched(lag=ON_POLICY)
    update(model, trajectory, group_advantages(score), objective, lr=0.5, updates=2, epochs=2, batch=3)
    sizes = [len(piece.members) for piece, _ in objective.seen]
    assert sizes == [3, 1] * 9 * 2 * 2  # two updates of four members each, in pieces of at most three
    for piece, lagged in objective.seen:
        x, sigma = piece.x, piece.sigma
        assert not lagged.requires_grad
        with torch.no_grad():
            assert torch.equal(lagged, rolled_out.run([COND], lambda velocity, x=x, s=sigma: velocity(x, s)))
            moved = model.run([COND], lambda velocity, x=x, s=sigma: velocity(x, s))
        assert (moved - lagged).abs().max() > 1e-2


def test_a_policy_that_nobody_keeps_is_refused():
    @dataclass(frozen=True)
    class Forgetful(DiffusionNFT):
        policies = MappingProxyType({})

    model = Toy()
    trajectory, score = nft_samples(model, size=4)
    with pytest.raises(ValueError, match="'lagged'"):
        update(model, trajectory, score, Forgetful())


def test_the_old_policy_is_refused_to_who_did_not_name_it():
    @dataclass(frozen=True)
    class Forgetful(AWM):
        needs = frozenset()

    model = Toy()
    trajectory, score = nft_samples(model, size=4)
    with pytest.raises(ValueError, match="'old'"):
        update(model, trajectory, score, Forgetful())


# --- an advantage per position -----------------------------------------------------------------------------------


WINDOW = windowed_plan(flow_sigmas(7, 3.0), range(1, 4))
POSITIONS = (1, 2, 2)
CHANNELS = 3


@pytest.mark.parametrize(
    "objective", [AWM(), DGPO(), DiffusionNFT(), FlowDPPO(), GCPO(), PositionalGRPO()], ids=lambda o: type(o).__name__
)
def test_the_ports_know_the_words_these_objectives_use(objective):
    assert objective.needs <= NEEDS
    assert objective.label
    assert objective.plain_field == isinstance(objective, AWM | DGPO | DiffusionNFT)
    assert isinstance(objective, RatioObjective) != objective.plain_field


def positional_advantage(size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, *POSITIONS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("batch", [2, 64])
def test_masked_positions_get_no_gradient_and_the_others_do(batch):
    """A row of ``up`` makes one element of the velocity: it moves if and only if its place is not masked."""
    model = Toy()
    trajectory = sample(model, WINDOW, 6, keep_mean=True)
    mask = torch.zeros(POSITIONS)
    mask[0, 0, 1] = mask[0, 1, 0] = 1
    before = model.up.detach().clone()
    (_, up), _, _ = update(
        model, trajectory, positional_advantage() * mask, PositionalGRPO(), lr=0.5, batch=batch, epochs=3
    )
    free = mask.expand(CHANNELS, 2, 2).flatten().bool()
    assert (up[~free] == 0).all()
    assert torch.equal(model.up[~free], before[~free])
    assert (up[free].abs().sum(1) > 1e-6).all()
    assert ((model.up - before)[free].abs().sum(1) > 1e-6).all()


def test_masking_a_step_and_a_member_leaves_the_rest_of_the_gradient():
    model = Toy()
    trajectory = sample(model, WINDOW, 6, keep_mean=True)
    advantage = positional_advantage()
    masked = advantage.clone()
    masked[:, (0, 2)] = 0  # only the second step is left,
    masked[4:] = 0  # and of it four members of six
    gradient, _, _ = update(model, trajectory, masked, PositionalGRPO(), batch=4)
    members = torch.arange(4)
    left = replace(trajectory, transitions=trajectory.transitions[1:2]).select(members)
    alone, _, _ = update(model, left, advantage[members, 1:2], PositionalGRPO())
    torch.testing.assert_close(flat(gradient) * 3 * 6 / 4, flat(alone), rtol=1e-9, atol=1e-12)


def test_an_even_advantage_per_position_is_grpo_times_the_channels():
    """At ratio 1 the mean over positions of ``A r`` has its gradient once for every channel of their sums."""
    model = Toy()
    trajectory = sample(model, WINDOW, 6, keep_mean=True)
    advantage = group_advantages(torch.tensor([1.0, 4.0, 2.0, 0.0, 3.0, 9.0]))
    spread = advantage.view(6, 1, 1, 1, 1).expand(6, 3, *POSITIONS)
    by_position, stats, _ = update(model, trajectory, spread, PositionalGRPO(), batch=4)
    whole, _, _ = update(model, trajectory, advantage, GRPO())
    torch.testing.assert_close(flat(by_position), CHANNELS * flat(whole), rtol=1e-9, atol=1e-12)
    assert stats.figures["ratio_first"] < 1e-12


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 1, 1), (1, 2, 1)], ids=str)
def test_an_advantage_that_broadcasts_over_the_latent_is_the_expanded_one(shape):
    model = Toy()
    trajectory = sample(model, WINDOW, 6, keep_mean=True)
    generator = torch.Generator().manual_seed(2)
    given = torch.randn(6, 3, *shape, generator=generator, dtype=torch.float64)
    narrow, _, _ = update(model, trajectory, given, PositionalGRPO(), batch=4)
    wide, _, _ = update(model, trajectory, given.expand(6, 3, CHANNELS, 2, 2), PositionalGRPO(), batch=4)
    torch.testing.assert_close(flat(narrow), flat(wide), rtol=1e-12, atol=0)
    assert flat(wide).norm() > 1e-3


def test_chunks_and_recomputed_means_carry_an_advantage_per_position():
    """With kernels that depend on the batch, means and log-probs are taken anew before the first step."""
    model = Toy()
    trajectory = sample(model, WINDOW, 6, keep_mean=True)
    model.noise_of_batching = 0.5
    mask = torch.zeros(POSITIONS)
    mask[0, 1] = 1
    before = model.up.detach().clone()
    _, stats, _ = update(model, trajectory, positional_advantage() * mask, PositionalGRPO(), updates=3, batch=2, lr=0.1)
    assert stats.steps == 3
    assert stats.recomputed
    assert stats.ratio_noise > 0.02
    assert stats.figures["ratio_first"] < 1e-12
    moved = (model.up - before).detach().abs().sum(1).view(CHANNELS, 2, 2)
    assert (moved[:, 0] == 0).all()
    assert (moved[:, 1] > 0).all()
