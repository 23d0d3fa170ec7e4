"""A run as the command line knows it: model, prompts, rewards and the training settings; a TOML file or flags.

out = "runs/first"
[model]
folder = "demo"                       # or a local diffusers folder: SD3.5, FLUX, Qwen-Image, Z-Image, ...
[prompts]
train = "prompts.txt"                 # a file with a prompt per line, or a list
[rewards]
shape = "ShapeReward()"
[train]
iterations = 60
kernel = "FlowSDE(eta=0.7)"
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from ..rewards.port import Reward
from ..settings.config import RENAMED, TrainConfig, from_dict
from ..settings.fitted import fitted
from ..settings.kinds import SETTINGS
from ..settings.pictures import require_pictures
from ..settings.presets import PRESETS
from ..settings.prompts import Prompts, read_prompts
from ..settings.values import checked
from ..support.files import read_text
from ..support.pictured import spelled
from ..support.quoting import brief, shown
from ..support.ranks import ALONE, Ranks
from ..support.setting import described, require_ranges, setting
from ..support.spelling import spell, suggest
from . import reward_calls
from .flags import IMPORT_WORDS
from .model_config import ModelConfig
from .trackers import TrackerName

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@described
@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Prompts: a file (.txt, .json, .jsonl, .csv, .tsv), a folder of caption files, or the prompts themselves."""

    train: str | tuple[str, ...] = setting((), "What is trained on.")
    held_out: str | tuple[str, ...] | None = setting(
        None, "What is only evaluated; without any, ``held_out_share`` of ``train`` is taken away for it."
    )
    held_out_share: float = setting(0.1, "Share of the prompts that is held out where ``held_out`` is not given.")

    def __post_init__(self) -> None:
        require_ranges(self)


@described
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything of a run."""

    out: str = setting("runs/mixgrpo", "The run folder; it must not exist yet.")
    model: ModelConfig = setting(make=ModelConfig, help="The model and its LoRA.")
    prompts: PromptConfig = setting(make=PromptConfig, help="What is trained on, and what is held out.")
    rewards: dict[str, str] = setting(
        make=dict, help="Per name a reward, spelled as the call that makes it: ``ShapeReward()``."
    )
    train: TrainConfig = setting(make=TrainConfig, help="How it is trained.")
    tracker: TrackerName | None = setting(
        None, "Draw the run on ``wandb`` or ``trackio`` as well, which you have installed; its own settings hold."
    )

    def make_rewards(self) -> dict[str, Reward]:
        """The reward objects by name."""
        return reward_calls.made(self.rewards)

    def make_prompts(self) -> Prompts:
        """The prompts, split into training and held-out."""
        found = read_prompts(self.prompts.train, self.prompts.held_out, self.prompts.held_out_share)
        require_pictures((*found.train, *found.held_out))
        return found

    def make_model(self, ranks: Ranks = ALONE) -> Any:
        """The model with its LoRA; see `ModelConfig.make`. Imports diffusers, so only here."""
        return self.model.make(ranks)

    def resolution(self) -> tuple[int, int] | None:
        """``(H, W)`` of the images; None is the model's own."""
        return self.model.resolution()

    def setup(self) -> dict[str, Any]:
        """What a resume needs besides the training settings, as JSON values; files of prompts are written out."""
        prompts = self.make_prompts()
        return {
            "model": {**asdict(self.model), "loras": list(self.model.loras)},
            "prompts": {"train": [*map(spelled, prompts.train)], "held_out": [*map(spelled, prompts.held_out)]},
            "rewards": dict(self.rewards),
            **({} if self.tracker is None else {"tracker": self.tracker}),
        }


def read_toml(path: str | Path) -> RunConfig:
    """A run file. Raises ``ValueError`` that names an unknown key and the nearest known one."""
    path = Path(path)
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise ValueError(f"expected a run file at {path}, found nothing: give the path of a .toml file") from error
    except OSError as error:
        raise ValueError(f"cannot read the run file {path} ({error.strerror}): check its rights") from error
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is not a run file: its tables and lists lie in each other too deep") from error
    except ValueError as error:  # numbers of thousands of digits, too
        raise ValueError(f"{path} is not a TOML file: {brief(str(error))}") from error
    return from_values(values)


def from_values(values: Mapping[str, Any]) -> RunConfig:
    """A run from plain values (a TOML file, or the ``setup`` and ``train`` of a run folder).

    ``preset`` names a function of ``mixgrpo_core.settings.presets``; what ``train`` sets is changed in it. With
    ``fitted`` it is made for the model's family first: its steps, window and course, and for ``model`` its guidance and
    size.
    """
    known = {"preset", "fitted", *(item.name for item in fields(RunConfig))}
    for name in values:
        if name not in known:
            raise ValueError(f"unknown table or key {shown(name)}; {suggest(name, known)}")
    preset = values.get("preset")
    if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
        raise ValueError(f"unknown preset {shown(preset)}; {suggest(str(preset), PRESETS)}")
    base = PRESETS[preset]() if preset else None
    model = ModelConfig(**_table("model", ModelConfig, values))
    if checked("fitted", bool, values.get("fitted", False)):
        facts = model.facts()
        base = fitted(base or TrainConfig(), facts)
        model = model.fitted(facts, values.get("model", {}))
    plain = {"out": str, "rewards": dict[str, str], "tracker": TrackerName | None}
    return RunConfig(
        **{name: checked(name, hint, values[name]) for name, hint in plain.items() if name in values},
        model=model,
        prompts=PromptConfig(**_table("prompts", PromptConfig, values)),
        train=from_dict(values.get("train", {}), base),
    )


def _table(name: str, cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The checked settings of one table."""
    hints = get_type_hints(cls)
    table = checked(name, Mapping[str, Any], values.get(name, {}))
    for key in table:
        if key not in hints:
            raise ValueError(f"unknown setting {name}.{brief(key)}; {suggest(key, hints)}")
    return {key: checked(f"{name}.{key}", hints[key], value) for key, value in table.items()}


def parse_flags(default: RunConfig, arguments: Sequence[str], prog: str, description: str) -> RunConfig:
    """Flags over a run: ``--train.iterations 50 --train.kernel 'DanceSDE(eta=0.3)'``; older names are read, too."""
    arguments = [_present(word) for word in arguments]
    return tyro.cli(
        RunConfig,
        default=default,
        args=arguments,
        prog=prog,
        description=f"{description} {IMPORT_WORDS}",
        registry=calls_as_flags(),
    )


def _present(word: str) -> str:
    """A flag by its present name."""
    flag, equals, value = word.partition("=")
    older = {f"--train.{old}": f"--train.{new}" for old, new in RENAMED.items()}
    return f"{older[flag]}{equals}{value}" if flag in older else word


def calls_as_flags() -> tyro.constructors.ConstructorRegistry:
    """Objects as flags: the call that makes them."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def by_call(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type not in SETTINGS.ports:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="CALL",
            instance_from_str=lambda words: checked("it", info.type, words[0]),
            is_instance=lambda value: type(value) in SETTINGS.of(info.type),
            str_from_instance=lambda value: [spell(value)],
        )

    @registry.primitive_rule
    def by_calls(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        item, *rest = get_args(info.type) or (None,)
        if get_origin(info.type) is not tuple or item not in SETTINGS.ports or rest != [Ellipsis]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="[CALL [CALL ...]]",
            instance_from_str=lambda words: checked("it", info.type, tuple(words)),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [spell(one) for one in value],
        )

    return registry
