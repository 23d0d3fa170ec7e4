"""What sharing saves: network rows per image of plans whose images have a start, a prefix or branches in common.

    .venv/bin/python benchmarks/shared_rows.py

Counted on the real rollout and update with a network that only counts: 10 steps, 16 images of one prompt, GRPO.
``scripts/make_docs.py`` writes the table into docs/methods.md.
"""

from dataclasses import dataclass, replace

from mixgrpo_core import FrozenWindow, FullPlanner, TrainConfig, WindowPlanner
from mixgrpo_core.sampling import BranchPlanner, Planner, StepPlan, TreePlanner, windowed_plan
from mixgrpo_core.training.cost import iteration_cost

STEPS, IMAGES = 10, 16


@dataclass(frozen=True)
class AtStep(Planner):
    """One trained step, the same in every iteration; with children it branches there."""

    step: int
    children: int = 1

    def plan(self, iteration, prompt, sigmas, memory=None) -> StepPlan:
        plan = windowed_plan(sigmas, [self.step])
        steps = list(plan.steps)
        steps[self.step] = replace(steps[self.step], children=self.children)
        return replace(plan, steps=tuple(steps))


@dataclass(frozen=True)
class Row:
    """A plan in words, and its network rows per image."""

    plan: str
    start: str
    rollout: float
    update: float


def _window(start: int) -> WindowPlanner:
    return WindowPlanner(window=FrozenWindow(size=4, start=start))


def _tree(start: int) -> TreePlanner:
    return TreePlanner(window=FrozenWindow(size=4, start=start))


CASES: tuple[tuple[str, str, Planner, bool], ...] = (
    ("a window of 4, wherever it stands", "own", _window(0), False),
    ("the window at steps 0 to 3", "shared", _window(0), True),
    ("the window at steps 3 to 6", "shared", _window(3), True),
    ("the window at steps 5 to 8", "shared", _window(5), True),
    ("a binary tree in the window at 0 to 3", "shared", _tree(0), True),
    ("a binary tree in the window at 3 to 6", "shared", _tree(3), True),
    ("a binary tree in the window at 5 to 8", "shared", _tree(5), True),
    ("one step, the fifth", "own", AtStep(4), False),
    ("one step, the fifth", "shared", AtStep(4), True),
    ("4 starts that branch into 4 at the fifth step", "own", AtStep(4, children=4), False),
    ("every step but the last", "own", FullPlanner(), False),
    ("every step but the last", "shared", FullPlanner(), True),
    ("every step but the last, splits at 0, 2, 4, 6", "shared", BranchPlanner(splits=(0, 2, 4, 6)), True),
)


def rows() -> list[Row]:
    """All cases, counted."""
    found = []
    for plan, start, planner, shared in CASES:
        config = TrainConfig(
            steps=STEPS,
            images_per_prompt=IMAGES,
            prompts_per_iteration=1,
            updates=1,
            planner=planner,
            shared_noise=shared,
        )
        nfe = iteration_cost(config, 0).nfe
        found.append(Row(plan, start, nfe["rollout"], nfe["train"]))
    return found


def main() -> None:
    for row in rows():
        print(f"{row.plan:48} {row.start:7} {row.rollout:6.2f} {row.update:6.2f}")


if __name__ == "__main__":
    main()
