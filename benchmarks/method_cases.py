"""The rows of the benchmark of methods: every published method, and a few with settings that belong to the task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mixgrpo_core.models.lagged import Lag
from mixgrpo_core.objectives import CRD, DGPO, FPO, LevelPower, Objective
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.settings.presets import METHODS

BASELINE = "dance_grpo"
"""Whose final reward on the demo model the others' time is taken to."""
ON_DEMO = (
    *(BASELINE, "flow_grpo", "branch_grpo", "diffusion_nft", "awm", "mixgrpo", "mixgrpo_flash", "flash_grpo"),
    *("tempflow_grpo", "tree_grpo"),
)
"""Of every kind some: all steps, a window, one step, branches and trees, final images noised anew."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row.

    Attributes:
        name: in files, the preset's.
        label: in tables.
        config: the settings as published.
        rewards: names of the two rewards of the toy.
        routed: each of them teaches, and looks at, a half of its images.
        shuffled: rewards are dealt to the wrong images.
    """

    name: str
    label: str
    config: TrainConfig
    rewards: tuple[str, str] = ("red", "dark")
    routed: bool = False
    shuffled: bool = False


def cases() -> Mapping[str, Case]:
    """All rows by name."""
    found = {}
    for name, method in METHODS.items():
        if method.likeness == "our own":
            continue
        rewards = (method.rewards[0], method.rewards[1]) if len(method.rewards) > 1 else ("red", "dark")
        found[name] = Case(name=name, label=method.label, config=method.config, rewards=rewards, routed=method.masks)
    control = replace(found["mixgrpo"], name="control", label="control: MixGRPO, shuffled rewards", shuffled=True)
    gentle = _with(found["dgpo"], "dgpo_beta_1", "DGPO with beta 1", DGPO(beta=1.0))
    plain = _with(found["fpo"], "fpo_velocity", "FPO with the velocity's error", FPO(weight=LevelPower(0)))
    free = _with(found["crd"], "crd_free", "CRD, no pull, slower schedule", CRD(kl=0.0, lag=_SLOW, sampler_lag=_LATE))
    return {**found, **{row.name: row for row in (control, gentle, plain, free)}}


_SLOW = Lag(start=0.25, rate=0.0005, cap=0.999, every="iteration")
_LATE = Lag(flat=750, rate=0.0075, cap=0.999, every="iteration")


def _with(row: Case, name: str, label: str, objective: Objective) -> Case:
    return replace(row, name=name, label=label, config=replace(row.config, objective=objective))
