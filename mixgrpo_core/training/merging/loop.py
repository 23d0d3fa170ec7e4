"""A student LoRA follows teachers at the states of its own sampling. Flow-OPD (arXiv 2605.08063) in its direct form.

    loss = mean((v - v_t)^2) + anchor mean((v - v_base)^2)

at states of the student's own ODE. The published ``kl_only`` has the same expected gradient with more variance, and its
advantage, detached, would have none. Here levels weigh the same, there ``kappa^2 / (2 g^2)`` of an SDE step. A prompt
of several teachers has the sum of what they change: ``v_t = v_base + sum (v_teacher - v_base)``.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ...models.lora_file import LoraFile
from ...models.lora_names import UP
from ...models.policy import REFERENCE, Policy
from ...models.port import FlowModel, LoraState, Velocity
from ...models.sizes import sized
from ...objectives.update import NonFiniteLoss
from ...support.quoting import listed
from ...support.seeds import derive_seed
from ...support.setting import described, require_ranges, setting

_LOOKED = 4
"""Prompts of each teacher at which the distance is measured."""
_SHOWN = 2
"""Prompts of each teacher in pictures."""


@described
@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """How a student is taught."""

    updates: int = setting(100, "Steps of the optimizer.", least=1)
    learning_rate: float = setting(1e-3, "Of AdamW.", above=0)
    prompts: int = setting(4, "Prompts an update, of the teachers by turns.", least=1)
    images: int = setting(4, "Images of each prompt.", least=1)
    steps: int = setting(10, "Of the sampling whose states are looked at.", least=1)
    levels: int = setting(3, "States of each image that are looked at.", least=1)
    anchor: float = setting(0.0, "Weight of the distance to the base model.", least=0)
    max_grad_norm: float = setting(1.0, "The gradient's norm is clipped to it.", above=0)
    look_every: int = setting(20, "Updates between looks at the distances.", least=1)
    seed: int = setting(0, "Of noise, levels and order.")

    def __post_init__(self) -> None:
        require_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A LoRA, and what it is for.

    Attributes:
        name: its.
        weights: its state in the model's terms; of any rank.
        prompts: on which the student follows it.
    """

    name: str
    weights: LoraState
    prompts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """One update.

    Attributes:
        update: its number, from 1.
        loss: of it.
        distances: by teacher, the student's distance by the base model's at prompts of the teacher: 0 is the teacher, 1
            is no nearer than the base. Only where it was time for a look.
    """

    update: int
    loss: float
    distances: Mapping[str, float]

    @property
    def looked_at(self) -> bool:
        """Whether it was time for a look."""
        return bool(self.distances)


def teachers_of(model: FlowModel, files: Mapping[str, LoraFile], prompts: Mapping[str, Sequence[str]]) -> list[Teacher]:
    """LoRA files as teachers of this model.

    Raises:
        ValueError: one without prompts, prompts without a teacher, or a LoRA of another architecture.
    """
    alone, lost = sorted(files.keys() - prompts.keys()), sorted(prompts.keys() - files.keys())
    if alone:
        raise ValueError(f"expected prompts for each teacher, found none for {', '.join(alone)}: say what it is for")
    if lost:
        raise ValueError(
            f"there are prompts for {', '.join(lost)}, and no such teacher: the teachers are {sorted(files)}"
        )
    found = []
    for name, file in files.items():
        if not prompts[name]:
            raise ValueError(f"expected prompts for the teacher {name}, found an empty list")
        found.append(Teacher(name=name, weights=weights_for(model, name, file), prompts=list(prompts[name])))
    return found


def shown_of(teachers: Sequence[Teacher]) -> list[str]:
    """The prompts that pictures are made of: the first of each teacher's."""
    return list(dict.fromkeys(prompt for one in teachers for prompt in one.prompts[:_SHOWN]))


def weights_for(model: FlowModel, name: str, file: LoraFile) -> LoraState:
    """A LoRA file's state in the model's terms, of the file's rank; layers that it leaves out change nothing.

    Raises:
        ValueError: it is of another architecture, or changes layers that the model's LoRA does not have.
    """
    scale, own = model.lora_about.scale, model.lora_state()
    weights = {key: tensor / scale if key.endswith(UP) else tensor for key, tensor in file.state.items()}
    more = sorted(weights.keys() - own.keys())
    if own.keys() & weights.keys():
        if more:
            raise ValueError(
                f"the teacher {name} changes layers that the merged LoRA would not have ({listed(more)}): choose "
                "layers that hold them, or join the LoRAs exactly"
            )
        weights = {**_silent(own, file.rank), **weights}
    try:
        with model.with_weights(weights):
            pass
    except ValueError as error:
        raise ValueError(f"the teacher {name} is of another architecture: {error}") from error
    return weights


def _silent(own: LoraState, rank: int) -> dict[str, Tensor]:
    """A LoRA of that rank that changes nothing, of the layers of ``own``."""
    return {
        key: torch.zeros(tensor.shape[0], rank) if key.endswith(UP) else torch.zeros(rank, tensor.shape[1])
        for key, tensor in own.items()
    }


