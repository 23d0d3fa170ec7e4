"""What each family of models wants: steps, size, guidance, how much of it is trained. One table for every home.

The settings of Trainer Settings, a run file's ``fitted`` and the families of diffusers folders all read it here. The
numbers of guidance and steps are those of the models' own pages, and are not measured here. That a model of few steps
learns with two noisy ones is measured on the demo model (``benchmarks/few_steps.md``: at 4, 6 and 8 steps the first two
teach 1.7 to 10 times what the first alone does).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a family of models wants.

    Attributes:
        steps: denoising steps of a rollout.
        window: most trained steps of an iteration.
        pace: factor on the iterations for which a preset's window stands still.
        last: cap on the window's start.
        side: pixels of the images' sides where memory allows.
        cfg: classifier-free guidance scale; 1 is off.
        guidance: guidance that the model takes as an input.
        distilled: guidance is inside the model, CFG harms it.
        prompts: prompts of an iteration on one GPU.
        iterations, learning_rate: of a run.
        few_steps: distilled to make images in 4 to 8 steps.
        large: one trained image does not fit on an 80 GB card beside the weights without gradient checkpointing.
    """

    steps: int
    side: int
    window: int = 4
    pace: float = 1.0
    last: int | None = None
    cfg: float = 1.0
    guidance: float | None = None
    distilled: bool = False
    prompts: int = 2
    iterations: int = 300
    learning_rate: float = 3e-4
    few_steps: bool = False
    large: bool = False


SD35 = Facts(steps=10, side=512, pace=2, cfg=4.5, prompts=4)
FLUX_DEV = Facts(steps=25, side=720, guidance=3.5, distilled=True)
FLUX2 = Facts(steps=25, side=768, guidance=4.0, distilled=True, large=True)
QWEN = Facts(steps=20, side=768, cfg=4.0, large=True)
Z_IMAGE = Facts(steps=20, side=768, cfg=4.0)
CHROMA = Facts(steps=20, side=512, cfg=4.0)
SDXL = Facts(steps=20, side=1024, cfg=5.0)
SD1 = Facts(steps=20, side=512, cfg=7.0, prompts=4)
FEW = Facts(steps=6, side=768, window=2, pace=2, distilled=True, prompts=4, few_steps=True)
OTHER = Facts(steps=20, side=512, cfg=3.5)
DEMO = Facts(steps=25, side=64, pace=0.2, last=3, prompts=8, iterations=55, learning_rate=5e-4)

FACTS: Mapping[str, Facts] = MappingProxyType(
    {
        "SD3.5": SD35,
        "FLUX.1-dev": FLUX_DEV,
        "FLUX.2": FLUX2,
        "Qwen-Image": QWEN,
        "Z-Image": Z_IMAGE,
        "Chroma": CHROMA,
        "SDXL": SDXL,
        "SD 1.5": SD1,
        "distilled, 4-8 steps": FEW,
        "other flow model": OTHER,
        "demo": DEMO,
    }
)
"""By the names that people choose them by."""

_FAST = re.compile(r"turbo|lightning|schnell|hyper|flash|distill|(?<!\d)[48][-_ ]?steps?|hidream.*fast", re.IGNORECASE)


def is_fast(name: str) -> bool:
    """Whether a model or a LoRA is called like one for few steps: nothing in their weights says so."""
    return _FAST.search(name) is not None
