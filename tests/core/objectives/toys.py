"""What the tests of objectives share: a toy in double precision, groups of it, an optimizer that keeps gradients."""

import math
from dataclasses import replace

import torch
from toy import ToyModel

from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.models.lagged import Lag, Lagged
from mixgrpo_core.objectives.pieces import Group, Moment
from mixgrpo_core.objectives.update import UpdateSettings, update_policy
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import deterministic_plan, windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.phases import PhaseClock

WINDOW = windowed_plan(flow_sigmas(8, 3.0), range(2, 5))
STILL = Lag(start=1.0)
"""A policy that stays what it was."""


class Toy(ToyModel):
    """A toy whose LoRA does something (``up`` > 0), in double precision."""

    def __init__(self, seed=0, up=0.3):
        super().__init__(seed)
        torch.nn.init.normal_(self.up, std=up, generator=torch.Generator().manual_seed(seed + 1))
        for parameter in self.parameters():
            parameter.data = parameter.data.double()

    def noise(self, seed, count):
        return super().noise(seed, count).double()


class Script:
    """An optimizer that moves the weights as it is told and keeps the gradients it was given."""

    def __init__(self, model, moves=()):
        self.parameters, self.moves, self.gradients = list(model.parameters()), list(moves), []

    def zero_grad(self, set_to_none=True):
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        self.gradients.append(flat([p.grad for p in self.parameters]))
        if self.moves:
            shift(self.parameters, self.moves.pop(0))


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).clone()


def weights_of(model):
    return flat(model.parameters())


@torch.no_grad()
def shift(parameters, by):
    for parameter, part in zip(parameters, by.split([p.numel() for p in parameters]), strict=True):
        parameter.add_(part.view_as(parameter))


def direction(model, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(weights_of(model)), generator=generator, dtype=torch.float64) * size


def make_groups(model, sizes=(6, 6), plan=WINDOW, *, shared_noise=True):
    """Groups of unequal sizes with advantages that add up to 0, their means kept."""
    sampling = RolloutSettings(
        kernel=FlowSDE(0.7), keep_mean=True, keep_start=True, store_dtype=torch.float64, shared_noise=shared_noise
    )
    groups = []
    for i, size in enumerate(sizes):
        trajectory = rollout(model, 0.3 * i, plan, sampling, group_size=size, seed=i)
        values = torch.randn(size, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        groups.append(Group(cond=0.3 * i, trajectory=trajectory, advantage=group_advantages(values), place=i))
    return groups


def image_groups(model, sizes=(6, 6), steps=10):
    """Groups without transitions: what forward objectives are trained on."""
    return make_groups(model, sizes, deterministic_plan(flow_sigmas(steps, 3.0)), shared_noise=False)


def followers(model, objective, moved=0.0):
    """The objective's lagged policies, each a step of ``moved`` away from the model and standing still."""
    found = {}
    for number, name in enumerate(objective.policies):
        by = direction(model, moved, seed=100 + number)
        shift(list(model.parameters()), by)
        found[name] = Lagged(STILL, model.lora_state())
        shift(list(model.parameters()), -by)
    return found


def update(model, groups, objective, optimizer=None, *, clock=None, lagged=None, moment=Moment(), **updating):  # noqa: B008
    updating = {"updates": 1, "batch": 64, "max_grad_norm": math.inf, **updating}
    optimizer = optimizer or Script(model)
    clock = clock or PhaseClock(lambda: model.evaluations)
    lagged = followers(model, objective) if lagged is None else lagged
    with clock.phase("train"):
        stats = update_policy(
            model, groups, objective, optimizer, UpdateSettings(**updating), clock=clock, lagged=lagged, moment=moment
        )
    return stats, optimizer


def gradient_of(model, groups, objective, **settings):
    """The gradient of one update."""
    return update(model, groups, objective, **settings)[1].gradients[0]


def off_policy_gradient(model, groups, objective, move, **updating):
    """The gradient, and the loss, of a second step after the weights moved away from the rollout's by ``move``."""
    stats, optimizer = update(model, groups, objective, Script(model, [move]), epochs=2, **updating)
    shift(list(model.parameters()), -move)
    return optimizer.gradients[1], stats


class Witness:
    """Stands before an objective and keeps the pieces that it is asked about."""

    def __init__(self, objective):
        self.objective, self.pieces = objective, []

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def terms(self, policy, piece):
        self.pieces.append(piece)
        return self.objective.terms(policy, piece)


def seen_draws(model, groups, objective, moment=Moment(), **settings):  # noqa: B008
    """By group and column: level and noise ``[G, *L]`` of one update, as its pieces had them in one batch each."""
    found = []
    for group in groups:
        witness = Witness(objective)
        update(model, [group], witness, moment=moment, **settings)
        columns = {piece.column.index: (piece.sigma, piece.noise.expand_as(piece.final)) for piece in witness.pieces}
        found.append([columns[index] for index in sorted(columns)])
    return found


def velocities(model, group, sigma, x, weights="own"):
    """The velocity of a policy at points ``x``; ``None`` is the base model."""
    if weights == "own":
        return model.run([group.cond], lambda velocity: velocity(x, sigma))
    with torch.no_grad(), model.with_weights(weights):
        return model.run([group.cond], lambda velocity: velocity(x, sigma))


def noised(group, sigma, noise):
    """``x = (1 - t) x0 + t eps`` and ``u = eps - x0``."""
    x0 = group.trajectory.final
    return (1 - sigma) * x0 + sigma * noise, noise - x0


def plain_gradient(model, loss, move=None):
    """The gradient of a plain ``loss()``, at the weights or a ``move`` away from them."""
    parameters = list(model.parameters())
    if move is not None:
        shift(parameters, move)
    found = flat(torch.autograd.grad(loss(), parameters))
    if move is not None:
        shift(parameters, -move)
    return found


def slope(model, loss, along, step=1e-5):
    """Central difference of ``loss()`` along a direction of the weights."""
    parameters = list(model.parameters())
    values = []
    for sign in (1, -2):
        shift(parameters, sign * step * along)
        values.append(float(loss()))
    shift(parameters, step * along)
    return (values[0] - values[1]) / (2 * step)


def permuted(group, order):
    """The group with its members in another order."""
    return group.select(torch.tensor(order))


def masked(group, members):
    """The group of some members, its advantages centred again, as a mask upstream leaves it."""
    part = group.select(torch.tensor(members))
    return replace(part, advantage=part.advantage - part.advantage.mean())
