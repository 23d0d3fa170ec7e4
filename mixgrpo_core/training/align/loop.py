"""Training a LoRA from votes that are there: an update takes some groups, a few levels of noise each, and one step."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ...models.policy import REFERENCE, Policy
from ...models.port import FlowModel, Velocity
from ...objectives.update import NonFiniteLoss
from ...support.seeds import derive_seed
from ...support.setting import described, require_ranges, setting
from .forms import Form, Looked, pair_figures
from .voted import Voted

_LOWEST = 0.02  # of the levels: below it there is nothing to learn about an image


@described
@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """How votes are trained on."""

    updates: int = setting(120, "Steps of the optimizer.", least=1)
    learning_rate: float = setting(3e-4, "Of AdamW.", above=0)
    groups: int = setting(8, "Groups an update.", least=1)
    levels: int = setting(4, "Levels of noise at which each group is looked at in an update.", least=1)
    batch: int = setting(16, "Images of a group in one call of the network.", least=1)
    max_grad_norm: float = setting(1.0, "The gradient's norm is clipped to it.", above=0)
    held_out: float = setting(
        0.2, "Share of the groups that are not trained on, and tell how it goes.", least=0, below=1
    )
    look_every: int = setting(20, "Updates between looks at what is held out.", least=1)
    seed: int = setting(0, "Of noise, levels and order.")

    def __post_init__(self) -> None:
        require_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Pairs of the groups that are held out, or of those that are trained on where none are.

    Attributes:
        accuracy: share of the pairs whose better image gained more; NaN without any pair.
        better: error of the better images by that of the base model, less 1: above 0 they are drawn worse than before,
            whatever the accuracy says.
        pairs: how many there were.
    """

    accuracy: float
    better: float
    pairs: int


@dataclass(frozen=True, kw_only=True)
class AlignReport:
    """One update.

    Attributes:
        update: its number, from 1.
        loss: of it.
        grad_norm: before it was clipped.
        look: where it was time for one.
    """

    update: int
    loss: float
    grad_norm: float
    look: Look | None = None

    @property
    def looked_at(self) -> bool:
        """Whether it was time for a look."""
        return self.look is not None


def align(
    model: FlowModel, voted: Sequence[Voted], form: Form, config: AlignConfig
) -> Generator[AlignReport, None, None]:
    """Train the model's LoRA on votes; it begins and ends wherever its caller does.

    Raises:
        NonFiniteLoss: before a step would be taken with it.
    """
    trained, held_out = split(voted, config)
    model.prepare(sorted({group.prompt for group in voted}))
    optimizer = torch.optim.AdamW(list(model.parameters()), lr=config.learning_rate, weight_decay=0.0)
    with torch.inference_mode(False), torch.enable_grad():
        for update in range(config.updates):
            optimizer.zero_grad(set_to_none=True)
            chosen = _chosen(trained, update, config)
            loss = sum(_backward(model, group, form, config, update, len(chosen)) for group in chosen)
            norm = float(clip_grad_norm_(list(model.parameters()), config.max_grad_norm))
            if not (torch.isfinite(torch.tensor([loss, norm])).all()):
                raise NonFiniteLoss(
                    f"the loss of update {update + 1} is {loss} and its gradient norm {norm}: lower the learning rate"
                )
            optimizer.step()
            due = (update + 1) % config.look_every == 0 or update + 1 == config.updates
            look = look_at(model, held_out or trained, form, config) if due else None
            yield AlignReport(update=update + 1, loss=float(loss), grad_norm=norm, look=look)


def split(voted: Sequence[Voted], config: AlignConfig) -> tuple[list[Voted], list[Voted]]:
    """Groups to train on, and those that are held out: a prompt is on one side only, where there are several."""
    prompts = sorted({group.prompt for group in voted}, key=lambda prompt: derive_seed("held out", config.seed, prompt))
    few = round(config.held_out * len(prompts))
    kept = set(prompts[:few])
    return [group for group in voted if group.prompt not in kept], [group for group in voted if group.prompt in kept]


def _chosen(trained: Sequence[Voted], update: int, config: AlignConfig) -> list[Voted]:
    """The groups of an update: each comes once before any comes again."""
    count = min(config.groups, len(trained))
    first = update * count
    found = []
    for place in range(first, first + count):
        lap, at = divmod(place, len(trained))
        generator = torch.Generator().manual_seed(derive_seed("align", config.seed, "order", lap))
        found.append(trained[int(torch.randperm(len(trained), generator=generator)[at])])
    return found


