"""Train with an objective of your own: the ratio of GRPO, held back by its square instead of a clip.

    python examples/own_objective.py

Before it trains it checks the one thing that an objective has to get right: at the first update its gradient is that of
GRPO, since no ratio has moved yet.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mixgrpo_core import GRPO, FlowSDE, RolloutSettings, TrainConfig, group_advantages, rollout, train, windowed_plan
from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models import FlowModel, Policy, load_demo
from mixgrpo_core.objectives import Group, LossReport, Objective, UpdateSettings, update_policy
from mixgrpo_core.objectives.clipped import log_prob_terms, old_log_prob_terms
from mixgrpo_core.objectives.pieces import Piece
from mixgrpo_core.objectives.port import TRANSITIONS, Cells
from mixgrpo_core.objectives.ratio import aligned
from mixgrpo_core.rewards import RewardBatch, ShapeReward
from mixgrpo_core.support.phases import PhaseClock


@dataclass(frozen=True)
class HeldBack(Objective):
    """``mean(-A r + pull (log r)^2 / 2)``, ``r = exp(log_prob - old_log_prob)``.

    Attributes:
        pull: weight of the pull to the policy of the rollout, 0 or more.
    """

    pull: float = 1e3

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps."""
        return frozenset({TRANSITIONS})

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-probability of the rollout, ``[g]``."""
        return old_log_prob_terms(piece)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-probability, ``[g]``, with gradient."""
        return log_prob_terms(policy, piece)

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The loss of the table's log-ratios ``[g, C]``."""
        log_ratio = table["log_prob"] - table["old_log_prob"]
        advantage = aligned(cells.advantages, log_ratio.shape)
        loss = -advantage * log_ratio.exp() + self.pull * log_ratio.square() / 2
        return LossReport(loss=loss.mean(), means={"log_ratio": log_ratio.detach().abs().mean()})


class Noted(torch.optim.SGD):
    """Notes the gradients and takes no step."""

    def step(self, closure: object = None) -> None:
        """Keep the gradients."""
        self.noted = torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])


def first_gradient(model: FlowModel, objective: Objective) -> Tensor:
    """The gradient of the first update on one group of four images, all of the LoRA's numbers in one row."""
    prompt = train_prompts()[0]
    cond, plan = model.encode(prompt), windowed_plan(model.grid(5), (1, 2))
    trajectory = rollout(model, cond, plan, RolloutSettings(kernel=FlowSDE()), group_size=4, seed=0)
    scores = ShapeReward()(RewardBatch(images=model.decode(trajectory.final), prompts=(prompt,) * 4))
    group = Group(cond=cond, trajectory=trajectory, advantage=group_advantages(scores.values, scores.valid))
    optimizer = Noted(model.parameters(), lr=0.0)
    settings = UpdateSettings(updates=1, max_grad_norm=1e9)
    update_policy(model, [group], objective, optimizer, settings, clock=PhaseClock(lambda: model.evaluations))
    return optimizer.noted


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--iterations", type=int, default=10)
    options.add_argument("--images", type=int, default=12, help="images per prompt")
    options.add_argument("--steps", type=int, default=12)
    asked = options.parse_args()
    model = load_demo(rank=8)
    ours, grpo = first_gradient(model, HeldBack()), first_gradient(model, GRPO())
    print(
        f"gradients of the first update: |ours - GRPO's| / |GRPO's| = {float((ours - grpo).norm() / grpo.norm()):.1e}"
    )
    config = TrainConfig(
        iterations=asked.iterations,
        images_per_prompt=asked.images,
        steps=asked.steps,
        prompts_per_iteration=2,
        objective=HeldBack(),
        learning_rate=5e-4,
    )
    for report in train(model, train_prompts(), {"shape": ShapeReward()}, config):
        moved = report.update.figures["log_ratio"]
        print(f"{report.iteration:3}  reward {report.rewards['shape'].mean:.3f}  |log ratio| {moved:.1e}")


if __name__ == "__main__":
    main()
