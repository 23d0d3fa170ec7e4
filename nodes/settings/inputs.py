"""The inputs of Trainer Settings: a few that people change, and the rest behind *details*.

The rest is optional, so that a workflow saved before an input existed still runs.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core import GRPO, DanceSDE, DPMpp2M, Euler, FlowCPS, FlowSDE, GuardGRPO, PreciseSDE
from ...mixgrpo_core.evaluation.guards import DiversityLoss, Guard, HeldOutFall, PixelDrift
from ...mixgrpo_core.objectives.port import Objective
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.solvers import Solver
from ..sockets import WindowSocket
from .presets import FAMILIES, MEMORY, PRESETS

FROM_PRESET, BY_HAND, ON, OFF = "from preset", "set by hand", "on", "off"
KERNELS: Mapping[str, type[Kernel]] = MappingProxyType(
    {"Flow-SDE": FlowSDE, "DanceGRPO SDE": DanceSDE, "Flow-CPS": FlowCPS, "Precise SDE": PreciseSDE}
)
OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType({"GRPO": GRPO, "GRPO-Guard": GuardGRPO})
GUARDS: Mapping[str, tuple[Guard, ...]] = MappingProxyType(
    {
        "warn": (HeldOutFall(), DiversityLoss(), PixelDrift()),
        "stop": (HeldOutFall(stop=4), DiversityLoss(stop=0.3), PixelDrift(stop=3.0)),
        OFF: (),
    }
)
TAIL_SOLVERS: Mapping[str, type[Solver]] = MappingProxyType({"Euler": Euler, "DPM-Solver++ 2M": DPMpp2M})

_ZERO = "0: as the preset has it."
_MINUS = "-1: as the preset has it."


def settings_inputs() -> list[io.Input]:
    return [
        *_choices(),
        *_common(),
        io.DynamicCombo.Input(
            "details",
            options=[io.DynamicCombo.Option(FROM_PRESET, []), io.DynamicCombo.Option(BY_HAND, detail_inputs())],
            tooltip="Everything else: as the preset has it, or shown here to be changed.",
        ),
    ]


def detail_inputs() -> list[io.Input]:
    """What is shown where ``details`` is set by hand; 0, -1 and "from preset" leave what the preset has."""
    return [*_image(), *_rollout(), *_learning(), *_batches(), *_bookkeeping()]


def _choices() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default="MixGRPO-Flash",
            tooltip="The algorithm. MixGRPO trains a window of steps; Flash also shortens the steps after it and is "
            "faster; Flash* keeps the window at the start and is the fastest. Demo is for the demo model.",
        ),
        io.Combo.Input(
            "model_family",
            options=list(FAMILIES),
            default="FLUX.1-dev",
            tooltip="The kind of model that is trained: sets steps, window, image size, CFG and guidance. Take "
            "'distilled, 4-8 steps' for schnell, turbo, lightning and klein models.",
        ),
        io.Combo.Input(
            "memory",
            options=list(MEMORY),
            default="24 GB",
            tooltip="Your GPU's memory: limits image size, images at once, images per prompt and LoRA rank. 'plenty' "
            "is 48 GB and more. When memory runs out all the same, batches are halved and the run goes on.",
        ),
    ]


def _common() -> list[io.Input]:
    return [
        _whole("iterations", 100_000, "How often images are made, scored and learned from.", detail=False),
        _whole(
            "images_per_prompt",
            256,
            "Images of one prompt that are compared with each other: at least 2, 8 to 24 are usual.",
            detail=False,
        ),
        _whole(
            "prompts_per_iteration",
            1024,
            "Prompts of one iteration. The publications use 32 to 96 on 24 to 32 GPUs; the presets take 2 to 8 here, "
            "so that an iteration takes minutes on one GPU.",
            detail=False,
        ),
        _number(
            "learning_rate",
            (0.0, 1.0, 1e-6),
            "How big the steps of learning are; 3e-4 is published for LoRAs. Lower it when images break.",
            detail=False,
        ),
        _whole("rank", 1024, "Size of the LoRA.", detail=False),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**31 - 1,
            control_after_generate=False,  # the frontend would give a "seed" a new value after every run
            tooltip="All randomness of the run follows from it. Another seed is another run.",
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
        _whole("steps", 1000, "Denoising steps of a training image. Fewer are faster; 4 at least."),
        _number("shift", (0.0, 100.0, 0.1), "Timestep shift of the steps.", zero="0: as the loaded model has it."),
    ]


def _rollout() -> list[io.Input]:
    return [
        _choice("kernel", KERNELS, "How noise enters in the window's steps."),
        _number("eta", (0.0, 10.0, 0.05), "How much noise enters there: more explores more and blurs more."),
        _choice("shared_noise", (ON, OFF), "Whether the images of a prompt start from the same noise."),
        _number("tail_ratio", (0.0, 1.0, 0.05), "Share of the steps that is kept after the window (Flash: 0.4)."),
        _choice("tail_solver", TAIL_SOLVERS, "How the steps after the window are solved."),
    ]


def _learning() -> list[io.Input]:
    return [
        _choice("objective", OBJECTIVES, "The loss. GRPO-Guard evens out the steps and is gentler."),
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
        _whole("updates", 1024, "Optimizer steps per iteration."),
        _whole("epochs", 100, "Passes over an iteration's images."),
        _number("max_grad_norm", (0.0, 1000.0, 0.01), "Gradients are scaled down to this norm."),
        _number("weight_decay", (-1.0, 1.0, 1e-5), "Weight decay of AdamW.", default=-1.0),
        _number(
            "ema",
            (-1.0, 0.99999, 0.001),
            "Decay of an average of the LoRA, which is then the result; 0 is none.",
            default=-1.0,
        ),
        _number(
            "spread_floor",
            (-1.0, 1000.0, 0.001),
            "Differences of reward smaller than this count for less. In the reward's units.",
            default=-1.0,
        ),
        _number("alpha", (0.0, 4096.0, 1.0), "Scale of the LoRA times its rank.", zero="0: twice the rank."),
    ]


def _batches() -> list[io.Input]:
    return [
        _choice("checkpointing", (ON, OFF), "Less memory in training, for a third more time."),
        _whole("rollout_batch", 256, "Images sampled at once.", zero="0: from the memory."),
        _whole("decode_batch", 256, "Images decoded at once.", zero="0: from the memory."),
        _whole("update_batch", 256, "Images trained on at once.", zero="0: from the memory."),
    ]


def _bookkeeping() -> list[io.Input]:
    return [
        io.Int.Input(
            "eval_every",
            default=-1,
            min=-1,
            max=100_000,
            optional=True,
            tooltip=f"Iterations between looks at the held-out prompts; 0 is never. {_MINUS}",
        ),
        _whole("eval_images", 256, "Held-out images per prompt."),
        _whole("eval_steps", 1000, "Denoising steps of held-out images.", zero="0: as many as in training."),
        _choice(
            "guards",
            GUARDS,
            "What happens when held-out images say that the reward is being cheated: another reward falls, images of a "
            "prompt become alike, colours or sharpness run away. 'stop' ends the run where it is bad.",
        ),
        _whole("checkpoint_every", 100_000, "Iterations between checkpoints; a stop always makes one."),
        _whole("keep", 1000, "Checkpoints that are kept besides the best."),
    ]


def _whole(name: str, most: int, tooltip: str, *, step: int = 1, zero: str = _ZERO, detail: bool = True) -> io.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
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