def _backward(model: FlowModel, voted: Voted, form: Form, config: AlignConfig, update: int, groups: int) -> float:
    levels = _levels(config, update, voted)
    share = 1 / (len(levels) * groups)

    def body(velocity: Velocity) -> float:
        total = 0.0
        for number, sigma in enumerate(levels):
            seed = derive_seed("align", config.seed, update, voted.name, number)
            total += _taught(model, velocity, _Placed.of(model, voted, form, sigma, seed, config.batch), form, share)
        return total

    return model.run((model.encode(voted.prompt),), body)


def _levels(config: AlignConfig, update: int, voted: Voted) -> list[float]:
    """One level out of each of as many equal parts of 0 .. 1."""
    generator = torch.Generator().manual_seed(derive_seed("align", config.seed, update, voted.name, "levels"))
    drawn = (torch.arange(config.levels) + torch.rand(config.levels, generator=generator)) / config.levels
    return drawn.clamp(_LOWEST, 1.0).tolist()


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A group at one level: its noised images, as many together as a call of the network takes, and their ``u``."""

    voted: Voted
    parts: Sequence[Tensor]
    target: Tensor
    sigma: float

    @classmethod
    def of(cls, model: FlowModel, voted: Voted, form: Form, sigma: float, seed: int, batch: int) -> "_Placed":
        x0 = voted.latents.to(model.device)
        noise = _noise(model, voted, form, seed).expand_as(x0)
        parts = [torch.lerp(*pair, sigma) for pair in zip(x0.split(batch), noise.split(batch), strict=True)]
        return cls(voted=voted, parts=parts, target=noise - x0, sigma=sigma)

    def looked(self, model: FlowModel, velocity: Velocity) -> Looked:
        level = torch.tensor(self.sigma)
        policy = Policy(velocity, model.with_weights, {REFERENCE: None})
        both = [(policy(x, level), policy.reference(x, level)) for x in self.parts]
        v, base = (torch.cat(found) for found in zip(*both, strict=True))
        return Looked(voted=self.voted, v=v, base=base, target=self.target, sigma=self.sigma)


def _taught(model: FlowModel, velocity: Velocity, placed: _Placed, form: Form, share: float) -> float:
    """Add the gradient of ``share`` of a group's loss. Where the group is more than a batch, no more than a batch has a
    graph at a time: the loss's slopes at the velocities are taken first, and each batch goes through once more."""
    if len(placed.parts) == 1:
        loss = form.loss(placed.looked(model, velocity)) * share
        loss.backward()
        return float(loss.detach())
    with torch.no_grad():
        looked = placed.looked(model, velocity)
    v = looked.v.detach().requires_grad_()
    loss = form.loss(replace(looked, v=v)) * share
    (slopes,) = torch.autograd.grad(loss, v)
    slope = iter(slopes.split([len(x) for x in placed.parts]))
    for x in placed.parts:
        velocity(x, torch.tensor(placed.sigma)).backward(next(slope))
    return float(loss.detach())


def _noise(model: FlowModel, voted: Voted, form: Form, seed: int) -> Tensor:
    if form.noise == "start":
        starts = model.noise(derive_seed(voted.origin.seed, "start"), voted.origin.starts)
        return starts[voted.origin.begun_with(len(voted.latents)).to(starts.device)]
    return model.noise(seed, 1 if form.noise == "group" else len(voted.latents))


def look_at(model: FlowModel, voted: Sequence[Voted], form: Form, config: AlignConfig) -> Look:
    """How the policy does on the pairs of groups, always with the same noise and at the same levels."""
    totals = torch.zeros(4, dtype=torch.float64)
    for group in voted:
        if not len(group.pairs[0]):
            continue

        def body(velocity: Velocity, group: Voted = group) -> Tensor:
            found = torch.zeros(4, dtype=torch.float64)
            for number in range(config.levels):
                seed = derive_seed("align", "look", group.name, number)
                sigma = (number + 0.5) / config.levels
                looked = _Placed.of(model, group, form, sigma, seed, config.batch).looked(model, velocity)
                found += torch.tensor(pair_figures(looked), dtype=torch.float64)
            return found

        with torch.no_grad():
            totals += model.run((model.encode(group.prompt),), body)
    right, pairs, error, base = totals.tolist()
    if not pairs:
        return Look(accuracy=float("nan"), better=float("nan"), pairs=0)
    return Look(accuracy=right / pairs, better=error / base - 1, pairs=round(pairs / config.levels))
