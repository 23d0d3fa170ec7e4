"""No number that is not finite passes: those of every class that a room exports are tried, new ones by themselves."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args, get_origin

import pytest

from mixgrpo_core import TrainConfig
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import PromptConfig
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards import wrappers
from mixgrpo_core.rewards.port import StatelessReward
from mixgrpo_core.settings.config import from_dict
from mixgrpo_core.settings.kinds import REWARDS, SETTINGS, field_types
from mixgrpo_core.support.setting import is_endless, require_finite
from mixgrpo_core.support.spelling import parse
from mixgrpo_core.training.preflight import check


def classes() -> list[type]:
    return [TrainConfig, ModelConfig, PromptConfig, *SETTINGS.by_name().values(), *REWARDS.by_name().values()]


def form(hint: Any, value: float) -> Any:
    """``value`` where a number stands in a field of this type; None where none does."""
    if hint in (int, float):
        return value
    inner = [form(part, value) for part in get_args(hint)]
    found = [one for one in inner if one is not None]
    if not found or get_origin(hint) is None:
        return None
    if get_origin(hint) is tuple:
        return tuple("" if part is str else one for part, one in zip(get_args(hint), inner, strict=True))[:2]
    return {"some": found[-1]} if get_origin(hint) in (dict, Mapping) else found[0]


def numbers() -> Iterator[tuple[type, Any, float, Any]]:
    for cls in dict.fromkeys(classes()):
        hints = field_types(cls)
        for item in fields(cls):
            for value in (math.nan, math.inf, -math.inf):
                shaped = form(hints.get(item.name), value) if item.init else None
                if shaped is not None and not (is_endless(item) and value == math.inf):
                    yield cls, item, value, shaped


def test_there_are_many() -> None:
    found = {(cls.__name__, item.name) for cls, item, _, _ in numbers()}
    assert {("GRPO", "clip"), ("TrainConfig", "spread_floor"), ("Rating", "aspects"), ("Near", "target")} <= found
    assert len(found) > 130


def test_every_number_of_every_setting_is_finite() -> None:
    passed = []
    for cls, item, value, shaped in numbers():
        needed = {
            other.name: None
            for other in fields(cls)
            if other.default is MISSING and other.default_factory is MISSING and other.init
        }
        try:
            cls(**{**needed, item.name: shaped})
        except ValueError as error:
            if str(value) not in str(error) or not (item.name in str(error) or "'some'" in str(error)):
                passed.append(f"{cls.__name__}.{item.name} = {shaped}: {error}")
        else:
            passed.append(f"{cls.__name__}({item.name}={shaped})")
    assert not passed


@dataclass(frozen=True)
class Careless(StatelessReward):
    """A reward of somebody who checks nothing."""

    scale: float = 1.0
    more: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def test_classes_of_others_are_looked_into_wherever_they_come_from() -> None:
    with pytest.raises(ValueError, match="scale must be a finite number, found inf"):
        parse("Careless(scale=1e999)", {"Careless": Careless})
    with pytest.raises(ValueError, match=r"more\['a'\] must be a finite number, found nan"):
        require_finite(Careless(more={"a": (1.0, math.nan)}))
    with pytest.raises(ValueError, match="scale must be a finite number, found nan"):
        check(load_demo(rank=1), ["a red circle"], {"mine": Careless(math.nan)}, TrainConfig(), [])
    with pytest.raises(ValueError, match="scale must be a finite number, found -inf"):
        wrappers.Gated(Careless(-math.inf), Careless(), least=0.0)


def test_infinity_where_it_has_a_meaning() -> None:
    for call in ("GRPO(clip=1e999)", "FlowDPPO(tau=1e999)", "AWM(clip=1e999)"):
        assert parse(call, SETTINGS.by_name()) is not None


def test_models_and_files() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"guidance scale of 1 .* found {value}"):
            load_demo(rank=1, guidance=value)
        with pytest.raises(ValueError, match=f"finite alpha > 0, found rank 1 and alpha {value}"):
            load_demo(rank=1, alpha=value)
        with pytest.raises(ValueError, match=f"weight_decay must be .*, found {value}"):
            from_dict({"weight_decay": value})
