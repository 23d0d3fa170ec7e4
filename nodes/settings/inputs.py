"""The inputs of Trainer Settings: a few that people change, and the rest behind *details*.

The rest is optional, so that a workflow saved before an input existed still runs. Where an input is a setting of the
core, its range and its help are the setting's; a value that the setting cannot have means: as the preset has it.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import get_args, get_type_hints

from comfy_api.latest import io

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.evaluation.guards import Collapse, DiversityLoss, Guard, HeldOutFall, PixelDrift
from ...mixgrpo_core.models.facts import FACTS
from ...mixgrpo_core.models.lora_layers import LAYERS
from ...mixgrpo_core.objectives import Objective
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.support.setting import settings_of
from ..checks import LARGEST_SEED
from ..sockets import WindowSocket
from .choices import choices
from .presets import AUTO, MEMORY, PRESETS

GROUP = "mixgrpo_group"
"""What tells the page of an input in which group of the details it stands."""
FROM_PRESET, BY_HAND, ON, OFF = "from preset", "set by hand", "on", "off"
SETS_ITSELF, FIXED = "sets itself", "fixed"
GUARDS: Mapping[str, tuple[Guard, ...]] = MappingProxyType(
    {
        "warn": (HeldOutFall(), DiversityLoss(), PixelDrift(), Collapse(stop=None)),
        "stop": (HeldOutFall(stop=4), DiversityLoss(stop=0.3), PixelDrift(stop=3.0), Collapse()),
        OFF: (),
    }
)
TOLD = MappingProxyType(dict(settings_of(TrainConfig)))
"""What the core says of its settings, by name."""
_HINTS = get_type_hints(TrainConfig)

_ZERO = "0: as the preset has it."
_MINUS = "-1: as the preset has it."
_FROM_MEMORY = "0: from the memory."


def settings_inputs() -> list[io.Input]:
    return [
        *_choices(),
        *_common(),
        io.DynamicCombo.Input(
            "details",
            options=[io.DynamicCombo.Option(FROM_PRESET, []), io.DynamicCombo.Option(BY_HAND, detail_inputs())],
            tooltip="Everything else: as the preset has it, or shown here to be changed.",
        ),
        io.String.Input(
            "more_settings",
            default="",
            multiline=True,
            optional=True,
            tooltip="Settings that have no input of their own, one on a line as in a run file's [train] table: "
            'credit = ["CentredRewards()", "TimeCredit()"]. Objects are calls in quotes; # begins a comment.',
        ),
        _choice(
            "step_size",
            (SETS_ITSELF, FIXED),
            "sets itself, as from preset: the trainer measures how far an iteration moves the model, and steers the "
            "learning rate so that it is 5 % of the velocity, less as the run goes on, more where updates are seen to "
            "be right, half as much where rewards fall or images tear; it makes up to 16 updates of an iteration's "
            "images. fixed: learning_rate and updates as they then stand in the details.",
        ),
        io.Combo.Input(
            "layers",
            options=[FROM_PRESET, *LAYERS],
            default=FROM_PRESET,
            optional=True,
            advanced=True,
            tooltip="Which layers of the model's blocks carry the LoRA: 'attention' alone makes a smaller file that "
            "changes less, 'all linear' adds those of modulation. The presets take attention and MLP.",
        ),
    ]


def detail_inputs() -> list[io.Input]:
    """What is shown where ``details`` is set by hand; 0, -1 and "from preset" leave what the preset has."""
    groups = {
        "image": _image(),
        "sampling": _rollout(),
        "learning": _learning(),
        "batches": _batches(),
        "watching, saving": _bookkeeping(),
    }
    for name, items in groups.items():
        for item in items:
            item.extra_dict = {GROUP: name}
    return [item for items in groups.values() for item in items]


def unset(name: str) -> int:
    """What stands for "as the preset has it": 0, or -1 where 0 is a value of the setting."""
    return -1 if TOLD[name].range and TOLD[name].holds(0) else 0


def _choices() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default="MixGRPO-Flash",
            tooltip="The algorithm. MixGRPO trains a window of steps; Flash also shortens the steps after it and is "
            "faster; Flash* keeps the window at the start and is the fastest. Demo is for the demo model. Quick look, "
            "our own, is a short run that shows whether a reward can be learned from. 'after' and 'inspired by' say "
            "that a preset differs from its publication: the help page says in what.",
        ),
        io.Combo.Input(
            "model_family",
            options=[AUTO, *FACTS],
            default=AUTO,
            tooltip="The kind of model that is trained: sets steps, window, image size, CFG and guidance. auto reads "
            "it from the MODEL, and from its file's name whether it is distilled. Take 'distilled, 4-8 steps' for a "
            "model that a LoRA makes fast: auto does not see that.",
        ),
        io.Combo.Input(
            "memory",
            options=list(MEMORY),
            default="24 GB",
            tooltip="Your GPU's memory: limits image size, images at once, images per prompt and LoRA rank. 'plenty' "
            "is 80 GB, without gradient checkpointing. When memory runs out all the same, batches are halved and the "
            "run goes on.",
        ),
    ]


def _common() -> list[io.Input]:
    return [
        io.Int.Input("iterations", default=0, min=-1, max=100_000, tooltip=f"{TOLD['iterations'].help} {_ZERO}"),
        _setting("images_per_prompt", 256, detail=False),
        _setting(
            "prompts_per_iteration",
            1024,
            more="The presets take 2 to 8 here, so that an iteration takes minutes on one GPU.",
            detail=False,
        ),
        _setting("learning_rate", 1.0, step=1e-6, detail=False),
        _whole("rank", 1024, "Size of the LoRA.", detail=False),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=False,  # the frontend would give a "seed" a new value after every run
            tooltip=TOLD["seed"].help,
        ),
        WindowSocket.Input(
            "window", optional=True, tooltip="Which steps are trained, from a Window node. Replaces the preset's."
        ),
    ]


def _image() -> list[io.Input]:
    return [
        _whole("width", 4096, "Width of the images in pixels, a multiple of 16.", step=16),
        _whole("height", 4096, "Height of the images in pixels, a multiple of 16.", step=16),
        _number("cfg", (0.0, 30.0, 0.1), "Classifier-free guidance: 1 is off, above 1 every step costs two."),
        _number(
            "guidance",
            (-1.0, 100.0, 0.1),
            "The guidance that FLUX-like models take as an input.",
            default=-1.0,
        ),
        _setting("steps", 1000, more="4 at least."),
        _setting("shift", 100.0, step=0.1, rest="0: the grid is the loaded model's own."),
    ]


def _rollout() -> list[io.Input]:
    return [
        _choice("kernel", choices(Kernel), TOLD["kernel"].help),
        _number("eta", (0.0, 10.0, 0.05), "How much noise enters there: more explores more and blurs more."),
        _choice("shared_noise", (ON, OFF), TOLD["shared_noise"].help),
        _number("tail_ratio", (0.0, 1.0, 0.05), "Share of the steps that is kept after the window (Flash: 0.4)."),
        _choice("tail_solver", choices(Solver), TOLD["tail_solver"].help),
    ]


def _learning() -> list[io.Input]:
    return [
        _choice(
            "objective", choices(Objective), f"{TOLD['objective'].help} GRPO-Guard evens out the steps and is gentler."
        ),
        _number(
            "clip",
            (0.0, 0.2, 1e-6),
            "How far the policy may move in one iteration: a range of the ratio of mean densities, so small numbers.",
            zero="0: from the size of the images (1e-4 at 720 x 720 on FLUX.1), or from the preset.",
        ),
        _number("adv_clip", (0.0, 100.0, 0.1), "Advantages are limited to this many standard deviations."),
        _number(
            "kl", (-1.0, 100.0, 1e-4), "Pull towards the base model; costs an evaluation. 0 is none.", default=-1.0
        ),
        _setting("updates", 1024),
        _setting("epochs", 100),
        _setting("max_grad_norm", 1000.0, step=0.01),
        _setting("weight_decay", 1.0, step=1e-5),
        _setting("ema", 0.99999, step=0.001, more="0 is none."),
        _setting("spread_floor", 1000.0, step=0.001),
        _number("alpha", (0.0, 4096.0, 1.0), "Scale of the LoRA times its rank.", zero="0: twice the rank."),
    ]


def _batches() -> list[io.Input]:
    return [
        _choice("checkpointing", (ON, OFF), "Less memory in training, for a third more time."),
        _setting("rollout_batch", 256, rest=_FROM_MEMORY),
        _setting("decode_batch", 256, rest=_FROM_MEMORY),
        _setting("update_batch", 256, rest=_FROM_MEMORY),
    ]


def _bookkeeping() -> list[io.Input]:
    return [
        _setting("eval_every", 100_000),
        _setting("eval_images", 256),
        _setting("eval_steps", 1000, rest="0: as many as in training."),
        _choice(
            "guards",
            GUARDS,
            f"{TOLD['guards'].help} A run is called bad when another reward falls, when images of a prompt become "
            "alike, when colours or sharpness run away, when the training reward falls below its start. 'stop' ends "
            "the run then; as the preset has it only the last of these does.",
        ),
        _setting("checkpoint_every", 100_000),
        _setting("keep", 1000),
        _setting("checkpoint_minutes", 100_000),
    ]


def _setting(
    name: str, most: float, *, step: float = 1, more: str = "", rest: str = "", detail: bool = True
) -> io.Input:
    """The input of a setting: ``more`` is said here besides its help, ``rest`` in place of what 0 or -1 means."""
    words = " ".join(filter(None, (TOLD[name].help, more)))
    rest = rest or (_MINUS if unset(name) else _ZERO)
    if float not in (_HINTS[name], *get_args(_HINTS[name])):
        return _whole(name, int(most), words, default=unset(name), zero=rest, detail=detail)
    least = float(unset(name))
    return _number(name, (least, most, step), words, default=least, zero=rest, detail=detail)


def _whole(
    name: str,
    most: int,
    tooltip: str,
    *,
    step: int = 1,
    default: int = 0,
    zero: str = _ZERO,
    detail: bool = True,
) -> io.Input:
    return io.Int.Input(
        name,
        default=default,
        min=default,
        max=most,
        step=step,
        tooltip=f"{tooltip} {zero}",
        optional=detail,
    )


def _number(
    name: str,
    bounds: tuple[float, float, float],
    tooltip: str,
    *,
    default: float = 0.0,
    zero: str = "",
    detail: bool = True,
) -> io.Input:
    """``bounds``: least, most and step."""
    least, most, step = bounds
    rest = zero or (_MINUS if default < 0 else _ZERO)
    return io.Float.Input(
        name,
        default=default,
        min=least,
        max=most,
        step=step,
        round=step / 10,  # the frontend would round to the step
        tooltip=f"{tooltip} {rest}",
        optional=detail,
    )


def _choice(name: str, options: Iterable[str], tooltip: str) -> io.Input:
    return io.Combo.Input(name, options=[FROM_PRESET, *options], default=FROM_PRESET, tooltip=tooltip, optional=True)
