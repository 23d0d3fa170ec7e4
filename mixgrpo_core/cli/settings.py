"""A run as the command line knows it: model, prompts, rewards and the training settings; a TOML file or flags.

out = "runs/first"
[model]
folder = "demo"                       # or a local diffusers folder of Stable Diffusion 3 / 3.5
[prompts]
train = "prompts.txt"                 # a file with a prompt per line, or a list
[rewards]
shape = "ShapeReward()"
[train]
iterations = 60
kernel = "FlowSDE(eta=0.7)"
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

import torch
import tyro

from ..advantages import Credit
from ..evaluation.guards import Guard
from ..objectives import Objective, Regulariser, StepWeight
from ..rewards.port import Reward
from ..sampling.kernels import Kernel
from ..sampling.planners import Planner
from ..sampling.solvers import Solver
from ..settings import presets
from ..settings.config import CLASSES, RENAMED, TrainConfig, checked, from_dict
from ..settings.prompt_sources import PromptSource
from ..settings.prompts import Prompts, read_prompts
from ..support.spelling import parse, spell, suggest
from . import reward_calls
from .devices import usable_device

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PRESETS: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {
        preset.__name__: preset
        for preset in (
            *(presets.mixgrpo, presets.mixgrpo_sd35, presets.mixgrpo_flash, presets.mixgrpo_flash_star),
            *(presets.flow_grpo, presets.flow_grpo_fast, presets.dance_grpo),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and its LoRA.

    Attributes:
        folder: ``demo`` (the shipped one) or a local diffusers folder of Stable Diffusion 3 or 3.5.
        rank: of the LoRA; None takes the LoRA file's, or 8 for the demo and 32 else.
        alpha: scale of the LoRA times its rank; None is twice the rank.
        lora: a LoRA file to start from.
        height: of the images, in pixels; None is the model's own. The demo model draws one size only.
        width: see height.
        guidance: classifier-free guidance; 1 is off and halves the cost.
        dtype: of the frozen weights and their products; the LoRA and the sampler's mathematics are always float32, and
            so is all of the demo model. There is no float16: the gradient of a mean log-probability is about 1e-8,
            which is 0 in it.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None takes a GPU if there is one.
        gradient_checkpointing: less memory, about a third more time in the update.
        seed: of the LoRA's first values.
    """

    folder: str = "demo"
    rank: int | None = None
    alpha: float | None = None
    lora: str | None = None
    height: int | None = None
    width: int | None = None
    guidance: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    device: str | None = None
    gradient_checkpointing: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Prompts: a file (.txt, one per line, or .jsonl with "prompt") or the prompts themselves.

    Attributes:
        train: what is trained on.
        held_out: what is only evaluated; None takes ``held_out_share`` of ``train`` away for it.
        held_out_share: share of the prompts that is held out when ``held_out`` is None.
    """

    train: str | tuple[str, ...] = ()
    held_out: str | tuple[str, ...] | None = None
    held_out_share: float = 0.1


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything of a run.

    Attributes:
        out: the run folder; it must not exist yet.
        rewards: per name a reward, spelled as the call that makes it: ``ShapeReward()``.
        model, prompts, train: see there.
    """

    out: str = "runs/mixgrpo"
    model: ModelConfig = field(default_factory=ModelConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    rewards: dict[str, str] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)

    def make_rewards(self) -> dict[str, Reward]:
        """The reward objects by name."""
        return reward_calls.made(self.rewards)

    def make_prompts(self) -> Prompts:
        """The prompts, split into training and held-out."""
        return read_prompts(self.prompts.train, self.prompts.held_out, self.prompts.held_out_share)

    def make_model(self) -> Any:
        """The model with its LoRA. Imports diffusers, so only here."""
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        diffusers_logging.set_verbosity_error()  # their hints are for callers of theirs, not for users of a command
        transformers_logging.set_verbosity_error()
        from ..models.families.demo import load_demo
        from ..models.families.sd3 import load_sd3

        settings, resolution = self.model, self._resolution()
        common = {
            "rank": settings.rank,
            "alpha": settings.alpha,
            "lora": settings.lora,
            "seed": settings.seed,
            "guidance": settings.guidance,
            "device": usable_device(
                settings.device or ("cuda" if torch.cuda.is_available() else "cpu"), "model.device"
            ),
            "gradient_checkpointing": settings.gradient_checkpointing,
        }
        if settings.folder == "demo":
            return load_demo(**common)
        return load_sd3(settings.folder, dtype=getattr(torch, settings.dtype), resolution=resolution, **common)

    def _resolution(self) -> tuple[int, int] | None:
        height, width = self.model.height, self.model.width
        if height is None and width is None:
            return None
        if self.model.folder == "demo":
            raise ValueError("the demo model draws 64 x 64 pixels only: leave model.height and model.width out")
        if height is None or width is None:
            raise ValueError(
                f"expected both model.height and model.width, found {height} and {width}: give both or none"
            )
        return height, width

    def setup(self) -> dict[str, Any]:
        """What a resume needs besides the training settings, as JSON values; files of prompts are written out."""
        prompts = self.make_prompts()
        return {
            "model": asdict(self.model),
            "prompts": {"train": list(prompts.train), "held_out": list(prompts.held_out)},
            "rewards": dict(self.rewards),
        }