def merge(model: FlowModel, teachers: Sequence[Teacher], config: MergeConfig) -> Generator[MergeReport, None, None]:
    """Train the model's LoRA to do what each teacher does on its prompts.

    Raises:
        NonFiniteLoss: before a step would be taken with it.
    """
    model.prepare(sorted({prompt for teacher in teachers for prompt in teacher.prompts}))
    optimizer = torch.optim.AdamW(list(model.parameters()), lr=config.learning_rate, weight_decay=0.0)
    with torch.inference_mode(False), torch.enable_grad():
        for update in range(config.updates):
            optimizer.zero_grad(set_to_none=True)
            lesson = _Lesson(model, teachers, config, update)
            loss = sum(lesson.backward(place) for place in range(config.prompts))
            norm = float(clip_grad_norm_(list(model.parameters()), config.max_grad_norm))
            if not torch.isfinite(torch.tensor([loss, norm])).all():
                raise NonFiniteLoss(f"the loss of update {update + 1} is {loss}: lower the learning rate")
            optimizer.step()
            due = (update + 1) % config.look_every == 0 or update + 1 == config.updates
            yield MergeReport(
                update=update + 1, loss=float(loss), distances=distances(model, teachers, config) if due else {}
            )


@dataclass(frozen=True)
class _Lesson:
    """One update's prompts, states and losses; all of it is a function of the seed and the update."""

    model: FlowModel
    teachers: Sequence[Teacher]
    config: MergeConfig
    update: int

    def backward(self, place: int) -> float:
        """Add the gradient of one prompt; its loss."""
        config, number = self.config, self.update * self.config.prompts + place
        teacher = self.teachers[number % len(self.teachers)]
        lap, at = divmod(number // len(self.teachers), len(teacher.prompts))
        order = torch.Generator().manual_seed(derive_seed("merge", config.seed, teacher.name, lap))
        prompt = teacher.prompts[int(torch.randperm(len(teacher.prompts), generator=order)[at])]
        seed = derive_seed("merge", config.seed, self.update, place)
        chosen = torch.randperm(config.steps, generator=torch.Generator().manual_seed(seed))[: config.levels]
        share = 1 / (config.prompts * len(chosen))
        of_size = sized(self.model, prompt)

        def body(velocity: Velocity) -> float:
            total, states = 0.0, _states(of_size, velocity, config, seed)
            for step in chosen.tolist():
                x, sigma = states[step]
                v, target, base = _compared(self.model, self.teachers, prompt, velocity, x, sigma)
                loss = (v - target).square().mean() + config.anchor * (v - base).square().mean()
                (loss * share).backward()
                total += float(loss.detach()) * share
            return total

        return of_size.run((of_size.encode(prompt),), body)


def _states(model: FlowModel, velocity: Velocity, config: MergeConfig, seed: int) -> list[tuple[Tensor, Tensor]]:
    """What the policy as it is passes through: ``x`` and level before each step of its ODE."""
    x, sigmas, found = model.noise(seed, config.images), model.grid(config.steps), []
    with torch.no_grad():
        for sigma, after in pairwise(sigmas):
            found.append((x, sigma))
            x = x + float(after - sigma) * velocity(x, sigma)
    return found


def _compared(
    model: FlowModel, teachers: Sequence[Teacher], prompt: str, velocity: Velocity, x: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Velocities of the student, with its gradient, of what it is to follow, and of the base model."""
    mine = {teacher.name: teacher.weights for teacher in teachers if prompt in teacher.prompts}
    policy = Policy(
        velocity, model.with_weights, {REFERENCE: None, **{f"teacher {name}": w for name, w in mine.items()}}
    )
    base = policy.reference(x, sigma)
    change = torch.stack([policy.named(f"teacher {name}", x, sigma) - base for name in mine]).sum(0)
    return policy(x, sigma), base + change, base


@torch.no_grad()
def distances(model: FlowModel, teachers: Sequence[Teacher], config: MergeConfig) -> dict[str, float]:
    """How far the student is from each teacher, by the base model's distance; always at the same states of the base."""
    found = {}
    for teacher in teachers:
        sums = torch.zeros(2, dtype=torch.float64)
        for number, prompt in enumerate(teacher.prompts[:_LOOKED]):

            def body(velocity: Velocity, prompt: str = prompt, number: int = number) -> Tensor:
                total = torch.zeros(2, dtype=torch.float64)
                with model.with_weights(None):
                    states = _states(model, velocity, config, derive_seed("merge", "look", number))
                for x, sigma in states:
                    v, target, base = _compared(model, teachers, prompt, velocity, x, sigma)
                    total += torch.stack([(v - target).square().mean(), (base - target).square().mean()]).double().cpu()
                return total

            sums += model.run((model.encode(prompt),), body)
        found[teacher.name] = float(sums[0] / sums[1]) if float(sums[1]) > 0 else 0.0
    return found
