"""From scored groups to optimizer steps: gradients against a loss that shares and accumulates nothing."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from core.objectives.toys import Script, direction, flat, shift, weights_of
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal
from toy import Dark, Red, ToyModel

import mixgrpo_core.training.rolling_out as rolling_out_module
from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.models.ema import Ema
from mixgrpo_core.models.policy import Policy
from mixgrpo_core.objectives import GRPO, GuardGRPO
from mixgrpo_core.objectives.chunks import split_into_chunks
from mixgrpo_core.objectives.pieces import Group, transition_pieces
from mixgrpo_core.objectives.port import TRANSITIONS, LossReport, Objective
from mixgrpo_core.objectives.ratio import default_clip
from mixgrpo_core.objectives.update import NonFiniteLoss, UpdateSettings, update_policy
from mixgrpo_core.rewards.port import RewardBatch, Scores
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE, PreciseSDE
from mixgrpo_core.sampling.planners import ODE, Step, StepPlan, WindowPlanner, windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout, rollout_together
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.trajectory import Trajectory
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.phases import PhaseClock
from mixgrpo_core.training.loop import adamw, train
from mixgrpo_core.training.taught import RewardsFailed

PLAN = windowed_plan(flow_sigmas(8, 3.0), range(2, 5))
WIDTH = 3  # trained steps of PLAN


class Toy(ToyModel):
    """A toy whose LoRA does something (``up`` > 0), in double precision unless told otherwise."""

    def __init__(self, seed=0, up=0.3, dtype=torch.float64, noise_of_batching=0.0):
        super().__init__(seed, noise_of_batching)
        self.dtype = dtype
        torch.nn.init.normal_(self.up, std=up, generator=torch.Generator().manual_seed(seed + 1))
        for parameter in self.parameters():
            parameter.data = parameter.data.to(dtype)

    def noise(self, seed, count):
        return super().noise(seed, count).to(self.dtype)


def make_groups(model, count=2, size=6, batch=None, keep_mean=False, plan=PLAN, kernel=FlowSDE(0.7)):  # noqa: B008
    sampling = RolloutSettings(kernel=kernel, batch=batch, keep_mean=keep_mean, store_dtype=model.noise(0, 1).dtype)
    groups = []
    for i in range(count):
        trajectory = rollout(model, 0.3 * i, plan, sampling, group_size=size, seed=i)
        values = torch.randn(size, generator=torch.Generator().manual_seed(i))
        groups.append(Group(cond=0.3 * i, trajectory=trajectory, advantage=group_advantages(values)))
    return groups


def update(model, groups, objective, optimizer=None, *, clock=None, ema=None, on_update=None, **updating):
    updating = {"updates": 1, "batch": 64, "max_grad_norm": math.inf, **updating}
    optimizer = optimizer or Script(model)
    clock = clock or PhaseClock(lambda: model.evaluations)
    hear = {} if on_update is None else {"on_update": on_update}
    with clock.phase("train"):
        stats = update_policy(
            model, groups, objective, optimizer, UpdateSettings(**updating), clock=clock, ema=ema, **hear
        )
    return stats, optimizer


def off_policy_gradient(model, groups, objective, move, **updating):
    """The gradient, and the loss, after the weights moved away from the rollout's by ``move``."""
    stats, optimizer = update(model, groups, objective, Script(model, [move]), epochs=2, **updating)
    shift(list(model.parameters()), -move)
    return optimizer.gradients[1], stats


def plain_ratio(model, group, column, member):
    """One member at one step, a row of its own, scored by torch's normal density."""
    t = group.trajectory.transitions[column]
    x = t.x[t.parent[member]][None]
    v = model.run([group.cond], lambda velocity: velocity(x, t.sigma))
    gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
    log_prob = Normal(gaussian.mean[0], gaussian.std).log_prob(t.x_next[member]).mean()
    return (log_prob - t.old_log_prob[member]).exp()


