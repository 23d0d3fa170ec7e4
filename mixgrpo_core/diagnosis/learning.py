"""What training does to the images and to prompts that it never sees."""

from .evidence import Evidence
from .port import Finding
from .update_size import stands_still

_LOST = ("becoming empty", "turning into noise", "hold NaN", "become alike", "has risen by", "has fallen by")
_YOUNG = 10


def lost_images(run: Evidence) -> Finding | None:
    """What guards said of the images, last."""
    alarms = [alarm for report in run.reports for alarm in report.get("warnings", ())]
    told = [alarm for alarm in alarms if any(words in alarm["sentence"] for words in _LOST)]
    if not run.train.guards:
        return Finding(
            sign="images",
            found="no guard looked at them",
            change='look at the samples, and train with guards: guards = ["Collapse()", "DiversityLoss()"]',
            gravity=0.15,
        )
    if not told:
        return Finding(sign="images", found="no guard found that they lost content or variety")
    found, _, change = told[-1]["sentence"].partition(": ")
    destroyed = any(words in found for words in _LOST[:3])
    return Finding(sign="images", found=found, change=change, gravity=0.92 if destroyed else 0.5)


def held_out(run: Evidence) -> Finding | None:
    """Whether what rises on trained prompts rises on others."""
    made = run.held_out()
    if len(made) < 2:
        return Finding(
            sign="held-out",
            found="prompts that are never trained on were not evaluated twice",
            change="set held-out prompts and eval_every: only they tell learning from tricks",
            gravity=0.1,
        )
    best = max(made, key=lambda one: one[1])
    fall, error = best[1] - made[-1][1], run.held_out_error()
    found = f"held-out reward {made[0][1]:.3g} at first, {best[1]:.3g} at best, {made[-1][1]:.3g} now"
    training = run.training()
    if (
        training is None
        or training.gain < 4 * training.error
        or not training.rises
        or (made[-1][1] - made[0][1] > 2 * error and fall <= 2 * error)
    ):
        return Finding(sign="held-out", found=found)
    if fall <= 2 * error and made[-1][1] >= made[0][1] - 2 * error:
        change = "training rises and held-out prompts do not: use more and more varied prompts"
        return Finding(sign="held-out", found=found, change=change, gravity=0.6)
    change = (
        f"the training reward rises while this falls since iteration {best[0]}: the model tricks the reward. Stop, use "
        "the LoRA named best, and add a second reward, more prompts or a KL weight"
    )
    return Finding(sign="held-out", found=found, change=change, gravity=0.88)


def fallback(run: Evidence) -> Finding | None:
    """A policy that moves and a reward that stays: the scores may be noise."""
    trend = run.trend()
    if trend is None or trend.rises or trend.falls or stands_still(run):
        return None
    found = f"the policy moves, and the reward stays within its error ({trend.error:.2g})"
    if len(run.reports) < _YOUNG:
        change = f"{len(run.reports)} iterations tell little: go on for {_YOUNG} at least"
        return Finding(sign="reward noise", found=found, change=change, gravity=0.3)
    change = (
        "the scores may be noise: score one picture twice, and look whether the best of a prompt are better (Score "
        "Images on the canvas, or mixgrpo score); else use more images per prompt, or a reward of finer steps"
    )
    return Finding(sign="reward noise", found=found, change=change, gravity=0.55)
