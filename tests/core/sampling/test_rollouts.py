"""Rollouts: what is shared, what it costs, what is kept; against a sampler that shares nothing."""

import gc
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from toy import ToyModel

from mixgrpo_core.objectives.pieces import Draw, Group, Moment, draw_columns, transition_pieces
from mixgrpo_core.objectives.table import cells_of
from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE
from mixgrpo_core.sampling.planners import ODE, Step, StepPlan, WindowPlanner, deterministic_plan, windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M, Euler
from mixgrpo_core.sampling.trajectory import Trajectory, Transition
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.support.seeds import derive_seed

COND = 0.7


class Recorder(ToyModel):
    """A toy with a LoRA that does something; notes the noise it gives and the rows of every call."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        torch.nn.init.normal_(self.up, std=0.3, generator=torch.Generator().manual_seed(seed + 1))
        self.drawn, self.calls = [], []

    def noise(self, seed, count):
        self.drawn.append(super().noise(seed, count))
        return self.drawn[-1]

    def run(self, cond, body):
        def counted(velocity):
            def call(x, sigma):
                self.calls.append(len(x))
                return velocity(x, sigma)

            return body(call)

        return super().run(cond, counted)


class Wide(ToyModel):
    """Latents of 256 KiB, so that what a rollout keeps stands out."""

    latent_shape = (4, 128, 128)

    def run(self, cond, body):
        def velocity(x, sigma):
            self.evaluations += len(x)
            return x * 0.9 - cond[0]

        return body(velocity)


def window_plan(steps, size, start, shift=3.0):
    return windowed_plan(flow_sigmas(steps, shift), range(start, start + size))


@torch.no_grad()
def unshared(model, plan, sampling, noise, group_size, carry_history=False):
    """Every member from a root of its own, one row per call: states ``[T + 1, G, *L]``."""
    start, *draws = noise
    start = start.expand(group_size, *model.latent_shape)

    def body(velocity):
        return torch.stack([member(velocity, g) for g in range(group_size)], 1)

    def member(velocity, g):
        x, solver, state, remaining = start[g : g + 1], sampling.solver, None, list(draws)
        states = [x[0]]
        for i, step in enumerate(plan.steps):
            v = velocity(x, plan.sigmas[i])
            if step.stochastic:
                x = sampling.kernel(x, v, plan.sigmas[i], plan.sigmas[i + 1]).sample(remaining.pop(0)[g : g + 1])
                solver = sampling.tail_solver if i == plan.stochastic[-1] else sampling.solver
                state = state if carry_history else solver.init()
            else:
                x, state = solver.step(x, v, plan.sigmas[i], plan.sigmas[i + 1], state)
            states.append(x[0])
        return torch.stack(states)

    return model.run([COND], body)


def assert_same_as_unshared(trajectory, states, atol=1e-6):
    for transition in trajectory.transitions:
        torch.testing.assert_close(transition.x[transition.parent], states[transition.step], rtol=0, atol=atol)
        torch.testing.assert_close(transition.x_next, states[transition.step + 1], rtol=0, atol=atol)
    torch.testing.assert_close(trajectory.final, states[-1], rtol=0, atol=atol)


# --- sharing -----------------------------------------------------------------------------------------------------


def test_members_are_one_image_up_to_the_first_stochastic_step_and_twelve_after():
    model = Recorder()
    trajectory = rollout(model, COND, window_plan(10, 3, 4), RolloutSettings(kernel=FlowSDE()), group_size=12, seed=0)
    assert model.calls == [1] * 5 + [12] * 5
    first, *rest = trajectory.transitions
    assert len(first.x) == 1
    assert (first.parent == 0).all()
    for transition in rest:
        assert transition.parent.tolist() == list(range(12))
    for after in (first.x_next, *(t.x_next for t in rest), trajectory.final):
        assert len(torch.unique(after.flatten(1), dim=0)) == 12


def test_without_a_stochastic_step_all_images_are_equal_and_cost_one():
    model = Recorder()
    plan = deterministic_plan(flow_sigmas(8))
    trajectory = rollout(model, COND, plan, RolloutSettings(kernel=FlowSDE()), group_size=5, seed=0)
    assert len(trajectory.final) == 5
    assert len(torch.unique(trajectory.final.flatten(1), dim=0)) == 1
    assert (model.evaluations, trajectory.transitions) == (8, ())
    assert_same_as_unshared(trajectory, unshared(model, plan, RolloutSettings(kernel=FlowSDE()), model.drawn, 5))


@pytest.mark.parametrize(("start", "nfe_of_four_prompts"), [(0, 1156), (6, 892), (12, 628)])
@pytest.mark.parametrize("kernel", [FlowSDE(0.7), DanceSDE(0.3), FlowCPS(0.8)], ids=lambda k: type(k).__name__)
def test_shared_prefix_is_the_plain_computation_at_the_predicted_cost(kernel, start, nfe_of_four_prompts):
    steps, size, group, total = 25, 4, 12, 0
    for prompt in range(4):
        model, sampling, plan = Recorder(prompt), RolloutSettings(kernel=kernel), window_plan(steps, size, start)
        trajectory = rollout(model, COND, plan, sampling, group_size=group, seed=prompt)
        suffix = group * (steps - start - size)
        assert trajectory.nfe == {"prefix": start, "window": 1 + (size - 1) * group, "suffix": suffix}
        assert sum(model.calls) == sum(trajectory.nfe.values())
        total += model.evaluations
        states = unshared(model, plan, sampling, model.drawn, group)
        assert sum(model.calls) - sum(trajectory.nfe.values()) == steps * group  # 1200 for four prompts
        assert_same_as_unshared(trajectory, states)
    assert total == nfe_of_four_prompts


def test_independent_noise_shares_nothing():
    model, sampling, plan = Recorder(), RolloutSettings(kernel=FlowSDE(), shared_noise=False), window_plan(9, 2, 3)
    trajectory = rollout(model, COND, plan, sampling, group_size=6, seed=0)
    assert trajectory.nfe == {"prefix": 3 * 6, "window": 2 * 6, "suffix": 4 * 6}
    assert len(torch.unique(trajectory.transitions[0].x.flatten(1), dim=0)) == 6
    assert_same_as_unshared(trajectory, unshared(model, plan, sampling, model.drawn, 6))


def test_independent_noise_without_a_stochastic_step_gives_different_images():
    sampling = RolloutSettings(kernel=FlowSDE(), shared_noise=False)
    final = rollout(Recorder(), COND, deterministic_plan(flow_sigmas(6)), sampling, group_size=4, seed=0).final
    assert len(torch.unique(final.flatten(1), dim=0)) == 4


def test_scattered_steps_of_which_some_are_not_trained():
    """An untrained stochastic step comes first, then a deterministic one, then trained and untrained ones."""
    kinds = [ODE, Step(stochastic=True), ODE, *[Step(stochastic=True, trained=t) for t in (True, False, True)], ODE]
    model, sampling = Recorder(), RolloutSettings(kernel=FlowSDE(0.5), solver=DPMpp2M())
    plan = StepPlan(flow_sigmas(7), tuple(kinds))
    trajectory = rollout(model, COND, plan, sampling, group_size=4, seed=0)
    assert [t.step for t in trajectory.transitions] == [3, 5] == list(plan.trained)
    assert model.calls == [1, 1, 4, 4, 4, 4, 4]
    assert trajectory.nfe == {"prefix": 1, "window": 1 + 16, "suffix": 4}
    assert_same_as_unshared(trajectory, unshared(model, plan, sampling, model.drawn, 4))


def test_strength_scales_the_noise_of_its_step():
    plan = StepPlan(flow_sigmas(4), (ODE, Step(stochastic=True, trained=True, strength=0.5), ODE, ODE))
    trajectory = rollout(Recorder(), COND, plan, RolloutSettings(kernel=DanceSDE(0.8)), group_size=4000, seed=0)
    (transition,) = trajectory.transitions
    spread = transition.x_next.std(0).mean().item()
    assert spread == pytest.approx(0.8 * 0.5 * 0.25**0.5, rel=0.02)  # g sqrt(h)


# --- plans, solvers ----------------------------------------------------------------------------------------------


def test_flash_samples_the_shortened_tail_with_its_own_solver():
    base = flow_sigmas(25, 3.0)
    plan = WindowPlanner(FrozenWindow(4, 6), tail_ratio=0.4).plan(0, 0, base)
    assert plan.stochastic == plan.trained == (6, 7, 8, 9)
    assert len(plan.steps) == 10 + 6
    assert torch.equal(plan.sigmas[:11], base[:11])
    assert plan.sigmas[-1] == 0
    model, sampling = Recorder(), RolloutSettings(kernel=FlowSDE(), tail_solver=DPMpp2M())
    trajectory = rollout(model, COND, plan, sampling, group_size=12, seed=3)
    assert trajectory.nfe == {"prefix": 6, "window": 1 + 3 * 12, "suffix": 6 * 12}
    assert_same_as_unshared(trajectory, unshared(model, plan, sampling, model.drawn, 12))
    euler = unshared(model, plan, RolloutSettings(kernel=FlowSDE()), model.drawn, 12)
    assert not torch.allclose(trajectory.final, euler[-1], atol=1e-3)
    torch.testing.assert_close(trajectory.transitions[-1].x_next, euler[10], rtol=0, atol=1e-6)


def test_leaving_the_window_resets_the_history_of_the_solver():
    plan = window_plan(12, 3, 3)
    model, sampling = Recorder(), RolloutSettings(kernel=FlowSDE(), solver=DPMpp2M(), tail_solver=DPMpp2M())
    trajectory = rollout(model, COND, plan, sampling, group_size=3, seed=0)
    fresh = unshared(model, plan, sampling, model.drawn, 3)
    stale = unshared(model, plan, sampling, model.drawn, 3, carry_history=True)
    assert_same_as_unshared(trajectory, fresh)
    torch.testing.assert_close(fresh[:7], stale[:7])
    assert (fresh[7] - stale[7]).abs().max() > 1e-3  # so the reset is seen


# --- batches, seeds, cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5, 12, 100])
def test_splitting_the_batch_changes_nothing(batch):
    plan = window_plan(8, 3, 2)
    whole = rollout(Recorder(), COND, plan, RolloutSettings(kernel=FlowSDE()), group_size=12, seed=0)
    model = Recorder()
    parts = rollout(model, COND, plan, RolloutSettings(kernel=FlowSDE(), batch=batch), group_size=12, seed=0)
    assert max(model.calls) == min(batch, 12)
    assert parts.nfe == whole.nfe
    torch.testing.assert_close(parts.final, whole.final, rtol=0, atol=1e-6)
    for a, b in zip(parts.transitions, whole.transitions, strict=True):
        torch.testing.assert_close(a.old_log_prob, b.old_log_prob, rtol=0, atol=1e-5)


def noise_of(model, transition):
    """The standard normal draw that made a transition."""
    v = model.run([COND], lambda velocity: velocity(transition.x, transition.sigma))
    gaussian = transition.per_member(transition.gaussian(v))
    return ((transition.x_next - gaussian.mean) / gaussian.std).detach()


def test_a_seed_reproduces_and_no_two_draws_are_equal():
    plan, sampling = window_plan(8, 3, 2), RolloutSettings(kernel=FlowSDE())
    model = Recorder()
    one, again, other = (rollout(model, COND, plan, sampling, group_size=40, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one.final, again.final)
    assert all(torch.equal(a.x_next, b.x_next) for a, b in zip(one.transitions, again.transitions, strict=True))
    assert not torch.equal(one.transitions[0].x, other.transitions[0].x)  # another start
    draws = [noise_of(model, t).flatten() for run in (one, other) for t in run.transitions]
    assert torch.corrcoef(torch.stack(draws)).fill_diagonal_(0).abs().max() < 0.2  # 480 numbers each
    assert torch.stack(draws).std().item() == pytest.approx(1, abs=0.05)


def test_an_observer_that_raises_cancels_at_once():
    def stop(step):
        if step == 3:
            raise KeyboardInterrupt

    model = Recorder()
    with pytest.raises(KeyboardInterrupt):
        rollout(
            model, COND, window_plan(8, 2, 4), RolloutSettings(kernel=FlowSDE()), group_size=4, seed=0, on_step=stop
        )
    assert model.calls == [1] * 4


def test_log_prob_is_the_mean_of_the_normal_density_and_carries_no_graph():
    model = Recorder()
    trajectory = rollout(model, COND, window_plan(8, 3, 2), RolloutSettings(kernel=FlowSDE()), group_size=6, seed=0)
    for t in trajectory.transitions:
        with torch.no_grad():
            v = model.run([COND], lambda velocity, t=t: velocity(t.x, t.sigma))
        gaussian = t.gaussian(v)
        expected = Normal(gaussian.mean[t.parent], gaussian.std).log_prob(t.x_next).flatten(1).mean(1)
        torch.testing.assert_close(t.old_log_prob, expected, rtol=0, atol=1e-5)
        assert not any(tensor.requires_grad for tensor in t.tensors)


# --- what is stored ----------------------------------------------------------------------------------------------


def test_log_prob_is_taken_of_the_stored_value():
    model, sampling = Recorder(), RolloutSettings(kernel=FlowSDE(0.3), store_dtype=torch.bfloat16, keep_mean=True)
    trajectory = rollout(model, COND, window_plan(8, 3, 2), sampling, group_size=8, seed=0)
    draws = model.drawn[1:]
    for transition, noise, following in zip(
        trajectory.transitions, draws, (*trajectory.transitions[1:], None), strict=True
    ):
        assert transition.x_next.dtype == torch.bfloat16
        with torch.no_grad():
            v = model.run([COND], lambda velocity, t=transition: velocity(t.x, t.sigma))
        gaussian = transition.per_member(transition.gaussian(v))
        assert torch.equal(gaussian.log_prob(transition.x_next), transition.old_log_prob)  # the ratio is exactly 1
        unrounded = gaussian.sample(noise)
        assert torch.equal(unrounded.bfloat16(), transition.x_next)
        off = (gaussian.log_prob(unrounded) - transition.old_log_prob).abs().max()
        assert off > 1e-4  # without the round trip it would be off by the published clip range
        torch.testing.assert_close(transition.old_mean[transition.parent], gaussian.mean, rtol=0, atol=0)
        if following is not None:  # the rollout goes on from the stored value
            assert torch.equal(following.x[following.parent], transition.x_next)


@pytest.mark.parametrize(("steps", "keep_mean", "dtype"), [(8, False, 4), (40, False, 4), (8, True, 4), (8, False, 2)])
def test_bytes_kept_are_those_of_theory(steps, keep_mean, dtype):
    group, size, elements = 6, 3, 12
    sampling = RolloutSettings(
        kernel=FlowSDE(), keep_mean=keep_mean, store_dtype={4: torch.float32, 2: torch.bfloat16}[dtype]
    )
    trajectory = rollout(Recorder(), COND, window_plan(steps, size, 2), sampling, group_size=group, seed=0)
    rows = 1 + (size - 1) * group
    shared = elements * 4  # the row that all start from comes from the solver, in float32
    after = size * group * elements * dtype  # what ends one step begins the next, and is kept once
    means = keep_mean * rows * elements * 4
    small = size * (group * 8 + group * 4) + (steps + 1) * 4  # parents, log-probs; the grid, which the levels are of
    assert trajectory.nbytes == shared + after + means + small + group * elements * 4


def live_bytes():
    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if type(tensor) is torch.Tensor
    }
    return sum(storages.values())


def test_memory_does_not_grow_with_the_number_of_steps():
    latent, group, size = 4 * 128 * 128 * 4, 4, 2

    def kept_and_late(steps):
        before, seen = live_bytes(), []
        trajectory = rollout(
            Wide(), COND, window_plan(steps, size, 1), RolloutSettings(kernel=FlowSDE()), group_size=group, seed=0,
            on_step=lambda step: seen.append(live_bytes() - before) if step == steps - 2 else None,
        )  # fmt: skip
        kept = live_bytes() - before
        assert kept <= trajectory.nbytes + 4096  # nothing is kept that nbytes does not tell of
        return kept, seen[0]

    few, many = kept_and_late(6), kept_and_late(30)
    assert few[0] == pytest.approx(many[0], abs=latent // 100)
    assert few[1] == pytest.approx(many[1], abs=latent // 100)
    assert many[0] < latent * (2 + (size + 1) * group)  # every step kept would be 30 x 4 latents and more


# --- taking trajectories apart -----------------------------------------------------------------------------------


@st.composite
def trajectories(draw):
    """Any sharing: each transition's members refer to rows in any order, every row has a member."""
    group = draw(st.integers(1, 13))
    transitions = []
    for step in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(1, group))
        parent = draw(st.permutations([*range(rows), *draw(st.lists(st.integers(0, rows - 1), min_size=group - rows,
                                                                    max_size=group - rows))]))  # fmt: skip
        transitions.append(
            Transition(
                step=step,
                kernel=FlowSDE(),
                x=torch.arange(rows).float()[:, None] + 100 * step,
                parents=torch.tensor(parent),
                edge=torch.arange(group),
                x_next=torch.arange(group).float()[:, None] + 1000 * (step + 1),
                sigma=torch.tensor(0.5),
                sigma_next=torch.tensor(0.4),
                old_log_prob=-torch.arange(group).float() - 100 * step,
                old_mean=torch.arange(rows).float()[:, None] + 0.5 + 100 * step,
            )
        )
    return Trajectory(
        transitions=tuple(transitions), final=torch.arange(group).float()[:, None], sigmas=flow_sigmas(4), nfe={}
    )