def plain_loss(model, groups, clip):
    """Every member at every step by itself: PPO's clipped loss, averaged."""
    terms = []
    for group in groups:
        for column in range(len(group.trajectory.transitions)):
            for member, advantage in enumerate(group.advantage):
                ratio = plain_ratio(model, group, column, member)
                terms.append(-torch.min(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip)))
    return torch.stack(terms).mean()


def plain_gradient(model, groups, clip, move=None):
    if move is not None:
        shift(list(model.parameters()), move)
    gradient = flat(torch.autograd.grad(plain_loss(model, groups, clip), list(model.parameters())))
    if move is not None:
        shift(list(model.parameters()), -move)
    return gradient


# --- the gradient ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 64])
def test_pieces_add_up_to_the_gradient_of_the_whole_loss(batch):
    model = Toy()
    groups, move, clip = make_groups(model), direction(model, 0.1), 0.01
    gradient, stats = off_policy_gradient(model, groups, GRPO(clip=clip), move, batch=batch)
    assert 0.05 < stats.figures["clip_low"] + stats.figures["clip_high"] < 0.45
    torch.testing.assert_close(gradient, plain_gradient(model, groups, clip, move), rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_the_loss_by_finite_differences():
    model, clip, step = Toy(), 0.01, 1e-6
    groups, move = make_groups(model), direction(model, 0.1)
    gradient, _ = off_policy_gradient(model, groups, GRPO(clip=clip, kl=0.3), move, batch=4)

    def loss(by):
        _, stats = off_policy_gradient(model, groups, GRPO(clip=clip, kl=0.3), by, batch=4)
        return 2 * stats.figures["loss"]  # the mean of two steps, of which the first does not depend on `by`

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        slope = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
        assert slope == pytest.approx(float(gradient @ along), rel=1e-6)


def test_an_advantage_per_step_weighs_each_step_by_itself():
    model = Toy()
    (group,) = make_groups(model, count=1)
    per_step = torch.zeros(6, WIDTH)
    per_step[:, 1] = group.advantage
    _, whole = update(model, [replace(group, advantage=per_step)], GRPO(), batch=4)
    second = replace(group.trajectory, transitions=group.trajectory.transitions[1:2])
    _, alone = update(model, [replace(group, trajectory=second)], GRPO())
    torch.testing.assert_close(whole.gradients[0] * WIDTH, alone.gradients[0], rtol=1e-9, atol=1e-12)


def test_an_update_makes_good_samples_likelier_and_bad_ones_less():
    model = Toy()
    (group,) = make_groups(model, count=1, size=2)
    group = replace(group, advantage=torch.tensor([1.0, -1.0]))
    stats, _ = update(model, [group], GRPO(), torch.optim.SGD(model.parameters(), lr=0.01))
    with torch.no_grad():
        good, bad = (sum(plain_ratio(model, group, column, g).log().item() for column in range(WIDTH)) for g in (0, 1))
    assert good > 0 > bad
    assert (good - bad) / (2 * WIDTH) == pytest.approx(0.01 * stats.figures["grad_norm"] ** 2, rel=0.05)


@pytest.mark.parametrize("start", [0, 2])
def test_one_forward_of_the_first_step_serves_the_group_with_the_same_gradient(start):
    size, count, width = 12, 3, 4
    plan = windowed_plan(flow_sigmas(10, 3.0), range(start, start + width))
    model = Toy(dtype=torch.float32)
    groups = make_groups(model, count, size, plan=plan)
    shared_clock, unshared_clock = (PhaseClock(lambda: model.evaluations) for _ in range(2))
    unshared = []
    for group in groups:
        first, *rest = group.trajectory.transitions
        first = replace(first, x=first.x.repeat_interleave(size, 0), parents=torch.arange(size))
        unshared.append(replace(group, trajectory=replace(group.trajectory, transitions=(first, *rest))))
    _, one = update(model, groups, GRPO(), clock=shared_clock)
    _, all_rows = update(model, unshared, GRPO(), clock=unshared_clock)
    assert shared_clock.evaluations["train"] / (count * size) == pytest.approx(width - 1 + 1 / size)
    assert unshared_clock.evaluations["train"] / (count * size) == width
    scale = all_rows.gradients[0].abs().max()
    torch.testing.assert_close(one.gradients[0] / scale, all_rows.gradients[0] / scale, rtol=0, atol=1e-6)


def test_a_group_split_among_updates_pays_for_its_shared_step_once_per_part():
    model, clock = Toy(), None
    groups = make_groups(model, count=2, size=6)
    clock = PhaseClock(lambda: model.evaluations)
    stats, _ = update(model, groups, GRPO(), clock=clock, updates=4)
    assert stats.steps == 4
    assert clock.evaluations["train"] == 2 * (2 * 1 + (WIDTH - 1) * 6)


# --- the ratio ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [FlowSDE(), DanceSDE(), FlowCPS(), PreciseSDE()], ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("objective", [GRPO(), GuardGRPO()], ids=lambda o: type(o).__name__)
def test_the_first_ratio_is_exactly_one_in_the_rollouts_batching(kernel, objective):
    model = Toy(dtype=torch.float32)
    groups = make_groups(model, count=2, size=12, keep_mean=True, kernel=kernel)
    stats, _ = update(model, groups, objective)
    assert stats.figures["ratio_first"] == 0
    assert stats.ratio_noise == 0
    assert not stats.recomputed


def test_the_first_ratio_is_nearly_one_in_another_batching():
    model = Toy(dtype=torch.float32)
    stats, _ = update(model, make_groups(model, size=12, batch=5), GRPO(), batch=3)
    assert stats.figures["ratio_first"] < 1e-5
    assert not stats.recomputed


def test_ratio_max_sees_the_later_updates_and_ratio_first_does_not():
    model = Toy()
    groups, move = make_groups(model, count=1), direction(model, 0.1)
    stats, _ = update(model, groups, GRPO(clip=100.0), Script(model, [move]), epochs=2)
    deviations = [abs(plain_ratio(model, groups[0], c, m).item() - 1) for c in range(WIDTH) for m in range(6)]
    assert stats.figures["ratio_first"] < 1e-12
    assert stats.figures["ratio_max"] == pytest.approx(max(deviations), rel=1e-9)


@pytest.mark.parametrize("objective", [GRPO(), GuardGRPO(), GuardGRPO(kl=0.1)], ids=["grpo", "guard", "guard+kl"])
@pytest.mark.parametrize(
    ("rollout_batch", "update_batch", "updates"), [(None, 4, 1), (12, 1, 2), (4, 8, 1), (5, 2, 1), (4, 4, 4)]
)
def test_noise_of_batching_makes_the_old_log_probs_be_taken_anew(objective, rollout_batch, update_batch, updates):
    model = Toy(dtype=torch.float32, noise_of_batching=0.05)
    groups = make_groups(model, count=2, size=12, batch=rollout_batch, keep_mean=True)
    clip = objective.clip_range(12)[0]
    stats, _ = update(model, groups, objective, batch=update_batch, updates=updates)
    assert stats.recomputed
    assert stats.ratio_noise > clip / 10
    assert stats.figures["ratio_first"] == 0


def test_recomputed_log_probs_give_the_gradient_of_a_rollout_in_the_updates_batching():
    noisy = Toy(noise_of_batching=0.05)
    groups = make_groups(noisy, count=1, size=12)
    stats, taken = update(noisy, groups, GRPO(), batch=4)
    assert stats.recomputed
    (group,) = groups
    rescored = []
    for column, t in enumerate(group.trajectory.transitions):
        rows = [t.x] if column == 0 else t.x.split(4)  # the same velocities as in the update
        with torch.no_grad():
            v = torch.cat([noisy.run([group.cond], lambda f, x=x, t=t: f(x, t.sigma)) for x in rows])
        log_prob = t.per_member(t.gaussian(v)).log_prob(t.x_next)
        rescored.append(replace(t, old_log_prob=log_prob))
    by_hand = replace(group, trajectory=replace(group.trajectory, transitions=tuple(rescored)))
    _, expected = update(noisy, [by_hand], GRPO(), batch=4)
    torch.testing.assert_close(taken.gradients[0], expected.gradients[0], rtol=1e-9, atol=1e-12)
    assert group.trajectory.transitions[1].old_log_prob is not rescored[1].old_log_prob  # the caller's is untouched


def test_noise_below_a_tenth_of_the_clip_is_left_alone():
    model = Toy(dtype=torch.float32, noise_of_batching=1e-4)
    stats, _ = update(model, make_groups(model, size=12), GRPO(), batch=4)
    assert not stats.recomputed
    assert 0 < stats.figures["ratio_first"] < default_clip(12) / 10


def test_guards_log_ratio_has_zero_mean_over_the_rollout_and_the_plain_one_has_not():
    model, size = Toy(dtype=torch.float64), 3000
    plan = windowed_plan(flow_sigmas(8, 3.0), [3])
    (group,) = make_groups(model, count=1, size=size, keep_mean=True, plan=plan)
    shift(list(model.parameters()), direction(model, 0.3))
    (t,) = group.trajectory.transitions
    pieces = list(transition_pieces(group, size))

    def log_ratios(velocity):
        policy = Policy(velocity, model.with_weights, {})
        return torch.cat([GuardGRPO().log_ratio(policy, piece).detach() for piece in pieces])

    guard = model.run([group.cond], log_ratios)
    plain = torch.stack([plain_ratio(model, group, 0, g).detach().log() for g in range(size)])
    std = float(plain_std(t))
    new = t.kernel(t.x, model.run([group.cond], lambda f: f(t.x, t.sigma)), t.sigma, t.sigma_next).mean.detach()
    d = new - t.old_mean
    noise = (t.x_next - t.old_mean) / std
    torch.testing.assert_close(guard.double(), (noise * d).flatten(1).mean(1), rtol=0, atol=1e-6)
    error = float(guard.std()) / size**0.5
    assert abs(float(guard.mean())) < 4 * error
    bias = -float(d.square().mean()) / (2 * std**2)
    assert float(plain.mean()) == pytest.approx(bias, abs=4 * float(plain.std()) / size**0.5)
    assert abs(bias) > 8 * float(plain.std()) / size**0.5  # so that the difference is seen


def plain_std(t):
    return t.kernel(t.x, t.x, t.sigma, t.sigma_next).std


# --- the KL term -------------------------------------------------------------------------------------------------


def test_kl_is_zero_with_zero_gradient_at_the_base_model():
    model = Toy(up=0.0)
    groups = make_groups(model)
    stats, with_kl = update(model, groups, GRPO(kl=10.0))
    _, without = update(model, groups, GRPO())
    assert stats.figures["kl"] == 0
    assert torch.equal(with_kl.gradients[0], without.gradients[0])
    assert without.gradients[0].abs().max() > 0
    still = [replace(group, advantage=torch.zeros(6)) for group in groups]
    _, nothing = update(model, still, GRPO(kl=10.0))
    assert (nothing.gradients[0] == 0).all()


@pytest.mark.parametrize("batch", [4, 64])
def test_kl_away_from_the_base_model(batch):
    model, clock = Toy(), None
    groups = [replace(group, advantage=torch.zeros(6)) for group in make_groups(model)]
    clock = PhaseClock(lambda: model.evaluations)
    stats, optimizer = update(model, groups, GRPO(kl=0.5), batch=batch, clock=clock)
    terms = []
    for group in groups:
        for t in group.trajectory.transitions:
            x = t.x[t.parent].flatten(1)
            features = torch.cat([x, t.sigma.expand(6, 1), torch.ones(6, 1)], 1)
            terms.append((features @ model.down.T @ model.up.T).square().mean())  # v - v of the base model
    divergence = torch.stack(terms).mean()
    assert stats.figures["kl"] == pytest.approx(float(divergence.detach()), rel=1e-9)
    expected = flat(torch.autograd.grad(0.5 * divergence, list(model.parameters())))
    torch.testing.assert_close(optimizer.gradients[0], expected, rtol=1e-9, atol=1e-12)
    assert clock.evaluations["reference"] == clock.evaluations["train"] > 0  # no forward of its own, none in the probe


def test_kl_counts_a_row_once_for_each_of_its_members():
    """A tree of which one leaf was masked: three members on two rows weigh them 2 to 1."""
    model = Toy()
    fork = Step(stochastic=True, trained=True)
    plan = StepPlan(flow_sigmas(4, 3.0), (Step(stochastic=True), replace(fork, children=2), ODE, ODE))
    (group,) = make_groups(model, count=1, size=4, plan=plan)
    group = replace(group, advantage=torch.zeros(4))
    rows = [update(model, [group.select(torch.tensor([member]))], GRPO(kl=1.0))[0].figures["kl"] for member in (0, 2)]
    stats, _ = update(model, [group.select(torch.tensor([0, 1, 2]))], GRPO(kl=1.0))
    assert stats.figures["kl"] == pytest.approx((2 * rows[0] + rows[1]) / 3, rel=1e-9)
    assert abs(rows[0] - rows[1]) > 1e-3


def test_without_kl_the_base_model_is_never_asked():
    model = Toy()
    clock = PhaseClock(lambda: model.evaluations)
    update(model, make_groups(model), GRPO(), clock=clock)
    assert clock.evaluations["reference"] == 0


# --- failing, clipping, counting ---------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_raises_before_anything_moves():
    model = Toy()
    groups = make_groups(model)
    groups[1].advantage[2] = torch.nan
    before, optimizer = weights_of(model), torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(NonFiniteLoss, match="nan"):
        update(model, groups, GRPO(), optimizer)
    assert torch.equal(weights_of(model), before)
    assert not optimizer.state


@dataclass(frozen=True)
class Cliff(Objective):
    """A finite loss with a gradient that is not."""

    needs = frozenset({TRANSITIONS})

    def terms(self, policy, piece):
        return {"v": policy(piece.x, piece.sigma)[piece.parent]}

    def loss(self, table, cells):
        return LossReport(loss=(0 * table["v"]).sum().sqrt())


def test_a_gradient_that_is_not_finite_raises_too():
    model = Toy()
    before = weights_of(model)
    with pytest.raises(NonFiniteLoss, match="gradient"):
        update(model, make_groups(model), Cliff(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert torch.equal(weights_of(model), before)


def test_the_updates_before_a_failing_one_stand():
    model, twin = Toy(), Toy()
    groups = make_groups(model)
    update(twin, groups[:1], GRPO(), torch.optim.SGD(twin.parameters(), lr=0.1))
    groups[1].advantage[0] = torch.nan
    with pytest.raises(NonFiniteLoss):
        update(model, groups, GRPO(), torch.optim.SGD(model.parameters(), lr=0.1), updates=2)
    assert torch.equal(weights_of(model), weights_of(twin))


@pytest.mark.parametrize("batch", [2, 64])
def test_the_gradient_is_clipped_as_a_whole(batch):
    model = Toy()
    groups = make_groups(model)
    free, unclipped = update(model, groups, GRPO())
    stats, clipped = update(model, groups, GRPO(), max_grad_norm=1e-3, batch=batch)
    norm = float(unclipped.gradients[0].norm())
    assert norm > 1e-2
    assert stats.figures["grad_norm"] == pytest.approx(norm) == pytest.approx(free.figures["grad_norm"])
    torch.testing.assert_close(clipped.gradients[0], unclipped.gradients[0] * 1e-3 / norm, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("updates", "epochs", "count"), [(1, 1, 2), (4, 1, 2), (3, 2, 2), (2, 3, 4), (50, 1, 2)])
def test_optimizer_steps_are_updates_times_epochs(updates, epochs, count):
    model, heard = Toy(), []
    optimizer = Script(model)
    stats, _ = update(
        model, make_groups(model, count), GRPO(), optimizer, updates=updates, epochs=epochs,
        on_update=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    expected = min(updates, 6 * count) * epochs
    assert stats.steps == len(optimizer.gradients) == expected
    assert heard == [(i + 1, expected) for i in range(expected)]


def test_no_groups_make_no_step():
    stats, optimizer = update(Toy(), [], GRPO())
    assert stats.steps == 0
    assert stats.figures == {}
    assert stats.to_json()["loss"] is stats.to_json()["grad_norm"] is stats.to_json()["ratio_first"] is None
    assert optimizer.gradients == []


def test_ema_is_its_closed_form():
    model, decay, seen = Toy(), 0.8, []
    start = weights_of(model)
    ema = Ema(decay, model.lora_state())
    update(
        model, make_groups(model), GRPO(), torch.optim.SGD(model.parameters(), lr=1.0), ema=ema, updates=4, epochs=2,
        on_update=lambda done, total: seen.append(weights_of(model)),
    )  # fmt: skip
    n = len(seen)
    assert n == 8
    expected = decay**n * start + (1 - decay) * sum(decay ** (n - 1 - k) * w for k, w in enumerate(seen))
    torch.testing.assert_close(flat(ema.average.values()), expected.float(), rtol=0, atol=1e-6)
    assert (start - expected).abs().max() > 1e-3


@given(st.lists(st.integers(1, 14), min_size=1, max_size=6), st.integers(1, 20))
def test_splitting_into_chunks_loses_and_repeats_no_member(sizes, updates):
    groups, first = [], 0
    for size in sizes:
        ids = torch.arange(first, first + size).float()
        first += size
        trajectory = Trajectory(transitions=(), final=ids[:, None], sigmas=flow_sigmas(4), nfe={})
        groups.append(Group(cond=None, trajectory=trajectory, advantage=-ids))
    chunks = split_into_chunks(groups, updates)
    seen = [int(i) for chunk in chunks for group in chunk for i in group.trajectory.final[:, 0]]
    assert sorted(seen) == list(range(first))
    assert all(torch.equal(-g.advantage, g.trajectory.final[:, 0]) for chunk in chunks for g in chunk)
    assert all(chunks)
    assert len(chunks) <= updates
    if len(set(sizes)) == 1:
        assert len(chunks) == min(updates, first)
    if updates <= len(groups):  # whole groups: the shared step stays one evaluation each
        assert sum(len(chunk) for chunk in chunks) == len(groups)


# --- from rewards to updates -------------------------------------------------------------------------------------


class NaNs(Red):
    """Cannot score some of the images."""

    def __init__(self, *members):
        self.members = list(members)

    def __call__(self, batch):
        values = super().__call__(batch).values
        values[self.members] = torch.nan
        return Scores.of(values)


class Constant(Red):
    """Likes every image of a prompt alike, and tells those of the other prompts apart."""

    def __init__(self, prompt):
        self.prompt = prompt

    def __call__(self, batch):
        scores = super().__call__(batch)
        return Scores.of(torch.full_like(scores.values, 0.3)) if batch.prompts[0] == self.prompt else scores


class Raises(Red):
    def __call__(self, batch):
        raise ConnectionError("the server is gone")


class TooFew(Red):
    def __call__(self, batch):
        scores = super().__call__(batch)
        return Scores(scores.values[1:], scores.valid[1:])


class Nothing(Red):
    def __call__(self, batch):
        return None


class Refuses(Red):
    def __call__(self, batch):
        scores = super().__call__(batch)
        return Scores(scores.values, torch.arange(len(scores.values)) > 0)


class Boasts(Red):
    """Calls values valid that are no numbers."""

    def __call__(self, batch):
        values = super().__call__(batch).values
        values[0], values[3] = torch.inf, torch.nan
        return Scores(values, torch.ones(len(values), dtype=torch.bool))


CONFIG = TrainConfig(
    iterations=1,
    steps=6,
    images_per_prompt=6,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),
    updates=2,
    eval_every=0,
    learning_rate=1e-2,
)
PROMPTS = ["a", "longer"]


@pytest.fixture
def trajectories(monkeypatch):
    """The trajectories that a run makes, in their order."""
    made = []

    def spy(*args, **kwargs):
        made.extend(found := rollout_together(*args, **kwargs))
        return found

    monkeypatch.setattr(rolling_out_module, "rollout_together", spy)
    return made


def scored(heard):
    return [event for event in heard if hasattr(event, "scores")]


def test_masked_samples_are_as_if_never_sampled(trajectories):
    model, heard = ToyModel(), []
    (report,) = train(model, PROMPTS, {"red": NaNs(0, 4)}, CONFIG, observer=heard.append)
    assert [failure.masked for failure in report.failures] == [2, 2]
    twin, kept, groups = ToyModel(), torch.tensor([1, 2, 3, 5]), []
    for event, trajectory in zip(scored(heard), trajectories, strict=True):
        values = Red()(RewardBatch(images=event.images, prompts=(event.prompt,) * 6)).values[kept]
        groups.append(
            Group(
                cond=twin.encode(event.prompt),
                trajectory=trajectory.select(kept),
                advantage=group_advantages(values),
            )
        )
    optimizer = adamw(twin.parameters(), CONFIG)
    update(twin, groups, CONFIG.objective, optimizer, **vars(CONFIG.updating(CONFIG.sigmas())))
    assert torch.equal(weights_of(model), weights_of(twin))
    assert not torch.equal(weights_of(model), weights_of(ToyModel()))


def test_a_sample_that_one_of_two_rewards_scored_still_counts():
    config = replace(CONFIG, objective=GRPO(), prompts_per_iteration=1)
    heard = []
    (report,) = train(ToyModel(), ["a"], {"red": NaNs(0), "dark": Dark()}, config, observer=heard.append)
    (event,) = scored(heard)
    alone = group_advantages(event.scores["dark"].values)
    assert float(event.advantage[0]) == pytest.approx(float(alone[0]) / 2)  # red says nothing of it
    assert report.nfe["train"] == pytest.approx((2 * 1 + 6) / 6)  # six members in two updates: none was dropped


def test_groups_without_spread_are_skipped_and_counted(trajectories):
    model, heard = ToyModel(), []
    (report,) = train(model, PROMPTS, {"red": Constant("a")}, CONFIG, observer=heard.append)
    assert report.flat_groups == 0.5
    (at,) = [i for i, event in enumerate(scored(heard)) if event.prompt == "longer"]
    twin = ToyModel()
    group = Group(
        cond=twin.encode("longer"), trajectory=trajectories[at], advantage=scored(heard)[at].advantage
    )  # fmt: skip
    update(twin, [group], CONFIG.objective, adamw(twin.parameters(), CONFIG), **vars(CONFIG.updating(CONFIG.sigmas())))
    assert torch.equal(weights_of(model), weights_of(twin))


def test_only_groups_without_spread_leave_the_policy_as_it_was():
    model = ToyModel()
    (report,) = train(model, ["a"], {"red": Constant("a")}, replace(CONFIG, prompts_per_iteration=1))
    assert report.flat_groups == 1
    assert report.update.steps == 0
    assert torch.equal(weights_of(model), weights_of(ToyModel()))


@pytest.mark.parametrize(
    ("reward", "masked", "reason"),
    [
        (Raises(), 6, "ConnectionError: the server is gone"),
        (TooFew(), 6, "expected 6 values"),
        (Nothing(), 6, "expected Scores"),
        (NaNs(1, 2), 2, "NaN"),
        (Boasts(), 2, "infinity"),
        (Refuses(), 1, "invalid"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Red) else None,
)
def test_a_reward_that_fails_masks_its_samples_and_says_so(reward, masked, reason):
    batch = RewardBatch(images=torch.rand(6, 2, 2, 3), prompts=("p",) * 6, group=4)
    scores, (failure,) = score({"good": Red(), "bad": reward}, batch)
    assert (failure.reward, failure.group, failure.masked) == ("bad", 4, masked)
    assert reason in failure.reason
    assert int((~scores["bad"].valid).sum()) == masked
    assert (scores["bad"].values[~scores["bad"].valid] == 0).all()
    assert scores["good"].valid.all()
    torch.testing.assert_close(scores["good"].values, batch.images[..., 0].mean((1, 2)))


def test_an_interrupt_inside_a_reward_passes_through():
    class Interrupted(Red):
        def __call__(self, batch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score({"red": Interrupted()}, RewardBatch(images=torch.rand(2, 2, 2, 3), prompts=("p",) * 2))


def test_a_reward_that_fails_does_not_stop_the_others(trajectories):
    model, alone = ToyModel(), ToyModel()
    (report,) = train(model, PROMPTS, {"red": Red(), "gone": Raises()}, CONFIG)
    assert [(failure.reward, failure.masked) for failure in report.failures] == [("gone", 6)] * 2
    assert report.update.steps == 2
    list(train(alone, PROMPTS, {"red": Red()}, CONFIG))
    assert not torch.equal(weights_of(model), weights_of(ToyModel()))
    assert torch.equal(trajectories[0].final, trajectories[2].final)


class FailsLater(Red):
    """Works in the first iteration only."""

    def __init__(self):
        self.calls = 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls > CONFIG.prompts_per_iteration:
            raise ConnectionError("the server is gone")
        return super().__call__(batch)


def test_when_no_image_gets_a_score_the_run_stops_with_its_state_kept(tmp_path):
    config = replace(CONFIG, iterations=3, ema=0.5)
    model = ToyModel()
    run = RunFolder.create(tmp_path / "run", config)
    reports = train(model, PROMPTS, {"red": FailsLater()}, config, run=run)
    next(reports)
    after_one = weights_of(model)
    with pytest.raises(RewardsFailed, match="the server is gone"):
        next(reports)
    assert torch.equal(weights_of(model), after_one)
    # Mended and resumed, it ends where an undisturbed run does.
    resumed, undisturbed = ToyModel(), ToyModel()
    assert [r.iteration for r in train(resumed, PROMPTS, {"red": Red()}, config, run=run)] == [1, 2]
    list(train(undisturbed, PROMPTS, {"red": Red()}, config))
    assert torch.equal(weights_of(resumed), weights_of(undisturbed))


class BreaksLater(GRPO):
    """Its loss becomes NaN once `left` pieces have been looked at."""

    left = 0

    def loss(self, table, cells):
        BreaksLater.left -= 1
        return super().loss({name: term if self.left >= 0 else term * torch.nan for name, term in table.items()}, cells)


def test_an_iteration_that_breaks_after_its_first_update_is_undone():
    config = replace(CONFIG, iterations=2, objective=BreaksLater())
    BreaksLater.left = (2 + 2) + 2  # per iteration two updates of two trained steps
    model, heard = ToyModel(), []
    reports = train(model, PROMPTS, {"red": Red()}, config, observer=heard.append)
    next(reports)
    after_one, heard[:] = weights_of(model), []
    with pytest.raises(NonFiniteLoss):
        next(reports)
    assert [event.done for event in heard if getattr(event, "phase", None) == "train"] == [0, 1]  # one update was made
    assert torch.equal(weights_of(model), after_one)
