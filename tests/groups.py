"""Groups without a rollout behind them, for tests of credit."""

import torch

from mixgrpo_core.advantages.combine import credited, initial
from mixgrpo_core.advantages.port import Advantages, Credit, ScoredGroup
from mixgrpo_core.rewards.port import Context, Scores
from mixgrpo_core.sampling.planners import deterministic_plan
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.trajectory import Trajectory


def scored_group(scores, weights=None, floors=None, *, trajectory=None, place=0, context=None, plan=None, places=None):
    """A `ScoredGroup` of ``scores`` (`Scores` by name); every reward has weight 1 unless told otherwise."""
    size = len(next(iter(scores.values())).values)
    plan = plan or deterministic_plan(flow_sigmas(4))
    final = torch.zeros(size, 1, 2, 2)
    return ScoredGroup(
        prompt="a red circle",
        place=place,
        iteration=0,
        plan=plan,
        trajectory=trajectory or Trajectory(transitions=(), final=final, sigmas=plan.sigmas, nfe={}),
        scores=scores,
        weights=weights or dict.fromkeys(scores, 1.0),
        floors=floors or {},
        context=context or Context(),
        places=places or (lambda maps: maps[:, None]),
    )


def plain_scores(*values):
    """One reward that scored every image."""
    return {"reward": Scores.of(torch.tensor(values, dtype=torch.float64))}


def credit_of(stages: Credit | tuple[Credit, ...], groups, images=None) -> list[Advantages]:
    """What ``stages`` make of groups, over the whole iteration."""
    stages = stages if isinstance(stages, tuple) else (stages,)
    looked = [[stage.look(group, images) for stage in stages] for group in groups]
    first = [initial(stages, group, kept) for group, kept in zip(groups, looked, strict=True)]
    return list(credited(stages, groups, first, looked))
