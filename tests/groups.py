"""Groups without a rollout behind them, for tests of credit."""

import torch

from mixgrpo_core.advantages.combine import credited, initial
from mixgrpo_core.advantages.port import Advantages, Credit, ScoredGroup
from mixgrpo_core.rewards.port import Context, Scores
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import deterministic_plan
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.trajectory import Trajectory, Transition


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


def path(latents, sigmas, trained=None):
    """The trajectory of members that pass through ``latents``, one ``[G, *L]`` for each of ``sigmas``.

    All steps are trained unless told otherwise; the first has one row where all members start from the same.
    """
    shared = len(latents[0].unique(dim=0)) == 1
    transitions = []
    for step in range(len(sigmas) - 1) if trained is None else trained:
        one_row = shared and step == 0
        transitions.append(
            Transition(
                step=step,
                kernel=FlowSDE(0.7),
                x=latents[step][:1] if one_row else latents[step],
                parents=torch.zeros(len(latents[0]), dtype=torch.long) if one_row else torch.arange(len(latents[0])),
                edge=torch.arange(len(latents[0])),
                x_next=latents[step + 1],
                sigma=sigmas[step],
                sigma_next=sigmas[step + 1],
                old_log_prob=torch.zeros(len(latents[0])),
            )
        )
    return Trajectory(transitions=tuple(transitions), final=latents[-1], sigmas=sigmas, nfe={})


def plain_scores(*values):
    """One reward that scored every image."""
    return {"reward": Scores.of(torch.tensor(values, dtype=torch.float64))}


def credit_of(stages: Credit | tuple[Credit, ...], groups, images=None) -> list[Advantages]:
    """What ``stages`` make of groups, over the whole iteration."""
    stages = stages if isinstance(stages, tuple) else (stages,)
    looked = [[stage.look(group, images) for stage in stages] for group in groups]
    first = [initial(stages, group, kept) for group, kept in zip(groups, looked, strict=True)]
    return list(credited(stages, groups, first, looked))