def read_toml(path: str | Path) -> RunConfig:
    """A run file. Raises ``ValueError`` that names an unknown key and the nearest known one."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"expected a run file at {path}, found nothing: give the path of a .toml file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file in UTF-8: {error}") from error
    return from_values(values)


def from_values(values: Mapping[str, Any]) -> RunConfig:
    """A run from plain values (a TOML file, or the ``setup`` and ``train`` of a run folder).

    ``preset`` names a function of ``mixgrpo_core.settings.presets``; what ``train`` sets is changed in it.
    """
    known = {"preset", *(item.name for item in fields(RunConfig))}
    for name in values:
        if name not in known:
            raise ValueError(f"unknown table or key {name!r}; {suggest(name, known)}")
    preset = values.get("preset")
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; {suggest(str(preset), PRESETS)}")
    plain = {"out": str, "rewards": dict[str, str]}
    return RunConfig(
        **{name: checked(name, hint, values[name]) for name, hint in plain.items() if name in values},
        model=ModelConfig(**_table("model", ModelConfig, values)),
        prompts=PromptConfig(**_table("prompts", PromptConfig, values)),
        train=from_dict(values.get("train", {}), PRESETS[preset]() if preset else None),
    )


def _table(name: str, cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The checked settings of one table."""
    hints = get_type_hints(cls)
    table = checked(name, Mapping[str, Any], values.get(name, {}))
    for key in table:
        if key not in hints:
            raise ValueError(f"unknown setting {name}.{key}; {suggest(key, hints)}")
    return {key: checked(f"{name}.{key}", hints[key], value) for key, value in table.items()}


def parse_flags(default: RunConfig, arguments: Sequence[str], prog: str, description: str) -> RunConfig:
    """Flags over a run: ``--train.iterations 50 --train.kernel 'DanceSDE(eta=0.3)'``; older names are read, too."""
    older = {f"--train.{old}": f"--train.{new}" for old, new in RENAMED.items()}
    arguments = [older.get(word, word) for word in arguments]
    return tyro.cli(
        RunConfig, default=default, args=arguments, prog=prog, description=description, registry=calls_as_flags()
    )


def calls_as_flags() -> tyro.constructors.ConstructorRegistry:
    """Objects as flags: the call that makes them."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def by_call(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type not in (Planner, Kernel, Solver, Objective, StepWeight, Regulariser, Credit, PromptSource, Guard):
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="CALL",
            instance_from_str=lambda words: parse(words[0], CLASSES),
            is_instance=lambda value: type(value) in CLASSES.values(),
            str_from_instance=lambda value: [spell(value)],
        )

    return registry