def assert_is_part(part, whole, members):
    """`part` says of its members what `whole` says of them."""
    torch.testing.assert_close(part.x[part.parent], whole.x[whole.parent[members]], rtol=0, atol=0)
    torch.testing.assert_close(part.old_mean[part.parent], whole.old_mean[whole.parent[members]], rtol=0, atol=0)
    assert torch.equal(part.x_next, whole.x_next[members])
    assert torch.equal(part.old_log_prob, whole.old_log_prob[members])
    assert len(part.x) == len(torch.unique(whole.parent[members]))  # no row that nobody refers to


@given(trajectories(), st.integers(1, 15))
def test_step_pieces_partition_every_step(trajectory, batch):
    seen = [[] for _ in trajectory.transitions]
    for piece in transition_pieces(Group(cond=None, trajectory=trajectory, advantage=torch.zeros(20)), batch):
        part, whole = piece.step, trajectory.transitions[piece.column.index]
        assert 1 <= len(part.x) <= batch
        assert_is_part(part, whole, piece.members)
        assert torch.equal(piece.final, trajectory.final[piece.members])
        seen[piece.column.index] += piece.members.tolist()
    assert all(sorted(members) == list(range(trajectory.group_size)) for members in seen)


@given(trajectories(), st.data())
def test_selecting_twice_is_selecting_once(trajectory, data):
    members = st.lists(st.integers(0, trajectory.group_size - 1), min_size=1, unique=True)
    first = torch.tensor(data.draw(members))
    second = torch.tensor(data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, unique=True)))
    twice = trajectory.select(first).select(second)
    for part, whole in zip(twice.transitions, trajectory.transitions, strict=True):
        assert_is_part(part, whole, first[second])
    assert torch.equal(twice.final, trajectory.final[first[second]])


