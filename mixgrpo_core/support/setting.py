"""Settings that describe themselves: a field of a dataclass says its help, its range, and whether it may change.

Everything that shows or checks a setting reads it from there: the class's docstring and with it the command line's
help, the ranges that are enforced, the inputs of the canvas, and the tables of the documentation.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from .quoting import brief, shown

T = TypeVar("T")
_KEY = "setting"
_BEYOND = 2**63
"""Whole numbers that no tensor takes, though every float is larger still; seeds have fields of their own."""
ENDLESS: Mapping[str, bool] = MappingProxyType({"endless": True})
"""Metadata of a field in which infinity has a meaning: a threshold that nothing passes."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of a setting.

    Attributes:
        help: what it is, in sentences.
        least, above, below: its range; None is no bound.
        such_as: a usual value, for errors.
        besides: a value out of the range that has a meaning of its own.
        why: the reason for the range, for errors.
        may_change: a run may be gone on with another value.
        each: what an entry of a table of numbers is called, with ``{}`` for its name.
    """

    help: str
    least: float | None = None
    above: float | None = None
    below: float | None = None
    besides: float | str | None = None
    such_as: str = ""
    why: str = ""
    may_change: bool = False
    each: str = ""

    def holds(self, value: float | str) -> bool:
        """Whether ``value`` is in the range, or the one besides it; NaN fails every comparison."""
        if self.besides is not None and value == self.besides:
            return True
        return not isinstance(value, str) and (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    @property
    def range(self) -> str:
        """The range in words; empty where there is none."""
        least = "0 or more" if self.least == 0 else "at least {:g}"
        bounds = ((self.least, least), (self.above, "above {:g}"), (self.below, "below {:g}"))
        words = " and ".join(words.format(bound) for bound, words in bounds if bound is not None)
        if self.besides is not None:
            words += f", or {self.besides}" if isinstance(self.besides, str) else f", or {self.besides:g}"
        return f"{words}, such as {self.such_as}" if self.such_as else words


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    make: Callable[[], Any] | None = None,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    besides: float | str | None = None,
    such_as: str = "",
    why: str = "",
    may_change: bool = False,
    each: str = "",
) -> Any:
    """A dataclass field that is a `Setting`; ``make`` makes a default that can be changed."""
    told = Setting(
        help=help,
        least=least,
        above=above,
        below=below,
        besides=besides,
        such_as=such_as,
        why=why,
        may_change=may_change,
        each=each,
    )
    if make is not None:
        return field(default_factory=make, metadata={_KEY: told})
    return field(default=default, metadata={_KEY: told})


def setting_of(item: Field[Any]) -> Setting:
    """What a field says of itself."""
    made: Setting = item.metadata[_KEY]
    return made


def settings_of(cls: type) -> Iterator[tuple[str, Setting]]:
    """Name and description of every setting of a dataclass."""
    return ((item.name, setting_of(item)) for item in fields(cls) if _KEY in item.metadata)


def fields_of(made: object) -> tuple[Field[Any], ...]:
    """The fields of an object of settings, or of its class. Raises ``ValueError`` for what is no dataclass."""
    if not is_dataclass(made):
        raise ValueError(f"expected a dataclass of settings, found {made!r}")
    return fields(made)


def changed(made: T, changes: Mapping[str, Any]) -> T:
    """An object of settings with some of them changed. Raises ``ValueError`` for what is no dataclass."""
    if not is_dataclass(made) or isinstance(made, type):
        raise ValueError(f"expected an object of settings, found {made!r}")
    return replace(made, **changes)


def described(cls: type[T]) -> type[T]:
    """Writes the settings of a dataclass into its docstring, where Python's and the command line's help look."""
    lines = [f"    {name}: {told.help}" for name, told in settings_of(cls)]
    cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", "Attributes:", *lines])
    return cls


def require_ranges(made: Any) -> None:
    """Raise ``ValueError`` for a number of a dataclass of settings that is out of its range, or is not finite.

    None is "not set".
    """
    for name, told in settings_of(type(made)):
        value = getattr(made, name)
        if isinstance(value, Mapping):
            for entry, number in value.items():
                if not (_is_finite(number) and told.holds(number)):
                    raise ValueError(
                        _refusal(told.each.format(shown(entry)), f"a finite number of {told.range}", told, number)
                    )
        elif told.range and value is not None and not told.holds(value):
            raise ValueError(_refusal(name, told.range, told, value))
    require_finite(made)


def require_finite(made: Any) -> None:
    """Raise ``ValueError`` for a number in a dataclass of settings, or in settings inside of it, that is not finite.

    A class of settings calls it in its ``__post_init__``: no other check of a range refuses both. Fields whose metadata
    are ``ENDLESS`` may be infinity.
    """
    for item in fields(made):
        value = getattr(made, item.name, None)
        _require_finite(item.name, value, endless=is_endless(item))
        if isinstance(value, int) and abs(value) >= _BEYOND and "float" in str(item.type):
            raise ValueError(f"{item.name} is a whole number of more than 64 bits, {brief(str(value))}: write 1e30")


def is_endless(item: Field[Any]) -> bool:
    """Whether infinity has a meaning in a field."""
    return item.metadata == ENDLESS


def require_number(name: str, value: float) -> None:
    """Raise ``ValueError`` unless a number is finite."""
    if not _is_finite(value):
        raise ValueError(f"{name} must be a finite number, found {brief(str(value))}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _require_finite(name: str, value: object, *, endless: bool = False) -> None:
    if isinstance(value, int | float):
        require_number(name, 0.0 if endless and value == math.inf else value)
    elif isinstance(value, list | tuple):
        for entry in value:
            _require_finite(name, entry, endless=endless)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _require_finite(f"{name}[{key!r}]", entry)
    elif is_dataclass(value) and not isinstance(value, type):
        require_finite(value)


def _refusal(name: str, expected: str, told: Setting, value: float) -> str:
    return f"{name} must be {expected}, found {brief(str(value))}" + (f": {told.why}" if told.why else "")
