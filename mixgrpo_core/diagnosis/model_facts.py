"""Where the LoRA sits, and what of the sampling keeps it from mattering."""

from collections.abc import Mapping
from typing import Any

from .evidence import Evidence
from .port import Finding

_MOST = 0.9  # of the layers: some networks do not use all of the last block
_DETAIL = 0.3  # noise below which steps only finish what is there


def lora_layers(run: Evidence) -> Finding | None:
    """How many of the LoRA's layers have moved from their start, which is no change at all."""
    ups = {name: tensor for name, tensor in run.lora.items() if "lora_B" in name or "lora_up" in name}
    if not ups or not any(report["update"]["steps"] for report in run.reports):
        return None
    moved = sum(bool(tensor.any()) for tensor in ups.values())
    found = f"{moved} of the LoRA's {len(ups)} layers have moved from their start"
    if moved >= _MOST * len(ups):
        return Finding(sign="LoRA", found=found)
    change = (
        "layers that never move get no gradient: the network does not run them as they are, or the objective does not "
        "reach them; train another selection of layers"
    )
    return Finding(sign="LoRA", found=found, change=change, gravity=0.3 + 0.65 * (1 - moved / len(ups)))


def guidance(run: Evidence) -> Finding | None:
    """The guidance of the rollouts, as the run's setup names it."""
    model = run.setup.get("model")
    scale = model.get("guidance") if isinstance(model, dict) else run.setup.get("cfg")
    if not isinstance(scale, int | float):
        return None
    found = f"images are made with guidance {scale:g}"
    if scale > 1 and run.train.objective.plain_field:
        change = "the objective learns a field without guidance: set it to 1"
        return Finding(sign="guidance", found=found, change=change, gravity=0.75)
    if scale <= 8:
        return Finding(sign="guidance", found=found)
    change = "it burns the images that the reward sees, and hides what the LoRA does: use 3 to 5"
    return Finding(sign="guidance", found=found, change=change, gravity=0.6)


def grid(run: Evidence) -> Finding | None:
    """Whether the steps are the model's own."""
    sigmas = run.reports[-1].get("sigmas") if run.reports else None
    if not sigmas:
        return None
    found = f"{len(sigmas) - 1} steps from noise {sigmas[0]:.3g} to {sigmas[-1]:.3g}"
    if run.train.shift is None:
        return Finding(sign="grid", found=f"{found}, the model's own")
    change = "the grid is set by hand: leave shift out, so that the model says it, or make sure that it is the model's"
    return Finding(sign="grid", found=f"{found}, shift {run.train.shift:g}", change=change, gravity=0.2)


def window(run: Evidence) -> Finding | None:
    """Whether the trained steps are those that decide what the reward looks at."""
    known = [report for report in run.reports if _has_window(report)]
    if not known:
        return None
    highest = max(report["sigmas"][report["window"][0]] for report in known)
    found = f"the noisiest step that was trained is at {highest:.2g}"
    if highest >= _DETAIL:
        return Finding(sign="window", found=found)
    change = "late steps change details only, not what is in the picture: train steps nearer the start"
    trend = run.trend()
    return Finding(sign="window", found=found, change=change, gravity=0.35 if trend and trend.rises else 0.65)


def _has_window(report: Mapping[str, Any]) -> bool:
    return 0 <= report["window"][0] < len(report.get("sigmas") or ())