def test_cells_of_an_advantage_per_step_and_position():
    trajectory = rollout(
        Recorder(), COND, window_plan(6, 2, 1), RolloutSettings(kernel=FlowSDE()), group_size=4, seed=0
    )
    flat, steps = torch.arange(4.0), torch.arange(8.0).view(4, 2)
    positions = torch.arange(8.0 * 12).view(4, 2, 3, 2, 2)

    def advantages(advantage):
        group = Group(cond=None, trajectory=trajectory, advantage=advantage)
        return [
            cells_of(group, [piece.column], piece.members, (), Moment()).advantages
            for piece in transition_pieces(group, 3)
        ]

    pieces = list(transition_pieces(Group(cond=None, trajectory=trajectory, advantage=flat), 3))
    assert [(p.column.index, p.members.tolist()) for p in pieces] == [(0, [0, 1, 2, 3]), (1, [0, 1, 2]), (1, [3])]
    assert [found.tolist() for found in advantages(flat)] == [[0, 1, 2, 3], [0, 1, 2], [3]]
    assert [found.flatten().tolist() for found in advantages(steps)] == [[0, 2, 4, 6], [1, 3, 5], [7]]
    assert torch.equal(advantages(positions)[2], positions[3:, 1:])
    group = Group(cond=None, trajectory=trajectory, advantage=steps)
    (column,) = draw_columns(group, [Draw(sigma=0.5)])
    with pytest.raises(ValueError, match="advantage per step"):
        cells_of(group, [column], torch.arange(4), (), Moment())


