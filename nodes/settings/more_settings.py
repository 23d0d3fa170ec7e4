"""Settings as text: one on a line, as in the [train] table of a run file."""

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.settings.config import RENAMED
from ...mixgrpo_core.settings.values import checked
from ...mixgrpo_core.support.spelling import suggest

_HINTS = get_type_hints(TrainConfig)
_KEY = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)")


@dataclass(frozen=True)
class Line:
    """A setting that was written: its line, counted from 1, its name, and its value as the setting holds it."""

    number: int
    name: str
    value: Any


def read_settings(text: str, elsewhere: Collection[str]) -> list[Line]:
    """The settings of ``text``.

    Args:
        elsewhere: settings that have an input of their own.

    Raises:
        ValueError: names the line that cannot be read.
    """
    lines: list[Line] = []
    for number, words in enumerate(text.splitlines(), 1):
        if not words.strip() or words.strip().startswith("#"):
            continue
        try:
            lines.append(_line(number, words.strip(), elsewhere, {line.name for line in lines}))
        except ValueError as error:
            raise ValueError(f"line {number} of more_settings: {error}") from error
    return lines


def with_settings(config: TrainConfig, lines: Collection[Line]) -> TrainConfig:
    """The config with all of ``lines``. Raises ``ValueError`` that names the line which does not fit."""
    try:
        return replace(config, **{line.name: line.value for line in lines})
    except ValueError as error:
        raise ValueError(f"{_culprit(config, lines)} of more_settings: {error}") from error


def _culprit(config: TrainConfig, lines: Collection[Line]) -> str:
    """The line without which the others fit; all of them when it takes more than one."""
    for line in lines:
        try:
            replace(config, **{other.name: other.value for other in lines if other is not line})
        except ValueError:
            continue
        return f"line {line.number}"
    return f"lines {', '.join(str(line.number) for line in lines)}"


def _line(number: int, words: str, elsewhere: Collection[str], before: Collection[str]) -> Line:
    found = _KEY.match(words)
    if not found:
        raise ValueError(f'expected a setting such as credit = "WeightedRewards()", found {words!r}')
    name = RENAMED.get(found[1], found[1])
    if name == "reward_weights":
        raise ValueError("reward_weights: the weights are inputs of the reward nodes")
    if name not in _HINTS:
        raise ValueError(f"unknown setting {name!r}; {suggest(name, _HINTS)}")
    if name in elsewhere:
        raise ValueError(f"{name} has an input of its own: set it there")
    if name in before:
        raise ValueError(f"{name} is set twice: take one out")
    return Line(number, name, checked(name, _HINTS[name], _value(words[found.end() :].strip())))


def _value(words: str) -> Any:
    """A literal as TOML or Python writes it: numbers, true, text in quotes, lists, {name = number}."""
    try:
        return _literal(ast.parse(words, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass
    if words.startswith("{") and words.endswith("}"):
        try:
            return _table(ast.parse(f"dict({words[1:-1]})", mode="eval").body)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            pass
    raise ValueError(
        f'expected a number, true, false, a list or a call in quotes such as "GRPO(kl=0.001)", found {words}'
    )


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return node.id == "true"
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _table(node: ast.expr) -> Mapping[str, Any]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError
    return {str(item.arg): _literal(item.value) for item in node.keywords}