def test_every_member_descends_from_its_state_and_its_edge():
    """Step 0 recorded is the start noise; in a tree the edge says which outcome, the parent which row it came from."""
    branch = Step(stochastic=True, trained=True, children=2)
    plan = StepPlan(flow_sigmas(4, 3.0), (Step(recorded=True), branch, Step(recorded=True), ODE))
    model = Recorder()
    trajectory = rollout(model, COND, plan, RolloutSettings(kernel=FlowSDE(), shared_noise=False), group_size=6, seed=0)
    start, later = trajectory.states
    (transition,) = trajectory.transitions
    assert (start.step, later.step) == (0, 2)
    assert torch.equal(start.x, model.noise(derive_seed(0, "start"), 3))
    assert start.parent.tolist() == transition.parent.tolist() == [0, 0, 1, 1, 2, 2]
    assert transition.edge.tolist() == later.parent.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(later.x[later.parent], transition.x_next)
    some = trajectory.select(torch.tensor([5, 0]))
    assert torch.equal(some.states[1].x[some.states[1].parent], later.x[torch.tensor([5, 0])])
    assert some.transitions[0].edge.tolist() == [5, 0]


# --- levels, defaults, refusals


def test_a_group_that_is_no_multiple_of_the_leaves_is_refused():
    plan = StepPlan(flow_sigmas(4), (ODE, Step(stochastic=True, trained=True, children=3), ODE, ODE))
    with pytest.raises(ValueError, match="multiple"):
        rollout(Recorder(), COND, plan, RolloutSettings(kernel=FlowSDE()), group_size=4, seed=0)


def test_levels_fall_along_the_recorded_steps():
    plan = window_plan(10, 4, 3)
    trajectory = rollout(Recorder(), COND, plan, RolloutSettings(kernel=FlowSDE()), group_size=2, seed=0)
    levels = [(float(t.sigma), float(t.sigma_next)) for t in trajectory.transitions]
    assert all(a[1] == b[0] for a, b in pairwise(levels))
    assert levels[0][0] == float(plan.sigmas[3])
    assert levels[-1][1] == float(plan.sigmas[7])


def test_the_default_solvers_are_first_order():
    model, plan = Recorder(), window_plan(6, 2, 1)
    default = rollout(model, COND, plan, RolloutSettings(kernel=FlowSDE()), group_size=2, seed=0)
    explicit = unshared(
        model, plan, RolloutSettings(kernel=FlowSDE(), solver=Euler(), tail_solver=Euler()), model.drawn, 2
    )
    assert_same_as_unshared(default, explicit)
